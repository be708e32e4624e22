"""SIGKILL at random moments and before random changes of files; `tests/kills.py` does the same at length."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from melodygan_core.storage.store import Store
from tests.conftest import serving
from tests.killing import WHOLE, Ground, Kill, episode, lay, pair, whole
from tests.kills import kill_stage
from tests.stages import ROOT, SETTINGS

KILLS = {
    "catalogue": 1, "download": 2, "separation": 1, "features": 4, "dataset": 8, "vocoder": 2,
    "autoencoder": 3, "latents": 8, "gan": 3, "generation": 4, "evaluation": 1, "release": 9,
    "temporal_autoencoder": 2, "temporal_latents": 2, "temporal_gan": 2, "gallery": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with serving() as site:
        yield lay(tmp_path_factory.mktemp("kills"), site)


@pytest.fixture(autouse=True)
def no_problems(request: pytest.FixtureRequest) -> Iterator[None]:
    """Nothing torn, nothing fetched twice, nobody left, and the store of the undisturbed run."""
    yield
    if "ground" in request.fixturenames:
        tally = request.getfixturevalue("ground").tally
        found, tally.problems = tally.problems, []
        assert found == []


def test_there_are_fifty_kills() -> None:
    assert sum(KILLS.values()) >= 50


@pytest.mark.parametrize("stage", KILLS)
def test_a_stage_that_is_killed_ends_as_if_it_had_not_been(ground: Ground, stage: str) -> None:
    before = ground.tally.of(stage)
    kill_stage(ground, stage, before + KILLS[stage], random.Random(stage))
    assert ground.tally.of(stage) >= before + KILLS[stage]


@pytest.mark.parametrize(
    ("stage", "config"),
    [
        ("vocoder", SETTINGS.vocoder),
        ("autoencoder", SETTINGS.dense.autoencoder),
        ("gan", SETTINGS.dense.gan),
        ("temporal_autoencoder", SETTINGS.temporal.autoencoder),
        ("temporal_gan", SETTINGS.temporal.gan),
    ],
)
def test_a_training_goes_on_from_its_last_step_bit_for_bit(ground: Ground, stage: str, config: Any) -> None:
    resumed = len(ground.tally.resumed)
    assert episode(ground, stage, [Kill(before_change=30), Kill(before_change=20)]) == 2
    first, second = ground.tally.resumed[resumed:]
    # Neither is at a validation, where everything begins anew.
    assert 0 < first < second < config.optimizer.max_steps
    assert first % config.optimizer.eval_every and second % config.optimizer.eval_every


def test_of_two_runs_on_the_same_tracks_one_may_die(ground: Ground) -> None:
    # On a busy machine the undisturbed run may have taken longer than this one will: then an earlier moment.
    moments = (ground.duration_s["features"] / part for part in (2, 4, 8, 16))
    assert any(pair(ground, "features", Kill(after_s=moment)) for moment in moments)


def test_the_whole_command_may_be_killed(ground: Ground) -> None:
    assert whole(ground, "temporal_evaluation", [0.5], after="done dataset_job") == 1
    assert ground.tally.of(WHOLE) == 1


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
    # An orphan is reaped by whoever adopts it, a moment after its end.
    for _ in range(200):
        os.kill(pid, 0)
        time.sleep(0.05)


def test_a_child_with_strangers_bytes_does_not_outlive_a_killed_parent_for_long() -> None:
    code = (
        "import signal\nfrom melodygan_core import net\n"
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
    file = Path(store.raw_json("a").path)
    assert order == [file.stat().st_ino, 0, file.parent.stat().st_ino]


def test_a_folder_is_on_disk_before_its_name_is(store: Store, order: list[int]) -> None:
    with store.writing_folder(store.gallery("v")) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a").write_text("a", "utf-8")
        (folder / "b").write_text("b", "utf-8")
    made = Path(store.gallery("v").path)
    inside = {p.stat().st_ino for p in (made, *made.rglob("*"))}
    assert len(inside) == 4
    renamed = order.index(0)
    assert set(order[:renamed]) == inside
    assert order[renamed + 1 :] == [made.parent.stat().st_ino]
