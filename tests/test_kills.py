"""SIGKILL at random moments and before random changes of files; `scripts/kills.py` does the same for longer."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from melodygan_core.storage import Store
from tests.conftest import serving
from tests.contents import contents
from tests.kill_plans import SHARES, kill_stage
from tests.killing import (
    RUN_COMMAND,
    Kill,
    kill_one_of_two,
    kill_run_command,
    kill_stage_repeatedly,
)
from tests.reference import Reference, make_reference
from tests.stages import ROOT, STAGES, TRAININGS

pytestmark = pytest.mark.slow
KILLS = {
    "catalogue": 1, "download": 2, "separation": 1, "features": 4, "dataset": 8, "vocoder": 2,
    "dense_codec": 3, "dense_latents": 8, "dense_gan": 3, "dense_gan_generation": 4,
    "dense_gan_evaluation": 1, "dense_gan_release": 9, "temporal_codec": 1, "temporal_refiner": 1,
    "temporal_latents": 2, "temporal_gan": 2, "gallery": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reference]:
    """An undisturbed run; its stores are unchanged at the end, although their copies share files with them."""
    with serving() as site:
        yield (made := make_reference(tmp_path_factory.mktemp("kills"), site))
    assert all(contents(root) == expected for root, expected in made.expected_stores())


@pytest.fixture(autouse=True)
def no_problems(request: pytest.FixtureRequest) -> Iterator[None]:
    """Nothing incomplete, nothing fetched twice, no process left, and the store of the undisturbed run."""
    yield
    if "reference" in request.fixturenames:
        results = request.getfixturevalue("reference").results
        found, results.problems = results.problems, []
        assert found == []


def test_every_stage_has_a_share_and_there_are_fifty_kills() -> None:
    assert set(SHARES) == {*STAGES, RUN_COMMAND} and sum(SHARES.values()) == 100
    assert set(KILLS) < set(STAGES) and sum(KILLS.values()) >= 50


@pytest.mark.parametrize("stage", KILLS)
def test_a_killed_stage_ends_as_an_undisturbed_one(reference: Reference, stage: str) -> None:
    before = reference.results.kills_of(stage)
    kill_stage(reference, stage, before + KILLS[stage], random.Random(stage))
    assert reference.results.kills_of(stage) >= before + KILLS[stage]


@pytest.mark.parametrize("stage", TRAININGS)
def test_a_killed_training_resumes_from_its_last_step_bit_for_bit(reference: Reference, stage: str) -> None:
    optimizer, resumed = TRAININGS[stage].optimizer, len(reference.results.resumed)
    kills = [Kill(before_change=30), Kill(before_change=20)]
    assert kill_stage_repeatedly(reference, stage, kills) == 2
    first, second = reference.results.resumed[resumed:]
    # Neither step is that of a validation, at which a new interval of losses begins.
    assert 0 < first < second < optimizer.max_steps
    assert first % optimizer.eval_every and second % optimizer.eval_every


def test_one_of_two_runs_on_the_same_tracks_may_be_killed(reference: Reference) -> None:
    # On a busy machine the undisturbed run may have taken longer than this one will: then an earlier moment.
    moments = (reference.duration_s["features"] / part for part in (2, 4, 8, 16))
    assert any(kill_one_of_two(reference, "features", Kill(after_s=moment)) for moment in moments)


def test_the_run_command_may_be_killed(reference: Reference) -> None:
    assert kill_run_command(reference, "temporal_gan_evaluation", [0.5], after="done dataset_job") == 1
    assert reference.results.kills_of(RUN_COMMAND) == 1


WORKERS = """
import os, time
from melodygan_core import parallel

def slow(track_id):
    print(os.getpid(), flush=True)
    time.sleep(60)
    return {}

if __name__ == "__main__":
    parallel.map_tracks("slow", slow, ["a", "b"], parallel.Backend("processes", 2))
"""


def test_the_workers_of_a_killed_run_end(tmp_path: Path) -> None:
    script = tmp_path / "workers.py"
    script.write_text(WORKERS, "utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment)
    assert run.stdout is not None
    workers = [int(run.stdout.readline()) for _ in range(2)]
    os.kill(run.pid, signal.SIGKILL)
    # The pipe is closed when the last of them has gone.
    assert run.communicate(timeout=30) == ("", None)
    for pid in workers:
        with pytest.raises(ProcessLookupError):
            _signal_until_gone(pid)


def _signal_until_gone(pid: int) -> None:
    # Whoever adopts an orphan reaps it a moment after its end.
    for _ in range(200):
        os.kill(pid, 0)
        time.sleep(0.05)


def test_a_child_that_handles_foreign_bytes_ends_soon_after_a_killed_parent() -> None:
    code = (
        "import signal\nfrom melodygan_core.sandbox import net\n"
        "net.apply_limits(net.Limits(20.0, file_bytes=1000))\nprint(signal.alarm(0))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert int(done.stdout) == 30


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Inodes in the order in which they reach the disk; 0 is a rename."""
    done: list[int] = []
    fsync, rename = os.fsync, Path.replace

    def synced(fd: int) -> None:
        done.append(os.fstat(fd).st_ino)
        fsync(fd)

    def renamed(self: Path, target: Path) -> Path:
        done.append(0)
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    return done


def test_a_file_is_on_disk_before_its_name_is(store: Store, order: list[int]) -> None:
    store.write_json(store.raw_json("a"), {})
    file, root = Path(store.raw_json("a").path), Path(store.root)
    # The names of new folders first.
    assert order == [
        *(p.stat().st_ino for p in (root.parent, root, file)),
        0,
        file.parent.stat().st_ino,
    ]


def test_a_folder_is_on_disk_before_its_name_is(store: Store, order: list[int]) -> None:
    with store.writing_folder(store.gallery("v")) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a").write_text("a", "utf-8")
        (folder / "b").write_text("b", "utf-8")
    made = Path(store.gallery("v").path)
    inside = {p.stat().st_ino for p in (made, *made.rglob("*"))}
    assert len(inside) == 4
    assert order[:2] == [p.stat().st_ino for p in (Path(store.root).parent, Path(store.root))]
    renamed = order.index(0)
    assert set(order[2:renamed]) == inside
    assert order[renamed + 1 :] == [made.parent.stat().st_ino]
