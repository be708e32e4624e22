"""What the UI is told: materializations of tracks, metadata of artifacts, observations while training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.definitions import data_version as versions

from melodygan_dagster.partitions import PER_TRACK
from melodygan_dagster.resources import StoreResource

if TYPE_CHECKING:
    from melodygan_core.parallel import Report
    from melodygan_core.storage.store import Artifact, Store


FAILED = "failed"
NAMED = 10
SHOWN_ROWS = 50


def image(store: StoreResource, name: str, render: Callable[[], bytes]) -> dg.MarkdownMetadataValue:
    """A picture that the UI shows inline: a file of the store, which `melodygan ui` serves.

    Embedded in the metadata it would be hidden behind "Show Markdown", as is everything above 1,000 characters.

    Args:
        store: Keeps it.
        name: Of the picture in the store, without the suffix; what is there is not rendered again.
        render: Makes the PNG.
    """
    core_store = store.open()
    path = core_store.picture(name)
    if not path.exists():
        with core_store.writing(path) as temporary:
            temporary.write_bytes(render())
    return dg.MetadataValue.md(f"![picture]({store.url(core_store.uri(path)).url})")


def every_track(asset: str) -> dg.AssetCheckSpec:
    """The check of a per-track asset that names the tracks of its last run that failed.

    It blocks nothing: in a run over many tracks a blocking one would hold back those that went well.
    """
    return dg.AssetCheckSpec("every_track", asset=asset, description="No track of the last run failed.")


def tracks(
    context: dg.AssetExecutionContext,
    report: Report,
    describe: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> Iterator[dg.AssetCheckResult]:
    """Records every track that went well, then fails the run naming those that did not.

    The events are logged one by one, not returned, because a run of fifty tracks may end well for forty-nine.
    The assets have `output_required=False` for that reason, and this yields the check only.

    Args:
        context: Of the asset.
        report: What the core says of each track.
        describe: Turns the core's metadata of a track into Dagster's; its `sha256` is the data version.
    """
    for outcome in report.good:
        metadata = describe(dict(outcome.metadata))
        context.log_event(
            dg.AssetMaterialization(
                context.asset_key,
                partition=outcome.track_id,
                metadata={**metadata, "computed": not outcome.skipped, "seconds": round(outcome.duration_s, 2)},
                tags=_provenance(context, outcome.track_id, str(metadata["sha256"])),
            )
        )
    context.log.info(f"{len(report.computed)} computed, {len(report.good) - len(report.computed)} were there")
    rows = [{"track": o.track_id, "reason": o.error, "permanent": o.permanent} for o in report.failed]
    yield dg.AssetCheckResult(
        passed=not rows,
        check_name="every_track",
        metadata={"tracks": len(report.outcomes), FAILED: table(rows)},
    )
    if report.failed:
        shown = "\n".join(f"{o.track_id}: {o.error}" for o in report.failed[:NAMED])
        raise dg.Failure(
            description=f"{len(report.failed)} of {len(report.outcomes)} tracks failed:\n{shown}",
            metadata={FAILED: table(rows)},
            # Transient errors have been tried again by the core, track by track.
            allow_retries=False,
        )


def _provenance(context: dg.AssetExecutionContext, track_id: str, version: str) -> dict[str, str]:
    """The tags that Dagster gives to what is returned: what a logged event was made by, and of what."""
    tags = {
        versions.DATA_VERSION_TAG: version,
        versions.DATA_VERSION_IS_USER_PROVIDED_TAG: "true",
        versions.CODE_VERSION_TAG: context.assets_def.code_versions_by_key[context.asset_key] or "",
    }
    for dep in context.assets_def.asset_deps[context.asset_key]:
        partition = track_id if dep.to_user_string() in PER_TRACK else None
        record = context.instance.get_latest_data_version_record(dep, partition_key=partition)
        if record is not None:
            made = versions.extract_data_version_from_entry(record.event_log_entry)
            tags[versions.get_input_data_version_tag(dep)] = (made or versions.DEFAULT_DATA_VERSION).value
            tags[versions.get_input_event_pointer_tag(dep)] = str(record.storage_id)
    return tags


def scalars(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of an artifact that are single numbers, strings or truth values."""
    return {k: v for k, v in metrics.items() if isinstance(v, bool | int | float | str)}


def file(store: Store, uri: str, sha256: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    """What a track's file or folder is: its figures, where it lies, its size and hash.

    Args:
        store: Where it lies.
        uri: Relative to the store's root.
        sha256: Of its content; the data version of the track.
        figures: What the core says of it, `bytes` among it.
    """
    return {
        **scalars({k: v for k, v in figures.items() if k != "bytes"}),
        "dagster/uri": str(store.at(uri)),
        "dagster/size_bytes": figures["bytes"],
        "sha256": sha256,
    }


def table(rows: list[dict[str, Any]]) -> dg.MetadataValue:
    """Rows of plain values as a table; missing values are empty. No rows are `none`."""
    if not rows:
        return dg.MetadataValue.text("none")
    columns = list(dict.fromkeys(k for row in rows for k in row))
    clean = [{c: _cell(row.get(c)) for c in columns} for row in rows]
    return dg.MetadataValue.table([dg.TableRecord(row) for row in clean])


def shown(rows: list[dict[str, Any]]) -> dg.MetadataValue:
    """The first rows of what may be thousands: every event carries its tables through Dagster's database."""
    return table(rows[:SHOWN_ROWS])


def _cell(value: Any) -> str | int | float | bool:
    if isinstance(value, float):
        return round(value, 4)
    return value if isinstance(value, bool | int | str) else ""


def artifact(
    made: Artifact, store: StoreResource, metadata: Mapping[str, Any] | None = None, **results: Any
) -> dg.MaterializeResult:
    """The result of an unpartitioned asset: its record, where it lies, its figures.

    Args:
        made: What the core returned.
        store: Where it lies.
        metadata: More to show, pictures first.
        results: `check_results`, if any.
    """
    shown = {
        **(metadata or {}),
        **scalars(made.metrics),
        "dagster/uri": str(store.open().at(made.uri)),
        "dagster/size_bytes": made.bytes,
        "version": made.version,
        "sha256": made.sha256,
    }
    return dg.MaterializeResult(
        value=made, metadata=shown, data_version=dg.DataVersion(made.version), **results
    )


def observer(context: dg.AssetExecutionContext) -> Callable[[int, dict[str, float]], None]:
    """A MetricsCallback that puts a training's figures under Plots while it trains."""

    def observe(step: int, figures: dict[str, float]) -> None:
        context.log_event(dg.AssetObservation(context.asset_key, metadata={"step": step, **figures}))

    return observe
