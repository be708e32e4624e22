"""Runs the whole graph in this process, stage by stage: what `melodygan run` and `melodygan demo` do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import dagster as dg
from dagster._utils.error import SerializableErrorInfo

from melodygan_dagster import dead_runs, track_scheduling
from melodygan_dagster.deployment import Deployment
from melodygan_dagster.partitions import PER_TRACK
from melodygan_dagster.reporting import FAILED

# By this tag the UI knows whose job a run is of; runs that it starts itself have it, too.
REPOSITORY = {".dagster/repository": "__repository__@melodygan"}


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
        if check.blocking and not check.passed and check.description:
            reasons.append(f"{check.check_name}: {check.description}")
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


def _execute(
    job: dg.JobDefinition, instance: dg.DagsterInstance, tags: dict[str, str] | None = None
) -> StageResult:
    started = time.monotonic()
    # The console shows progress bars and each stage's result; Dagster's own log is in the UI.
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    result = job.execute_in_process(
        run_config=quiet,
        instance=instance,
        raise_on_error=False,
        tags=REPOSITORY | dead_runs.host_tag() | (tags or {}),
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

        # What an earlier one left behind when it was killed.
        dead_runs.report(instance, dead_runs.find(instance))
        definitions, settings = defs(), deployed_settings()
        yield (first := _execute(definitions.resolve_job_def("catalogue_job"), instance))
        if not first.success:
            return
        for stage in PER_TRACK:
            job = definitions.resolve_job_def(f"{stage}_job")
            for batch in track_scheduling.pending(
                instance, stage, track_scheduling.made(deployment.opened, settings)
            ):
                yield _execute(job, instance, batch.tags)
        for name in ("dataset_job", "training_job"):
            result = _execute(definitions.resolve_job_def(name), instance)
            yield result
            if not result.success:
                return
