"""Jobs, sensors and schedules. `conditions.py` lists what starts by itself, and when."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from melodygan_core.settings import environment
from melodygan_core.storage import Store
from melodygan_dagster import dead_runs, private, source_versions, track_scheduling
from melodygan_dagster.conditions import CATALOGUE_CRON
from melodygan_dagster.partitions import PER_TRACK
from melodygan_dagster.pipelines import DeployedPipeline, deployed_pipelines
from melodygan_dagster.resources import Settings, StoreResource

# Requests per evaluation of `tracks_due`. The first night of thousands of tracks must not fill the queue.
MAX_REQUESTS = 10
RUNNING = dg.DefaultSensorStatus.RUNNING
FEATURE_TABLE = dg.AssetKey("feature_table")


def _one_step_job(asset: str, description: str, name: str = "") -> private.AssetJob:
    # Each per-track stage is a job of its own: in one run, a failed track would stop the next stage for all
    # tracks. A single step needs no process beside the run's own.
    return dg.define_asset_job(
        name or f"{asset}_job",
        dg.AssetSelection.assets(asset),
        description=description,
        executor_def=dg.in_process_executor,
    )


def build_jobs(pipelines: list[DeployedPipeline]) -> list[private.AssetJob]:
    """Returns the jobs: one per stage of the data, one per pipeline, one for all pipelines, and the gallery's.

    The jobs of pipelines use the default executor, which runs one step at a time.
    """
    keys = {pipeline.name: pipeline.asset_keys for pipeline in pipelines}
    everything = dict.fromkeys(key for of_pipeline in keys.values() for key in of_pipeline)
    return [
        _one_step_job("catalogue", "Looks for new tracks in all sources."),
        _one_step_job("raw_wav", "Downloads a range of tracks."),
        _one_step_job("stems", "Separates a range of tracks."),
        _one_step_job("features", "Extracts features of a range of tracks."),
        _one_step_job("feature_table", "Packs new features into the dataset.", name="dataset_job"),
        *(
            dg.define_asset_job(
                f"{name}_job",
                dg.AssetSelection.assets(*of_pipeline),
                description=f"Trains the models of {name}; generates, evaluates and releases.",
            )
            for name, of_pipeline in keys.items()
        ),
        dg.define_asset_job(
            "training_job",
            dg.AssetSelection.assets(*everything),
            description="Everything from the dataset to the releases, for all pipelines. The gallery follows.",
        ),
        _one_step_job("gallery", "Renders the page of everything that can be heard."),
    ]


def sources_changed(context: dg.SensorEvaluationContext, settings: Settings) -> dg.SensorResult | dg.SkipReason:
    """Expands the catalogue again when the content of sources.yaml changes."""
    path = settings.sources_file
    if not path.is_file():
        return dg.SkipReason(f"{path} does not exist")
    events = source_versions.unrecorded(context.instance, path)
    digest = source_versions.digest_of(path)
    if digest == context.cursor:
        return dg.SensorResult(skip_reason=f"{path} is unchanged", asset_events=events)
    # No run_key: a key never fires twice, and sources.yaml may be changed and changed back.
    return dg.SensorResult(run_requests=[dg.RunRequest()], cursor=digest, asset_events=events)


def tracks_due(
    context: dg.SensorEvaluationContext, store: StoreResource, settings: Settings
) -> dg.SensorResult | dg.SkipReason:
    """Requests the tracks that are due, up to fifty per run; failed tracks the next night."""
    core_store = store.open()
    if not core_store.catalogue().exists():
        # A store that is not mounted looks as if nothing had been made.
        return dg.SkipReason(f"there is no catalogue in {store.root}")
    due = track_scheduling.due(context.instance, core_store, settings, datetime.now(UTC))
    requests = [
        dg.RunRequest(job_name=f"{stage}_job", tags=batch.tags) for stage in PER_TRACK for batch in due[stage]
    ]
    if not requests:
        return dg.SkipReason("every track is made, in progress, or was tried since last night")
    return dg.SensorResult(run_requests=requests[:MAX_REQUESTS])


def _dataset_tracks(store: Store, version: str) -> set[str]:
    """Returns the tracks of a version of the dataset; none if the version was removed."""
    import pyarrow.parquet as pq

    table = store.dataset(version) / "tracks.parquet"
    if not table.exists():
        return set()
    with store.reading(table) as path:
        return set(pq.read_table(path, columns=["track_id"])["track_id"].to_pylist())


def _training_run(instance: dg.DagsterInstance) -> dg.DagsterRun | None:
    """Returns a queued or started run that trains a model, whoever requested it; None if there is none."""
    jobs = {"training_job", *(f"{pipeline.name}_job" for pipeline in deployed_pipelines())}
    unfinished = dg.RunsFilter(statuses=track_scheduling.NOT_FINISHED_STATUSES)
    for run in (record.dagster_run for record in instance.get_run_records(unfinished)):
        trains = any(key.path[-1].endswith("_checkpoint") for key in run.asset_selection or ())
        if run.job_name in jobs or trains:
            return run
    return None


def _reason_to_wait(context: dg.SensorEvaluationContext, store: Store, version: str, retrain_after: int) -> str:
    """Returns why a version of the dataset is not trained on now; empty if it should be."""
    checkpoint = deployed_pipelines()[0].checkpoints["codec"]
    model = store.record(checkpoint.to_user_string())
    trained_on = model.inputs["feature_table"] if model else ""
    # The cursor is the last requested version, so that a failed training is not requested again every tick.
    if version in (context.cursor, trained_on):
        return f"dataset {version} was trained on, or requested"
    if run := _training_run(context.instance):
        # The cursor stays, and the version that is the newest when that run ends is trained on then.
        return f"run {run.run_id} trains already, or waits to"
    known = _dataset_tracks(store, trained_on) if trained_on else frozenset()
    new = len(_dataset_tracks(store, version) - known)
    if new < retrain_after:
        return f"{new} new tracks; training waits for {retrain_after}, or for its day"
    assert context.repository_def is not None
    graph = context.repository_def.asset_graph
    failed = private.failed_blocking_checks(context.instance, graph, [FEATURE_TABLE])
    return f"dataset {version} did not pass {', '.join(failed)}" if failed else ""


def enough_new_tracks(
    context: dg.SensorEvaluationContext, store: StoreResource, settings: Settings
) -> dg.SensorResult | dg.SkipReason:
    """Trains before its day when MELODYGAN_RETRAIN_AFTER tracks are new in the dataset."""
    if settings.retrain_after < 1:
        return dg.SkipReason("MELODYGAN_RETRAIN_AFTER is 0: training waits for its day")
    core_store = store.open()
    dataset = core_store.record("feature_table")
    if dataset is None:
        return dg.SkipReason("there is no dataset yet")
    if reason := _reason_to_wait(context, core_store, dataset.version, settings.retrain_after):
        return dg.SkipReason(reason)
    return dg.SensorResult(run_requests=[dg.RunRequest()], cursor=dataset.version)


def report_dead_runs(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Reports runs whose process was killed as failed; their tracks are requested again."""
    seen = (context.cursor or "").split(",")
    dead = dead_runs.find(context.instance)
    # At the second look only: a code server that saw the process end is about to report it.
    known = [run for run in dead if run.run_id in seen]
    dead_runs.report(context.instance, known)
    reported = f"reported: {', '.join(run.run_id for run in known)}"
    skip_reason = reported if known else f"{len(dead)} started runs without a process"
    return dg.SensorResult(skip_reason=skip_reason, cursor=",".join(run.run_id for run in dead))


def _sensor(function: Callable[..., Any], tick_s: int, name: str = "", **targets: Any) -> dg.SensorDefinition:
    decorate = dg.sensor(
        name=name or function.__name__,
        description=function.__doc__,
        minimum_interval_seconds=tick_s,
        default_status=RUNNING,
        **targets,
    )
    return decorate(function)


@dg.definitions
def defs() -> dg.Definitions:
    """Returns the jobs of the deployment's pipelines, and what starts them."""
    tick_s = environment().tick_s
    jobs = {job.name: job for job in build_jobs(deployed_pipelines())}
    return dg.Definitions(
        jobs=list(jobs.values()),
        schedules=[
            dg.ScheduleDefinition(
                name="nightly_catalogue",
                job=jobs["catalogue_job"],
                cron_schedule=CATALOGUE_CRON,
                default_status=dg.DefaultScheduleStatus.RUNNING,
                description="Looks for new items of playlists, channels and feeds.",
            )
        ],
        sensors=[
            dg.AutomationConditionSensorDefinition(
                "automation",
                target=dg.AssetSelection.all(),
                default_status=RUNNING,
                minimum_interval_seconds=tick_s,
                description="Requests what the assets' automation conditions ask for.",
            ),
            _sensor(sources_changed, tick_s, job=jobs["catalogue_job"]),
            _sensor(tracks_due, tick_s, jobs=[jobs[f"{stage}_job"] for stage in PER_TRACK]),
            _sensor(enough_new_tracks, tick_s, job=jobs["training_job"]),
            _sensor(report_dead_runs, tick_s, name="dead_runs"),
        ],
    )
