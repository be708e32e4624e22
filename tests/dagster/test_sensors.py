"""Sensors: new sources, tracks that are due, early training; and whether the catalogue is in sync."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.loader import LoadingContextForTest
from dagster._core.remote_origin import InProcessCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.test_utils import create_run_for_test
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from melodygan_core import catalogue
from melodygan_core.storage.store import Artifact, Store
from melodygan_dagster import source_versions, track_scheduling
from melodygan_dagster.defs.automation import MAX_REQUESTS
from melodygan_dagster.defs.environment import from_environment
from melodygan_dagster.deployment import Deployment
from melodygan_dagster.partitions import TRACKS
from tests.conftest import Site
from tests.dagster import pool_steps
from tests.dagster.conftest import execute, write_sources

CATALOGUE = dg.AssetKey("catalogue")


class Sensor:
    """A sensor of the real definitions, with its cursor, evaluated as the daemon does."""

    def __init__(self, definitions: dg.Definitions, instance: dg.DagsterInstance, name: str) -> None:
        self.instance, self.name, self.cursor = instance, name, ""
        self.repository = definitions.get_repository_def()

    def tick(self) -> SensorExecutionData:
        resources = from_environment()
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            repository_def=self.repository,
            resources={"settings": resources["settings"], "store": resources["store"]},
        )
        with context:
            made = self.repository.get_sensor_def(self.name).evaluate_tick(context)
        self.cursor = made.cursor or self.cursor
        for event in made.asset_events:
            self.instance.report_runless_asset_event(event)
        assert bool(made.run_requests) != bool(made.skip_message)
        return made

    def requests(self) -> bool:
        return bool(self.tick().run_requests)


def test_each_content_of_the_sources_is_requested_once(
    deployment: Deployment, definitions: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    sensor = Sensor(definitions, instance, "sources_changed")
    missing = sensor.tick()
    assert missing.skip_message and "does not exist" in missing.skip_message
    for content in ("sources: []", "sources: [https://a.example/x.mp3]", "sources: []"):
        deployment.sources.write_text(content, "utf-8")
        [request] = sensor.tick().run_requests or []
        # A run_key never fires twice, and this content may return.
        assert request.run_key is None
        again = sensor.tick()
        assert not again.run_requests and again.skip_message and "unchanged" in again.skip_message


def _status(definitions: dg.Definitions, instance: dg.DagsterInstance) -> StaleStatus:
    """The status of the catalogue as the UI computes it."""
    graph = definitions.get_repository_def().asset_graph
    return CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance)).get_status(CATALOGUE)


@pytest.mark.slow
def test_unchanged_sources_leave_the_catalogue_in_sync(
    deployment: Deployment, definitions: dg.Definitions, instance: dg.DagsterInstance, site: Site
) -> None:
    sensor = Sensor(definitions, instance, "sources_changed")
    write_sources(deployment.sources, [site.add("/a.wav", b"")])
    assert _status(definitions, instance) == StaleStatus.MISSING
    for _ in range(2):
        sensor.tick()
        assert execute(definitions, instance, "catalogue_job").success
        assert _status(definitions, instance) == StaleStatus.FRESH
    assert not sensor.requests()
    assert _status(definitions, instance) == StaleStatus.FRESH
    write_sources(deployment.sources, [site.add("/b.wav", b"")])
    assert sensor.requests()
    # Out of sync until the requested run ends.
    assert _status(definitions, instance) == StaleStatus.STALE
    assert execute(definitions, instance, "catalogue_job").success
    assert _status(definitions, instance) == StaleStatus.FRESH


def test_a_version_of_the_sources_is_recorded_once(
    deployment: Deployment, instance: dg.DagsterInstance
) -> None:
    source_versions.record(instance, deployment.sources)
    assert instance.get_latest_materialization_event(source_versions.KEY) is None
    for content in ("a", "a", "b"):
        deployment.sources.write_text(content, "utf-8")
        source_versions.record(instance, deployment.sources)
    assert len(instance.fetch_materializations(source_versions.KEY, limit=10).records) == 2


def test_nothing_is_requested_without_a_catalogue(
    deployment: Deployment, definitions: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    instance.add_dynamic_partitions(TRACKS, ["a"])
    made = Sensor(definitions, instance, "tracks_due").tick()
    assert not made.run_requests and made.skip_message and "no catalogue" in made.skip_message


def test_many_tracks_are_requested_in_few_runs_and_not_all_at_once(
    deployment: Deployment, definitions: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    store = deployment.opened
    with store.writing(store.catalogue()) as path:
        pq.write_table(pa.Table.from_pylist([], catalogue.SCHEMA), path)
    instance.add_dynamic_partitions(TRACKS, [f"t{i:05}" for i in range(1000)])
    requests = Sensor(definitions, instance, "tracks_due").tick().run_requests or []
    assert len(requests) == MAX_REQUESTS
    assert {r.job_name for r in requests} == {"raw_wav_job"}
    first = requests[0].tags
    assert (first[track_scheduling.RANGE_START], first[track_scheduling.RANGE_END]) == ("t00000", "t00049")
    assert len({r.tags[track_scheduling.RANGE_START] for r in requests}) == len(requests)


class Datasets:
    """Versions of the dataset in a store, with the sensor that requests training on them."""

    def __init__(self, store: Store, definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
        self.store, self.instance = store, instance
        self.graph = definitions.resolve_asset_graph()
        self.sensor = Sensor(definitions, instance, "enough_new_tracks")

    def add(self, version: str, tracks: int) -> None:
        table = self.store.dataset(version) / "tracks.parquet"
        with self.store.writing(table) as path:
            pq.write_table(pa.table({"track_id": [f"t{i}" for i in range(tracks)]}), path)
        self.store.write_record(Artifact("feature_table", version, f"dataset/{version}", "0", 1))

    def check(self, passed: bool) -> None:
        for key in self.graph.get_check_keys_for_assets({dg.AssetKey("feature_table")}):
            blocking = self.graph.get(key).blocking
            self.instance.report_runless_asset_event(
                dg.AssetCheckEvaluation(key.asset_key, key.name, passed=passed, blocking=blocking)
            )

    def requested(self) -> bool:
        return self.sensor.requests()


@pytest.fixture
def datasets(
    deployment: Deployment,
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> Datasets:
    monkeypatch.setenv("MELODYGAN_RETRAIN_AFTER", "5")
    return Datasets(deployment.opened, definitions, instance)


def test_enough_new_tracks_are_trained_on_once(datasets: Datasets, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not datasets.requested()
    datasets.add("v1", 4)
    datasets.check(passed=True)
    assert not datasets.requested()
    datasets.add("v2", 6)
    datasets.check(passed=False)
    assert not datasets.requested()
    datasets.check(passed=True)
    assert datasets.requested()
    # Once per version, whatever became of the training.
    assert not datasets.requested()
    model = Artifact("temporal/autoencoder_checkpoint", "m1", "m", "0", 1, inputs={"feature_table": "v2"})
    datasets.store.write_record(model)
    assert not datasets.requested()
    datasets.add("v3", 10)
    assert not datasets.requested()
    datasets.add("v4", 11)
    assert datasets.requested()
    monkeypatch.setenv("MELODYGAN_RETRAIN_AFTER", "0")
    datasets.add("v5", 100)
    assert not datasets.requested()


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTED])
@pytest.mark.parametrize("job", ["training_job", "temporal_gan_job", "__ASSET_JOB"])
def test_at_most_one_training_waits(datasets: Datasets, status: dg.DagsterRunStatus, job: str) -> None:
    assets = {dg.AssetKey(["dense", "autoencoder_checkpoint"])} if job == "__ASSET_JOB" else None
    location = InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name="melodygan_dagster.definitions"))
    origin = RemoteRepositoryOrigin(location, "__repository__").get_job_origin(job)
    run = create_run_for_test(
        datasets.instance, job, status=status, asset_selection=assets, remote_job_origin=origin
    )
    datasets.check(passed=True)
    for version in ("v1", "v2", "v3"):
        datasets.add(version, 6)
        assert not datasets.requested()
    # The cursor stayed, so that the newest version is requested when the training has ended.
    datasets.instance.report_run_failed(run)
    assert datasets.requested()
    assert datasets.sensor.cursor == "v3"


def test_a_run_that_trains_nothing_does_not_hold_back_training(datasets: Datasets) -> None:
    create_run_for_test(datasets.instance, "raw_wav_job", status=dg.DagsterRunStatus.STARTED)
    datasets.check(passed=True)
    datasets.add("v1", 6)
    assert datasets.requested()


@pytest.mark.slow
def test_while_a_training_runs_in_the_real_executor_none_is_requested_and_then_one(
    datasets: Datasets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(pool_steps.FOLDER, str(tmp_path))
    ended: list[bool] = []

    def run() -> None:
        with dg.execute_job(dg.reconstructable(pool_steps.waiting_training), datasets.instance) as result:
            ended.append(result.success)

    thread = threading.Thread(target=run)
    thread.start()
    deadline = time.monotonic() + 120
    while not (tmp_path / "waits").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    datasets.check(passed=True)
    for version in ("v1", "v2", "v3"):
        datasets.add(version, 6)
        assert not datasets.requested()
    assert ended == []
    (tmp_path / "go").touch()
    thread.join(120)
    assert ended == [True]
    assert datasets.requested()
    assert not datasets.requested()
