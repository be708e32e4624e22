"""Runs the whole graph in this process, stage by stage: what `melodygan run` and `melodygan demo` do."""

from __future__ import annotations

import time
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg
from dagster._utils.error import SerializableErrorInfo

from melodygan_dagster.deployment import Deployment
from melodygan_dagster.partitions import PER_TRACK, TRACKS, TRACKS_PER_RUN
from melodygan_dagster.reporting import FAILED

if TYPE_CHECKING:
    from melodygan_core.store import Store
    from melodygan_dagster.resources import Settings

# By this tag the UI knows whose job a run is of; runs that it starts itself have it, too.
REPOSITORY = {".dagster/repository": "__repository__@melodygan"}

RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


@dataclass(frozen=True)
class StageResult:
    """What one stage came to.

    Attributes:
        job: Of the stage.
        success: Whether every track or asset of it went well.
        reason: Why not; empty when it did.
        failed: Track or source to reason.
        duration_s: Wall time.
    """

    job: str
    success: bool
    reason: str
    failed: dict[str, str]
    duration_s: float


def failure_of(result: dg.ExecuteInProcessResult) -> tuple[str, dict[str, str]]:
    """Why a run failed, in the words of whoever raised it; and which tracks or sources did, with reasons."""
    failed: dict[str, str] = {}
    reasons = []
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            user = data.user_failure_data
            reasons.append((user.description if user else None) or _sentence(data.error))
    for check in result.get_asset_check_evaluations():
        records = check.metadata.get(FAILED)
        if isinstance(records, dg.TableMetadataValue):
            rows = [r.data for r in records.records]
            failed |= {str(row.get("track") or row["source"]): str(row["reason"]) for row in rows}
    return "; ".join(reasons), failed


def _sentence(error: SerializableErrorInfo | None) -> str:
    """What the error that was raised says: Dagster wraps it in "Error occurred while executing op"."""
    if error is None:
        return "failed"
    # Only Dagster's own wrappers: a cause further down is a detail of what our error says.
    while error.cause is not None and (error.cls_name or "").startswith("Dagster"):
        error = error.cause
    # `module.Class: message`; these classes say nothing that the message does not.
    message = error.message.strip()
    known = message.startswith("melodygan_core.errors.") or error.cls_name == "DagsterAssetCheckFailedError"
    return message.partition(": ")[2] if known else message


def _there(store: Store, settings: Settings) -> dict[str, set[str]]:
    """Which tracks each per-track stage has been made for with the deployment's config: the store knows."""
    from melodygan_core.features import feature_id

    config = settings.separation()
    raw, table = store.raw_json(""), store.features(feature_id(settings.features(), config), "")
    folders = {
        "raw_wav": (raw.parent, "*.json"),
        "stems": (store.stems(config.model_id, ""), "*/stems.json"),
        "features": (table.parent, "*.parquet"),
    }
    return {
        stage: {p.parent.name if "/" in pattern else p.stem for p in folder.glob(pattern)}
        if folder.exists()
        else set()
        for stage, (folder, pattern) in folders.items()
    }


def _ranges(keys: Sequence[str], wanted: Container[str]) -> Iterator[tuple[str, str]]:
    """First and last key of each stretch of neighbouring keys that are wanted, a run's worth each."""
    stretch: list[str] = []
    for key in [*keys, None]:
        if key is not None and key in wanted:
            stretch.append(key)
        if stretch and (key is None or key not in wanted or len(stretch) == TRACKS_PER_RUN):
            yield stretch[0], stretch[-1]
            stretch = []


def _todo(
    instance: dg.DagsterInstance, stage: str, store: Store, settings: Settings
) -> Iterator[tuple[str, str]]:
    """Ranges of tracks that a stage is to be run for: new ones, and those whose artifact is not in the store.

    A track without its upstream is left out: it has been named as failed by the stage that did not make it.
    """
    keys = list(instance.get_dynamic_partitions(TRACKS))
    there = _there(store, settings)
    known = instance.get_materialized_partitions(dg.AssetKey(stage))
    before = PER_TRACK.index(stage) - 1
    possible = set(keys) if before < 0 else there[PER_TRACK[before]]
    return _ranges(keys, possible - (there[stage] & known))


def _execute(
    job: dg.JobDefinition, instance: dg.DagsterInstance, tags: dict[str, str] | None = None
) -> StageResult:
    started = time.monotonic()
    # The console shows progress bars and each stage's result; Dagster's own log is in the UI.
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    result = job.execute_in_process(
        run_config=quiet, instance=instance, raise_on_error=False, tags=REPOSITORY | (tags or {})
    )
    reason, failed = failure_of(result)
    return StageResult(job.name, result.success, reason, failed, time.monotonic() - started)


def run(deployment: Deployment) -> Iterator[StageResult]:
    """Materializes the whole graph and yields each stage's result as it ends.

    A track that fails is named and the others go on; a stage that fails as a whole ends the run.
    """
    with deployment.instance() as instance:
        # Imported when the environment is set: defaults of the training assets are the preset's.
        from melodygan_dagster.definitions import defs
        from melodygan_dagster.resources import deployed_settings

        definitions, settings = defs(), deployed_settings()
        yield (first := _execute(definitions.resolve_job_def("catalogue_job"), instance))
        if not first.success:
            return
        for stage in PER_TRACK:
            job = definitions.resolve_job_def(f"{stage}_job")
            for start, end in _todo(instance, stage, deployment.opened, settings):
                yield _execute(job, instance, {RANGE_START: start, RANGE_END: end})
        for name in ("dataset_job", "dense_job"):
            result = _execute(definitions.resolve_job_def(name), instance)
            yield result
            if not result.success:
                return
