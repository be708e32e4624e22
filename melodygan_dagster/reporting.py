"""What the UI is told: materializations of tracks, metadata of artifacts, observations while training."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from melodygan_dagster.resources import StoreResource

if TYPE_CHECKING:
    from melodygan_core.parallel import Report
    from melodygan_core.store import Artifact


def image(png: bytes) -> dg.MarkdownMetadataValue:
    """A picture that the UI shows inline."""
    return dg.MetadataValue.md(f"![picture](data:image/png;base64,{base64.b64encode(png).decode()})")


def tracks(
    context: dg.AssetExecutionContext,
    report: Report,
    describe: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> Iterator[dg.Output]:
    """Records every track that went well, then fails the run naming those that did not.

    The events are logged one by one, not returned, because a run of fifty tracks may end well for forty-nine.
    The assets have `output_required=False` for that reason, and this yields nothing.

    Args:
        context: Of the asset.
        report: What the core says of each track.
        describe: Turns the core's metadata of a track into Dagster's.
    """
    for outcome in report.good:
        metadata = {**describe(outcome.metadata), "duration_compute_s": round(outcome.duration_s, 2)}
        version = str(outcome.metadata.get("sha256", ""))
        context.log_event(
            dg.AssetMaterialization(
                context.asset_key,
                partition=outcome.track_id,
                metadata={**metadata, "computed": not outcome.skipped},
                tags={DATA_VERSION_TAG: version} if version else {},
            )
        )
    context.log.info(f"{len(report.computed)} computed, {len(report.good) - len(report.computed)} were there")
    if report.failed:
        names = ", ".join(o.track_id for o in report.failed[:10])
        raise dg.Failure(
            description=f"{len(report.failed)} of {len(report.outcomes)} tracks failed: {names}",
            metadata={
                "failed": dg.MetadataValue.table(
                    [
                        dg.TableRecord({"track": o.track_id, "reason": o.error, "permanent": o.permanent})
                        for o in report.failed
                    ]
                )
            },
            allow_retries=False,
        )
    yield from ()


def scalars(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of an artifact that are single numbers, strings or truth values."""
    return {k: v for k, v in metrics.items() if isinstance(v, bool | int | float | str)}


def table(rows: list[dict[str, Any]]) -> dg.TableMetadataValue:
    """Rows of plain values as a table; missing values are empty."""
    columns = list(dict.fromkeys(k for row in rows for k in row))
    clean = [{c: _cell(row.get(c)) for c in columns} for row in rows]
    return dg.MetadataValue.table([dg.TableRecord(row) for row in clean])


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
    """An Observer that puts a training's figures under Plots while it trains."""

    def observe(step: int, figures: dict[str, float]) -> None:
        context.log_event(dg.AssetObservation(context.asset_key, metadata={"step": step, **figures}))

    return observe
