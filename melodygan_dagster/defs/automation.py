"""Jobs, and what starts them without a hand."""

import hashlib

import dagster as dg

from melodygan_dagster.resources import Settings

DENSE = dg.AssetSelection.groups("dense") | dg.AssetSelection.assets("gallery")

# Every per-track stage is a job of its own: in one run a track that fails would hold back all the others.
catalogue_job = dg.define_asset_job("catalogue_job", dg.AssetSelection.assets("catalogue"))
raw_wav_job = dg.define_asset_job("raw_wav_job", dg.AssetSelection.assets("raw_wav"))
stems_job = dg.define_asset_job("stems_job", dg.AssetSelection.assets("stems"))
features_job = dg.define_asset_job("features_job", dg.AssetSelection.assets("features"))
dataset_job = dg.define_asset_job("dataset_job", dg.AssetSelection.assets("feature_table"))
dense_job = dg.define_asset_job("dense_job", DENSE)

nightly_catalogue = dg.ScheduleDefinition(
    name="nightly_catalogue",
    job=catalogue_job,
    cron_schedule="0 3 * * *",
    description="Looks for new items of playlists, channels and feeds.",
)


@dg.sensor(job=catalogue_job, minimum_interval_seconds=30)
def sources_changed(context: dg.SensorEvaluationContext, settings: Settings) -> dg.SensorResult | dg.SkipReason:
    """Expands the catalogue again when sources.yaml has another content."""
    path = settings.sources_file
    if not path.is_file():
        return dg.SkipReason(f"{path} does not exist")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest == context.cursor:
        return dg.SkipReason(f"{path} is unchanged")
    return dg.SensorResult(run_requests=[dg.RunRequest(run_key=digest)], cursor=digest)
