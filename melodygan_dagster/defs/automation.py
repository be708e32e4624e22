"""Jobs, and what starts them without a hand (the conditions themselves are in `conditions.py`)."""

import hashlib

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from melodygan_dagster.conditions import CATALOGUE_CRON
from melodygan_dagster.resources import Settings

DENSE = dg.AssetSelection.groups("dense") | dg.AssetSelection.assets("gallery")
RUNNING_SENSOR = dg.DefaultSensorStatus.RUNNING

# Every per-track stage is a job of its own: in one run a track that fails would hold back all the others.
catalogue_job = dg.define_asset_job(
    "catalogue_job", dg.AssetSelection.assets("catalogue"), description="Looks for new tracks in all sources."
)
raw_wav_job = dg.define_asset_job(
    "raw_wav_job", dg.AssetSelection.assets("raw_wav"), description="Downloads a range of tracks."
)
stems_job = dg.define_asset_job(
    "stems_job", dg.AssetSelection.assets("stems"), description="Separates a range of tracks."
)
features_job = dg.define_asset_job(
    "features_job", dg.AssetSelection.assets("features"), description="Extracts features of a range of tracks."
)
dataset_job = dg.define_asset_job(
    "dataset_job", dg.AssetSelection.assets("feature_table"), description="Packs new features into the dataset."
)
dense_job = dg.define_asset_job(
    "dense_job", DENSE, description="Trains, generates, evaluates and releases the dense family."
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
    minimum_interval_seconds=30,
    description="Requests what the assets' automation conditions ask for.",
)


@dg.sensor(
    job=catalogue_job,
    minimum_interval_seconds=30,
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
