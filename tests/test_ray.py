"""Stages on a Ray cluster of two nodes on this machine make the same files as without it, also after kills."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
import yaml

from melodygan_core import catalogue, download, features, parallel, separation
from melodygan_core.config import SeparationConfig
from melodygan_core.config.presets import PRESETS
from melodygan_core.demo import songs
from melodygan_core.errors import InputError
from melodygan_core.parallel import Backend, Report, map_tracks
from melodygan_core.storage import Store
from tests.conftest import PRESET

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
COUNT, SONG_S = 4, 3.0
RAY = Backend("ray", 2)
NODE = {
    "num_cpus": 1,
    "include_dashboard": False,
    "object_store_memory": 80 << 20,
    "node_ip_address": "127.0.0.1",
}
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Otherwise Ray replaces loopback with the address of a network interface.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # Ray reads these when it is imported: it notices a lost node within seconds.
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "4",
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with mock.patch.dict(os.environ, ENVIRONMENT):
        from ray.cluster_utils import Cluster

        made = Cluster(initialize_head=True, head_node_args=NODE)
        try:
            made.add_node(**NODE)
            yield made
        finally:
            made.shutdown()


@pytest.fixture
def connected(cluster: Cluster) -> Iterator[Cluster]:
    import ray

    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.WARNING)
    yield cluster
    ray.shutdown()


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    return folder


# The three stages per track, as the deployment runs them.

SETTINGS = PRESETS[PRESET]


def _separation(sources: Path) -> SeparationConfig:
    return SeparationConfig(model="centre", model_dir=str(sources.parent / "models"))


def _stages(store: Store, sources: Path) -> dict[str, Report]:
    ids = [t.track_id for t in catalogue.load(store)]
    network = _separation(sources)
    return {
        "download": download.fetch(ids, store, SETTINGS.download, Backend()),
        "stems": separation.separate(ids, store, network),
        "features": features.extract(ids, store, SETTINGS.features, network),
    }


def _without_times(metadata: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in metadata.items() if k != "fetched_at"}


def _content(store: Store) -> dict[str, bytes | dict[str, Any]]:
    """Every file of the three stages, without the time of the download."""
    root, found = Path(store.root), {}
    for path in sorted(p for kind in ("raw", "stems", "features") for p in (root / kind).rglob("*")):
        if path.is_file() and path.suffix != ".png":
            data = path.read_bytes()
            found[str(path.relative_to(root))] = (
                _without_times(json.loads(data)) if path.suffix == ".json" else data
            )
    return found


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sources file that lists a folder of songs."""
    folder = tmp_path_factory.mktemp("sources")
    songs.write_songs(folder / "songs", COUNT, SONG_S)
    path = folder / "sources.yaml"
    path.write_text(yaml.safe_dump({"sources": [{"path": "songs", "rights": "own"}]}), "utf-8")
    return path


@pytest.fixture(scope="module")
def serial(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, dict[str, Report]]:
    """The store that the stages fill without Ray, and their reports."""
    store = Store(str(tmp_path_factory.mktemp("serial") / "store"))
    assert not catalogue.expand(sources, store, SETTINGS.catalogue).failed_sources
    reports = _stages(store, sources)
    assert [len(r.computed) for r in reports.values()] == [COUNT] * 3
    return store, reports


# Each stage is killed in the middle of its file or folder: the wav is written and not renamed, the vocals exist
# without the instrumental, the table has one stem of three. Function and number of its call.
KILLED_AT = {
    "download": ("melodygan_core.download.sha256_of", 1),
    "stems": ("melodygan_core.separation.stems.loudness_lufs", 1),
    "features": ("melodygan_core.features.tracks.stem_table", 2),
}


def test_a_run_on_ray_makes_the_same_files_when_a_worker_of_each_stage_is_killed(
    cluster: Cluster,
    serial: tuple[Store, dict[str, Report]],
    sources: Path,
    notes: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ray

    from melodygan_dagster import runner
    from melodygan_dagster.deployment import Deployment
    from tests import on_ray

    store = Store(str(notes.parent / "store"))
    deployment = Deployment(
        store.root, sources, PRESET, model_dir=_separation(sources).model_dir, own_home=True
    )
    reports: dict[str, Report] = {}

    def map_and_kill(stage: str, function: parallel.TrackFunction, ids: list[str], backend: Backend) -> Report:
        assert backend == RAY
        (folder := notes / stage).mkdir()
        at, call = KILLED_AT[stage]
        function = partial(on_ray.record_loads, function=function, notes=folder)
        function = partial(on_ray.kill_once, function=function, victim=min(ids), at=at, call=call, notes=folder)
        reports[stage] = map_tracks(stage, function, ids, backend)
        return reports[stage]

    monkeypatch.setattr(parallel, "map_tracks", map_and_kill)
    monkeypatch.setattr("melodygan_core.separation.stems.map_tracks", map_and_kill)
    with mock.patch.dict(os.environ, {"MELODYGAN_RAY": str(cluster.address)}):
        for result in runner.run(deployment):
            assert (result.success, result.reason) == (True, "")
            # Each stage connects and disconnects.
            assert not ray.is_initialized()
            if result.job == "features_job":
                break
    for stage, here in serial[1].items():
        there = {o.track_id: o for o in reports[stage].computed}
        assert {t: _without_times(o.metadata) for t, o in there.items()} == {
            o.track_id: _without_times(o.metadata) for o in here.outcomes
        }
        # One more attempt, of one track, by another process.
        attempts = [line.split() for line in (notes / stage / "attempts").read_text().splitlines()]
        assert Counter(t for t, _ in attempts) == Counter([*there, min(there)])
        assert len({pid for track_id, pid in attempts if track_id == min(there)}) == 2
        if stage == "stems":
            assert sorted((notes / stage / "loads").read_text().split()) == sorted({pid for _, pid in attempts})
    # Nothing reads the temporary file of a killed worker, and `melodygan doctor --repair` removes it.
    assert {k: v for k, v in _content(store).items() if "/." not in k} == _content(serial[0])


def test_failed_tracks_are_reported_and_the_rest_continue(connected: Cluster) -> None:
    from tests.on_ray import work

    tracks = ["crash-1", "a", "gone-1", "bug-1", "exit-1", "there-1", "b", "c"]
    report = map_tracks("stage", work, tracks, RAY)
    assert [o.track_id for o in report.outcomes] == tracks
    assert [o.metadata for o in report.good] == [{"name": t} for t in ("a", "there-1", "b", "c")]
    assert [o.track_id for o in report.good if o.skipped] == ["there-1"]
    failed = {o.track_id: o for o in report.failed}
    assert {t: o.permanent for t, o in failed.items()} == {
        "crash-1": False,
        "gone-1": True,
        "bug-1": False,
        "exit-1": False,
    }
    assert failed["gone-1"].error == "404, gone"
    assert failed["bug-1"].error.startswith("IndexError: list index out of range (work, on_ray.py:")
    for name in ("crash-1", "exit-1"):
        assert failed[name].error.startswith("its worker died 2 times (crash, out of memory, or its machine): ")


def test_the_track_of_a_lost_machine_is_retried(connected: Cluster, notes: Path) -> None:
    from tests.on_ray import stuck_on

    (other,) = connected.worker_nodes
    log = notes / "attempts"

    def remove() -> None:
        for _ in range(600):
            if log.exists() and other.node_id in log.read_text():
                break
            time.sleep(0.1)
        connected.remove_node(other, allow_graceful=False)

    thread = threading.Thread(target=remove)
    thread.start()
    try:
        report = map_tracks("stage", partial(stuck_on, node=other.node_id, notes=notes), ["a", "b", "c"], RAY)
    finally:
        thread.join()
        connected.add_node(**NODE)
    assert [o.error for o in report.outcomes] == [""] * 3
    attempts = [line.split() for line in log.read_text().splitlines()]
    (stuck,) = [track_id for track_id, node in attempts if node == other.node_id]
    assert Counter(t for t, _ in attempts) == Counter(["a", "b", "c", stuck])


def test_a_worker_without_the_code_is_reported(connected: Cluster) -> None:
    from tests.on_ray import NotImportable

    report = map_tracks("stage", NotImportable(), ["a", "b"], RAY)
    reason = "ModuleNotFoundError: No module named 'not_installed_there'"
    assert [o.error for o in report.outcomes] == [f"no worker can start on the Ray cluster: {reason}"] * 2


def test_workers_on_ray_pause_between_requests_and_a_single_track_runs_there_too(connected: Cluster) -> None:
    from tests.on_ray import wait_for_turn

    report = map_tracks("stage", partial(wait_for_turn, pause_s=0.3), ["a", "b", "c"], Backend("ray", 1))
    times = [o.metadata["at_s"] for o in report.outcomes]
    assert min(times[1] - times[0], times[2] - times[1]) >= 0.3
    (only,) = map_tracks("stage", partial(wait_for_turn, pause_s=0.0), ["a"], RAY).outcomes
    assert only.metadata["pid"] != os.getpid()


def test_a_missing_connection_or_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(_: str) -> dict[str, Any]:
        return {}

    with pytest.raises(InputError, match=r"backend must be connected, got 'ray': call ray\.init"):
        map_tracks("stage", nothing, ["a"], RAY)
    assert map_tracks("stage", nothing, [], RAY).outcomes == ()
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"\.venv/bin/uv pip install -e '\.\[ray\]'"):
        map_tracks("stage", nothing, ["a"], RAY)


def test_separation_refuses_threads(store: Store) -> None:
    with pytest.raises(InputError, match="backend must be serial, processes, ray, got 'threads'"):
        separation.separate([], store, SETTINGS.separation, Backend("threads", 2))


def test_the_environment_chooses_where_tracks_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from melodygan_dagster.defs.environment import deployed_workers
    from melodygan_dagster.resources import Workers

    monkeypatch.setenv("MELODYGAN_RAY", "")
    here = deployed_workers()
    assert type(here) is Workers
    assert here.downloads(SETTINGS.download) is here.features(SETTINGS.features) is None
    monkeypatch.setenv("MELODYGAN_RAY", "yes")
    with pytest.raises(InputError, match=r"MELODYGAN_RAY must be local, auto, host:port.*got 'yes'"):
        deployed_workers()
    for address in ("local", "auto", "10.0.0.1:6379", "ray://head:10001"):
        monkeypatch.setenv("MELODYGAN_RAY", address)
        made = deployed_workers()
        assert getattr(made, "ray_address", None) == address
    monkeypatch.delitem(sys.modules, "melodygan_dagster.ray_workers")
    monkeypatch.setitem(sys.modules, "dagster_ray", None)
    with pytest.raises(InputError, match=r"dagster_ray is not installed: .*uv pip install -e '\.\[ray\]'"):
        deployed_workers()
