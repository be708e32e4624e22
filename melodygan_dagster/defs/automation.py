"""Jobs, and what starts them without a hand (the conditions themselves are in `conditions.py`)."""

import hashlib
from datetime import UTC, datetime

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from melodygan_core.config import FAMILIES
from melodygan_core.storage.store import Store
from melodygan_dagster import dead_runs, track_scheduling
from melodygan_dagster.conditions import CATALOGUE_CRON, TICK_S
from melodygan_dagster.partitions import PER_TRACK
from melodygan_dagster.resources import Settings, StoreResource

# At one look; the rest at the next one, so that a first night of thousands of tracks fills no queue.
MAX_REQUESTS = 10

VOCODER, GALLERY = dg.AssetSelection.groups("vocoder"), dg.AssetSelection.assets("gallery")
RUNNING_SENSOR = dg.DefaultSensorStatus.RUNNING


def _job(asset: str, description: str, name: str = "") -> UnresolvedAssetJobDefinition:
    # Every per-track stage is a job of its own: in one run a track that fails would hold back all the others.
    # And for a single step another process beside that of the run would only cost seconds and memory.
    return dg.define_asset_job(
        name or f"{asset}_job",
        dg.AssetSelection.assets(asset),
        description=description,
        executor_def=dg.in_process_executor,
    )


catalogue_job = _job("catalogue", "Looks for new tracks in all sources.")
raw_wav_job = _job("raw_wav", "Downloads a range of tracks.")
stems_job = _job("stems", "Separates a range of tracks.")
features_job = _job("features", "Extracts features of a range of tracks.")
dataset_job = _job("feature_table", "Packs new features into the dataset.", name="dataset_job")
# One after the other in one process: two trainings at a time would only take each other's cores.
family_jobs = [
    dg.define_asset_job(
        f"{family}_job",
        VOCODER | dg.AssetSelection.groups(family),
        description=f"Trains the vocoder and the {family} family; generates, evaluates and releases.",
        executor_def=dg.in_process_executor,
    )
    for family in FAMILIES
]
training_job = dg.define_asset_job(
    "training_job",
    VOCODER | dg.AssetSelection.groups(*FAMILIES) | GALLERY,
    description="Everything that follows from the dataset: vocoder, all families, gallery.",
    executor_def=dg.in_process_executor,
)

nightly_catalogue = dg.ScheduleDefinition(
    name="nightly_catalogue",
    job=catalogue_job,
    cron_schedule=CATALOGUE_CRON,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Looks for new items of playlists, channels and feeds.",
)

automation = dg.AutomationConditionSensorDefinition(
    "automation",
    target=dg.AssetSelection.all(),
    default_status=RUNNING_SENSOR,
    minimum_interval_seconds=TICK_S,
    description="Requests what the assets' automation conditions ask for.",
)


@dg.sensor(
    job=catalogue_job,
    minimum_interval_seconds=TICK_S,
    default_status=RUNNING_SENSOR,
    description="Expands the catalogue again when sources.yaml has another content.",
)
def sources_changed(context: dg.SensorEvaluationContext, settings: Settings) -> dg.SensorResult | dg.SkipReason:
    """Expands the catalogue again when sources.yaml has another content."""
    path = settings.sources_file
    if not path.is_file():
        return dg.SkipReason(f"{path} does not exist")
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest == context.cursor:
        return dg.SkipReason(f"{path} is unchanged")
    seen = dg.AssetObservation(
        "sources",
        metadata={"dagster/uri": str(path), "dagster/size_bytes": len(content), "sha256": digest},
        tags={DATA_VERSION_TAG: digest[:12]},
    )
    # No run_key: one never fires twice, and sources.yaml may be changed and changed back.
    return dg.SensorResult(run_requests=[dg.RunRequest()], cursor=digest, asset_events=[seen])


@dg.sensor(
    jobs=[raw_wav_job, stems_job, features_job],
    minimum_interval_seconds=TICK_S,
    default_status=RUNNING_SENSOR,
    description="Requests the tracks that are due, up to fifty a run; failed ones the next night.",
)
def tracks_due(
    context: dg.SensorEvaluationContext, store: StoreResource, settings: Settings
) -> dg.SensorResult | dg.SkipReason:
    """Requests the tracks that are due, up to fifty a run; failed ones the next night."""
    core_store = store.open()
    if not core_store.catalogue().exists():
        # A store that is not mounted looks as if nothing had been made.
        return dg.SkipReason(f"there is no catalogue in {store.root}")
    due = track_scheduling.due(context.instance, core_store, settings, datetime.now(UTC))
    requests = [
        dg.RunRequest(job_name=f"{stage}_job", tags=batch.tags) for stage in PER_TRACK for batch in due[stage]
    ]
    if not requests:
        return dg.SkipReason("every track is made, under way, or was tried since last night")
    return dg.SensorResult(run_requests=requests[:MAX_REQUESTS])


def _tracks_of(store: Store, version: str) -> set[str]:
    """The tracks of a version of the dataset; none when somebody has removed it."""
    import pyarrow.parquet as pq

    table = store.dataset(version) / "tracks.parquet"
    if not table.exists():
        return set()
    with store.reading(table) as path:
        return set(pq.read_table(path, columns=["track_id"])["track_id"].to_pylist())


def _blocking(instance: dg.DagsterInstance, graph: BaseAssetGraph, asset: str) -> list[str]:
    """The blocking checks of an asset that have not passed."""
    keys = graph.get_check_keys_for_assets({dg.AssetKey(asset)})
    blocking = [key for key in keys if graph.get(key).blocking]
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(blocking)
    good = AssetCheckExecutionRecordStatus.SUCCEEDED
    return sorted(k.name for k in blocking if k not in latest or latest[k].status != good)


@dg.sensor(
    job=training_job,
    minimum_interval_seconds=TICK_S,
    default_status=RUNNING_SENSOR,
    description="Trains before its day when MELODYGAN_RETRAIN_AFTER tracks are new in the dataset.",
)
def enough_new_tracks(
    context: dg.SensorEvaluationContext, store: StoreResource, settings: Settings
) -> dg.SensorResult | dg.SkipReason:
    """Trains before its day when MELODYGAN_RETRAIN_AFTER tracks are new in the dataset."""
    if settings.retrain_after < 1:
        return dg.SkipReason("MELODYGAN_RETRAIN_AFTER is 0: training keeps to its day")
    core_store = store.open()
    dataset, model = (
        core_store.record("feature_table"),
        core_store.record(f"{FAMILIES[0]}/autoencoder_checkpoint"),
    )
    if dataset is None:
        return dg.SkipReason("there is no dataset yet")
    # The version it was asked for is the cursor: training that failed is not asked for every half a minute.
    if dataset.version == context.cursor or (model and model.inputs["feature_table"] == dataset.version):
        return dg.SkipReason(f"dataset {dataset.version} has been trained on, or asked for")
    known = _tracks_of(core_store, model.inputs["feature_table"]) if model else frozenset()
    new = len(_tracks_of(core_store, dataset.version) - known)
    if new < settings.retrain_after:
        return dg.SkipReason(f"{new} new tracks; training waits for {settings.retrain_after}, or its day")
    assert context.repository_def is not None
    if failed := _blocking(context.instance, context.repository_def.asset_graph, "feature_table"):
        return dg.SkipReason(f"dataset {dataset.version} is not fit to train on: {', '.join(failed)} failed")
    return dg.SensorResult(run_requests=[dg.RunRequest()], cursor=dataset.version)


@dg.sensor(
    name="dead_runs",
    minimum_interval_seconds=TICK_S,
    default_status=RUNNING_SENSOR,
    description="Reports runs as failed whose process was killed; their tracks are requested again.",
)
def dead_runs_reported(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Reports runs as failed whose process was killed; their tracks are requested again."""
    seen = (context.cursor or "").split(",")
    dead = dead_runs.find(context.instance)
    # At the second sight: if the code server saw the process die, it is about to say so itself.
    known = [run for run in dead if run.run_id in seen]
    dead_runs.report(context.instance, known)
    said = (
        f"reported: {', '.join(r.run_id for r in known)}"
        if known
        else f"{len(dead)} started runs without process"
    )
    return dg.SensorResult(skip_reason=said, cursor=",".join(run.run_id for run in dead))
