"""Runs the whole graph in this process, job by job: `melodygan run` and `melodygan demo`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import dagster as dg

from melodygan_dagster import dead_runs, private, source_versions, track_scheduling
from melodygan_dagster.database import database_errors
from melodygan_dagster.deployment import Deployment
from melodygan_dagster.partitions import PER_TRACK
from melodygan_dagster.reporting import FAILED

# The UI lists runs with this tag under their job; the runs that it starts itself have it, too.
REPOSITORY = {private.REPOSITORY: "__repository__@melodygan"}


@dataclass(frozen=True)
class StageResult:
    """The outcome of one job.

    Attributes:
        job: Name of the job.
        success: Whether every track or asset of the job succeeded.
        reason: Why not; empty on success.
        failed: Track or source to reason.
        duration_s: Wall time in seconds.
    """

    job: str
    success: bool
    reason: str
    failed: dict[str, str]
    duration_s: float


def failure_of(result: dg.ExecuteInProcessResult) -> tuple[str, dict[str, str]]:
    """Returns why a run failed, as one text, and the reasons of its failed tracks or sources."""
    failed: dict[str, str] = {}
    reasons = [private.failure_reason(event) for event in result.all_events if event.is_step_failure]
    for check in result.get_asset_check_evaluations():
        if check.blocking and not check.passed and check.description:
            reasons.append(f"{check.check_name}: {check.description}")
        records = check.metadata.get(FAILED)
        if isinstance(records, dg.TableMetadataValue):
            rows = [r.data for r in records.records]
            failed |= {str(row.get("track") or row["source"]): str(row["reason"]) for row in rows}
    return "; ".join(reasons), failed


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
    # Dagster turns Ctrl+C and SIGTERM into a failed step; the jobs that follow would start all the same.
    if any(private.is_interrupted(event) for event in result.all_events if event.is_step_failure):
        raise KeyboardInterrupt
    reason, failed = failure_of(result)
    return StageResult(job.name, result.success, reason, failed, time.monotonic() - started)


def run(deployment: Deployment) -> Iterator[StageResult]:
    """Materializes the whole graph and yields the result of each job as it ends.

    Failed tracks are reported; the rest continue. A failed catalogue or dataset ends the run. A failed
    pipeline takes nothing from the others.

    Raises:
        StorageError: Dagster's database cannot be written.
        KeyboardInterrupt: Ctrl+C or SIGTERM stopped a job.
    """
    with database_errors(deployment.home), deployment.instance() as instance:
        # Imported after the environment is set: defaults of the training assets are the preset's.
        from melodygan_dagster.definitions import defs
        from melodygan_dagster.pipelines import deployed_pipelines
        from melodygan_dagster.resources import deployed_settings

        # Left behind by an earlier `melodygan run` that was killed.
        dead_runs.report(instance, dead_runs.find(instance))
        definitions, settings = defs(), deployed_settings()
        source_versions.record(instance, settings.sources_file)
        yield (catalogue := _execute(definitions.resolve_job_def("catalogue_job"), instance))
        if not catalogue.success:
            return
        for stage in PER_TRACK:
            job = definitions.resolve_job_def(f"{stage}_job")
            in_store = track_scheduling.made(deployment.opened, settings)
            for batch in track_scheduling.pending(instance, stage, in_store):
                yield _execute(job, instance, batch.tags)
        yield (dataset := _execute(definitions.resolve_job_def("dataset_job"), instance))
        if dataset.success:
            yield from train(definitions, instance, [p.name for p in deployed_pipelines()])


def train(
    definitions: dg.Definitions, instance: dg.DagsterInstance, pipelines: Sequence[str]
) -> Iterator[StageResult]:
    """Runs the job of each pipeline, then the gallery of those that succeeded, and yields the results.

    Assets that pipelines share are trained by the first job and found by the others.
    """
    succeeded = False
    for pipeline in pipelines:
        yield (result := _execute(definitions.resolve_job_def(f"{pipeline}_job"), instance))
        succeeded = succeeded or result.success
    if succeeded:
        yield _execute(definitions.resolve_job_def("gallery_job"), instance)
