"""Sources to tracks: the external asset `sources` and the asset `catalogue`."""

import dagster as dg

from melodygan_core.config import VERSIONS
from melodygan_dagster import reporting, track_scheduling
from melodygan_dagster.conditions import NIGHTLY
from melodygan_dagster.partitions import TRACKS, keys_by_track, partition_key
from melodygan_dagster.resources import OWNER, Settings, StoreResource

# `source_versions.py` records the versions of this asset.
sources = dg.AssetSpec(
    "sources",
    description="`sources.yaml`: URLs of tracks, playlists, channels and feeds, and paths of your own audio.",
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
    """One row per track of all sources, listed without downloading; new tracks become partitions.

    A source that does not answer keeps its rows and is reported; the rest continue.
    """
    from melodygan_core import catalogue as core
    from melodygan_core.config import config_id

    core_store = store.open()
    with reporting.one_sentence_errors():
        report = core.expand(settings.sources_file, core_store, settings.catalogue())
    keys = [t.track_id for t in report.tracks]
    known = keys_by_track(context.instance.get_dynamic_partitions(TRACKS))
    new = [partition_key(t.track_id, t.title) for t in report.tracks if t.track_id not in known]
    # After the table is written: a key without a row would be a track that nobody can download.
    context.instance.add_dynamic_partitions(TRACKS, new)
    latest = [
        {"title": t.title, "licence": t.licence, "rights": t.rights, "url": t.url, "track_id": t.track_id}
        for t in report.tracks[-reporting.SHOWN_ROWS :]
    ]
    failed_sources = reporting.table([{"source": s, "reason": r} for s, r in report.failed_sources.items()])
    failed_tracks = track_scheduling.failures(context.instance, core_store, settings)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(keys),
            "new_tracks": len(new),
            "forgotten_tracks": report.forgotten,
            "failed_sources": failed_sources,
            "latest": reporting.table(latest),
            "failed_tracks": reporting.first_rows(failed_tracks),
            "dagster/uri": str(core_store.catalogue()),
        },
        data_version=dg.DataVersion(
            config_id([[k, t.rights] for k, t in zip(keys, report.tracks, strict=True)])
        ),
        check_results=[
            dg.AssetCheckResult(
                passed=not report.failed_sources,
                check_name="sources_reached",
                severity=dg.AssetCheckSeverity.WARN,
                metadata={reporting.FAILED: failed_sources},
            )
        ],
    )
