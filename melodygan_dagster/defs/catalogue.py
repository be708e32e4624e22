"""sources -> catalogue: which tracks there are."""

import dagster as dg

from melodygan_core.config import VERSIONS
from melodygan_dagster import reporting, track_scheduling
from melodygan_dagster.conditions import NIGHTLY
from melodygan_dagster.partitions import TRACKS
from melodygan_dagster.resources import OWNER, Settings, StoreResource

SHOWN_ROWS = 50

sources = dg.AssetSpec(
    "sources",
    description="`sources.yaml`: URLs of tracks, playlists, channels and feeds, and paths of one's own audio.",
    group_name="ingest",
    kinds={"yaml"},
    owners=[OWNER],
)


@dg.asset(
    deps=[sources],
    group_name="ingest",
    kinds={"parquet", "python"},
    owners=[OWNER],
    code_version=VERSIONS["catalogue"],
    freshness_policy=NIGHTLY,
    pool="catalogue",
    check_specs=[dg.AssetCheckSpec("sources_reached", asset="catalogue", description="Every source answered.")],
)
def catalogue(
    context: dg.AssetExecutionContext, store: StoreResource, settings: Settings
) -> dg.MaterializeResult:
    """One row a track of all sources, expanded without downloading; new tracks become partitions.

    A source that is down keeps its rows and is named; the others go on.
    """
    from melodygan_core import catalogue as core
    from melodygan_core.config import config_id

    core_store = store.open()
    report = core.expand(settings.sources_file, core_store, settings.catalogue())
    keys = [t.track_id for t in report.tracks]
    known = set(context.instance.get_dynamic_partitions(TRACKS))
    new = [k for k in keys if k not in known]
    # The table is written first: a key without a row would be a track that nobody can fetch.
    context.instance.add_dynamic_partitions(TRACKS, new)
    rows = [
        {"title": t.title, "licence": t.licence, "rights": t.rights, "url": t.url, "track_id": t.track_id}
        for t in report.tracks[-SHOWN_ROWS:]
    ]
    failed = [{"source": s, "reason": r} for s, r in report.failed_sources.items()]
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(keys),
            "new_tracks": len(new),
            "forgotten_tracks": report.forgotten,
            "failed_sources": reporting.table(failed),
            "latest": reporting.table(rows),
            "failed_tracks": reporting.shown(track_scheduling.failures(context.instance, core_store, settings)),
            "dagster/uri": str(core_store.catalogue()),
        },
        data_version=dg.DataVersion(
            config_id([[k, t.rights] for k, t in zip(keys, report.tracks, strict=True)])
        ),
        check_results=[
            dg.AssetCheckResult(
                passed=not failed,
                check_name="sources_reached",
                severity=dg.AssetCheckSeverity.WARN,
                metadata={"failed": reporting.table(failed)},
            )
        ],
    )
