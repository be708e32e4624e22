"""Runs the whole graph in this process, stage by stage: what `melodygan run` and `melodygan demo` do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import dagster as dg

from melodygan_dagster.deployment import Deployment
from melodygan_dagster.partitions import TRACKS, TRACKS_PER_RUN

PER_TRACK = ("raw_wav", "stems", "features")
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


@dataclass(frozen=True)
class StageResult:
    """What one stage came to.

    Attributes:
        job: Of the stage.
        success: Whether every track or asset of it went well.
        reason: Why not; empty when it did.
        failed: Track to reason.
        duration_s: Wall time.
    """

    job: str
    success: bool
    reason: str
    failed: dict[str, str]
    duration_s: float


def _failure(result: dg.ExecuteInProcessResult) -> tuple[str, dict[str, str]]:
    failed: dict[str, str] = {}
    reasons = []
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            user = data.user_failure_data
            reasons.append(
                (user.description if user else None) or (data.error.message if data.error else "failed")
            )
            records = user.metadata.get("failed") if user and user.metadata else None
            if isinstance(records, dg.TableMetadataValue):
                failed |= {str(r.data["track"]): str(r.data["reason"]) for r in records.records}
    for check in result.get_asset_check_evaluations():
        if not check.passed and check.severity == dg.AssetCheckSeverity.ERROR:
            reasons.append(f"check {check.check_name} of {check.asset_key.to_user_string()} failed")
    return "; ".join(str(r).strip() for r in reasons), failed


def _missing_ranges(instance: dg.DagsterInstance, asset: str) -> Iterator[tuple[str, str]]:
    """First and last key of stretches of tracks that the asset has not been made for, a run's worth each."""
    keys = list(instance.get_dynamic_partitions(TRACKS))
    there = instance.get_materialized_partitions(dg.AssetKey(asset))
    stretch: list[str] = []
    for key in [*keys, None]:
        if key is not None and key not in there:
            stretch.append(key)
        if stretch and (key is None or key in there or len(stretch) == TRACKS_PER_RUN):
            yield stretch[0], stretch[-1]
            stretch = []


def _execute(
    job: dg.JobDefinition, instance: dg.DagsterInstance, tags: dict[str, str] | None = None
) -> StageResult:
    started = time.monotonic()
    # The console shows progress bars and each stage's result; Dagster's own log is in the UI.
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    result = job.execute_in_process(run_config=quiet, instance=instance, raise_on_error=False, tags=tags)
    reason, failed = _failure(result)
    return StageResult(job.name, result.success, reason, failed, time.monotonic() - started)


def run(deployment: Deployment) -> Iterator[StageResult]:
    """Materializes the whole graph and yields each stage's result as it ends.

    A track that fails is named and the others go on; a stage that fails as a whole ends the run.
    """
    with deployment.instance() as instance:
        # Imported when the environment is set: defaults of the training assets are the preset's.
        from melodygan_dagster.definitions import defs

        definitions = defs()
        yield (first := _execute(definitions.resolve_job_def("catalogue_job"), instance))
        if not first.success:
            return
        for asset in PER_TRACK:
            job = definitions.resolve_job_def(f"{asset}_job")
            for start, end in list(_missing_ranges(instance, asset)):
                yield _execute(job, instance, {RANGE_START: start, RANGE_END: end})
        for name in ("dataset_job", "dense_job"):
            result = _execute(definitions.resolve_job_def(name), instance)
            yield result
            if not result.success:
                return
