"""The worker as it is: a process of its own that loads a real release and runs services in it."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from melodygan_core.errors import MelodyGANError
from melodygan_core.progress import ProgressEvent
from melodygan_core.storage import Store
from melodygan_web.jobs import Input, JobQueue, worker
from melodygan_web.jobs.worker import Piece, PieceStoppedError, WarmReleases, Worker
from melodygan_web.sounds import SoundIndex, sound_id
from tests.core.conftest import flow_store, temporal_store
from tests.web.conftest import wait_for

pytestmark = pytest.mark.slow
__all__ = ["flow_store", "temporal_store"]


@pytest.fixture(scope="module")
def store(flow_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Store:
    root = tmp_path_factory.mktemp("worker") / "store"
    shutil.copytree(flow_store.root, root, ignore=shutil.ignore_patterns("work"))
    return Store(str(root))


@pytest.fixture(scope="module")
def process(store: Store) -> Iterator[Worker]:
    made = Worker(store.root)
    yield made
    made.close()


def release(store: Store, pipeline: str = "temporal_flow") -> str:
    made = store.record(f"{pipeline}/release")
    assert made is not None
    return made.uri


def piece(store: Store, run_id: str, **changes: Any) -> Piece:
    settings = {"count": 1, "seed": 3, "duration_s": 1.2}
    values: dict[str, Any] = {"kind": "generate", "release": release(store), "settings": settings, **changes}
    return Piece(run_id, **values)


def never() -> bool:
    return False


def test_pieces_are_reproducible_and_known_to_erasure(store: Store, process: Worker) -> None:
    events: list[ProgressEvent] = []
    [first] = process.make(piece(store, "s1-000"), events.append, never)
    [again] = process.make(piece(store, "s1-001"), events.append, never)
    assert (store.base / first).read_bytes() == (store.base / again).read_bytes()
    assert events[0] == ("generate", 0, 1) and events[-1] == ("generate", 1, 1)
    note = json.loads((store.base / "uses/generate/s1-000/use.json").read_text())
    assert note["release"]["uri"] == release(store) and note["config"]["seed"] == 3
    sound = SoundIndex(store).get(sound_id(first))
    assert sound is not None
    assert (sound.title, sound.job_id, sound.pipeline) == ("Seed 3", "s1", "temporal_flow")


def test_what_a_service_refuses_is_one_sentence(store: Store, process: Worker) -> None:
    with pytest.raises(MelodyGANError, match="condition must be"):
        process.make(piece(store, "s2-000", settings={"condition": "loud"}), lambda e: None, never)
    with pytest.raises(MelodyGANError, match="release must still be in the store"):
        process.make(piece(store, "s2-001", release="releases/temporal_flow/gone"), lambda e: None, never)
    assert not list(store.base.glob("uses/generate/*s2-*"))


def test_a_stop_leaves_nothing(store: Store, process: Worker) -> None:
    long = piece(store, "s3-000", settings={"count": 1, "duration_s": 3000.0})
    with pytest.raises(PieceStoppedError):
        process.make(long, lambda e: None, lambda: True)
    assert not list(store.base.glob("uses/generate/*s3-*"))


def test_a_process_that_does_not_stop_is_killed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "STOP_GRACE_S", 0.2)
    silent = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    stuck, (ours, theirs) = Worker(store.root), multiprocessing.Pipe()
    monkeypatch.setattr(stuck, "_started", lambda: ours)
    monkeypatch.setattr(stuck, "close", silent.kill)
    with pytest.raises(PieceStoppedError):
        stuck.make(piece(store, "s5-000"), lambda e: None, lambda: True)
    assert silent.wait(10) == -9 and theirs.recv().run_id == "s5-000"


def test_a_process_that_dies_is_reported_and_replaced(store: Store, process: Worker) -> None:
    long = piece(store, "s4-000", settings={"count": 1, "duration_s": 3000.0})

    def kill(event: ProgressEvent) -> None:
        assert process._process is not None
        process._process.kill()

    with pytest.raises(MelodyGANError, match=r"worker must stay alive, and ended with status -9"):
        process.make(long, kill, never)
    # The next test's pieces start another process.
    assert not list(store.base.glob("uses/generate/s4-*"))


def test_a_queue_of_every_kind(store: Store, process: Worker) -> None:
    queue = JobQueue(store, process)
    queue.start()
    try:
        jobs = [queue.submit("generate", "temporal_gan", {"count": 2, "duration_s": 1.5, "seed": 1}, {})]
        source = wait_for(lambda: (j := queue.get(jobs[0].id)) and j.state == "done" and j.made)[0]
        given = {"sound": Input(sound_id(source), source, "x")}
        for kind, settings in (
            ("variations", {"count": 2, "strength": 0.3}),
            ("continue", {"duration_s": 0.5, "condition": "fast"}),
            ("inpaint", {"start_s": 0.5, "end_s": 0.8}),
            ("reconstruct", {}),
        ):
            jobs.append(queue.submit(kind, "temporal_flow", settings, given))
        jobs.append(queue.submit("loop", "temporal_flow", {"duration_s": 1.0}, {}))
        ended = wait_for(lambda: all(not j.is_active for j in queue.all()) and queue.all())
        assert {(job.kind, job.state, job.error) for job in ended} == {(job.kind, "done", "") for job in jobs}
        services = {sound.service for sound in SoundIndex(store).all()}
        assert services >= {"generate", "variations", "continue", "inpaint", "reconstruct", "loop"}
    finally:
        queue._closed = True
        queue.close()


def test_two_releases_stay_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    class Opened:
        def __init__(self, name: str) -> None:
            opened.append(name)
            self.release = name

    monkeypatch.setattr("melodygan_core.services.releases.open_release", Opened)
    releases = WarmReleases("root", 2)
    for name in ("a", "b", "a", "c", "a", "b"):
        assert releases.get(name) == f"root/{name}"
    assert opened == ["root/a", "root/b", "root/c", "root/b"]


def test_the_server_loads_no_model_code(store: Store) -> None:
    script = (
        "import sys\nfrom starlette.testclient import TestClient\nfrom melodygan_web.app import build_studio\n"
        "client = TestClient(build_studio(sys.argv[1]))\n"
        "pages = ['/listen', '/generate', '/jobs']\n"
        "assert all(client.get(page).status_code == 200 for page in pages)\n"
        "print(sorted({'torch', 'dagster', 'numba', 'librosa'} & set(sys.modules)))"
    )
    command = [sys.executable, "-W", "ignore", "-c", script, store.root]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert done.stdout == "[]\n", done.stderr
