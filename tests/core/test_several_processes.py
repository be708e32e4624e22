"""Two processes on loopback, started by torchrun, train as one does."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from melodygan_core import codec, features
from melodygan_core.catalogue.tracks import save
from melodygan_core.cli import main
from melodygan_core.config.presets import load
from melodygan_core.errors import InputError
from melodygan_core.storage import Artifact, Store
from melodygan_core.training import distributed
from melodygan_core.training.checkpoint import WEIGHTS_FILE
from tests.core.made import FEATURE, SEPARATION, assemble, put_sound, track
from tests.core.several import train_all

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
COMMAND = ["-m", "melodygan_core.cli"]
SETTINGS = """
codecs:
  dense:
    time_bins: 4
    hidden_sizes: [32, 8]
    bfloat16: false
    optimizer: {max_steps: 200, batch_size: 8, eval_every: 50, checkpoint_every_s: 0, device: cpu, patience: 99}
priors:
  dense:
    gan:
      hidden_size: 16
      optimizer: {max_steps: 8, batch_size: 8, eval_every: 4, device: cpu}
"""


def environment() -> dict[str, str]:
    path = os.pathsep.join(sys.path)
    return os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": path}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a dataset of sound."""
    root = tmp_path_factory.mktemp("several") / "store"
    store = Store(str(root))
    names = [f"made-{i:02d}" for i in range(6)]
    for i, name in enumerate(names):
        put_sound(store, name, i)
    save(store, [track(n, tags=("slow" if i % 2 else "fast",)) for i, n in enumerate(names)])
    assert not features.extract(names, store, FEATURE, SEPARATION).failed
    store.write_record(assemble(store, feature=FEATURE))
    return root


def copy(filled: Path, to: Path) -> Store:
    shutil.copytree(filled, to)
    return Store(str(to))


def artifacts(store: Store) -> dict[str, Path]:
    return {p.parent.name: p.parent for p in Path(store.root).glob("models/*/*/*/artifact.json")}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / WEIGHTS_FILE)


def same_curve(one: Artifact, other: Artifact) -> None:
    for a, b in zip(one.metrics["history"], other.metrics["history"], strict=True):
        assert a.keys() == b.keys()
        for name in a:
            assert b[name] == pytest.approx(a[name], rel=1e-4, abs=1e-6), (name, a["step"])


@pytest.mark.slow
def test_two_processes_train_as_one_does(filled: Path, tmp_path: Path) -> None:
    alone = copy(filled, tmp_path / "alone")
    expected = train_all(alone)
    both = copy(filled, tmp_path / "both")
    subprocess.run(
        [*TORCHRUN, "-m", "tests.core.several", both.root], check=True, env=environment(), timeout=120
    )
    # The same versions: existing artifacts are not trained again.
    found = train_all(both)
    assert set(artifacts(both)) == set(artifacts(alone)) and len(found) == 5
    for one, other in zip(expected, found, strict=True):
        assert (one.version, one.inputs) == (other.version, other.inputs)
        assert other.metrics["steps"] == 12
        same_curve(one, other)
        one_of, other_of = (weights(Path(store.root) / a.uri) for store, a in ((alone, one), (both, other)))
        for name, value in one_of.items():
            # Adam divides by the gradient's size: where that is rounding error, so is the step. A fifth of one
            # of the twelve steps; on processors without bfloat16 0.08 of one was seen.
            assert torch.allclose(value, other_of[name], rtol=1e-3, atol=2e-4), (one.name, name)
    assert not list((Path(both.root) / "work").glob("training/*/*/*"))


def arguments(store: Store, settings: Path, asset: str = "dense/autoencoder_checkpoint") -> list[str]:
    return ["train", asset, "--store", store.root, "--preset", "demo", "--config", str(settings)]


def launch(store: Store, settings: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*TORCHRUN, *COMMAND, *arguments(store, settings)],
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
def test_a_killed_process_ends_the_run_and_the_next_run_resumes(filled: Path, tmp_path: Path) -> None:
    store = copy(filled, tmp_path / "store")
    settings = tmp_path / "settings.yaml"
    settings.write_text(SETTINGS, "utf-8")
    run = launch(store, settings)
    work = Path(store.root) / "work"
    deadline = time.monotonic() + 60
    while not list(work.glob("training/dense/autoencoder/*/state.pt")):
        assert run.poll() is None and time.monotonic() < deadline, run.communicate()
        time.sleep(0.02)
    os.kill(children(run.pid)[-1], signal.SIGKILL)
    output, _ = run.communicate(timeout=60)
    assert run.returncode != 0, output
    assert artifacts(store) == {}
    (state,) = work.glob("training/dense/autoencoder/*/state.pt")
    step = torch.load(state, weights_only=True)["step"]
    assert 0 < step < 200

    again = launch(store, settings)
    output, _ = again.communicate(timeout=90)
    assert again.returncode == 0, output
    ((version, folder),) = artifacts(store).items()
    assert f"dense/autoencoder_checkpoint {version}: models/dense/autoencoder/{version}" in output
    # One process, undisturbed, trains the same.
    alone = copy(filled, tmp_path / "alone")
    table = alone.record("feature_table")
    assert table is not None
    made = codec.train("dense", table, alone, load("demo", settings).codecs["dense"])
    assert made.version == version
    for name, value in weights(artifacts(alone)[version]).items():
        assert torch.allclose(value, weights(folder)[name], rtol=1e-3, atol=1e-4), name


@pytest.mark.slow
def test_the_command_trains_what_a_gan_needs_and_nothing_twice(filled: Path, tmp_path: Path) -> None:
    store = copy(filled, tmp_path / "store")
    settings = tmp_path / "settings.yaml"
    settings.write_text(SETTINGS.replace("max_steps: 200", "max_steps: 20"), "utf-8")
    command = arguments(store, settings, "dense/gan_checkpoint")
    first = CliRunner().invoke(main, command, catch_exceptions=False)
    (version,) = [v for v, folder in artifacts(store).items() if folder.parent.name == "gan"]
    assert f"dense/gan_checkpoint {version}: models/dense/gan/{version}" in first.stdout
    assert {folder.parent.name for folder in artifacts(store).values()} == {"autoencoder", "latents", "gan"}
    made = {v: (folder / "artifact.json").stat().st_mtime_ns for v, folder in artifacts(store).items()}
    assert CliRunner().invoke(main, command, catch_exceptions=False).stdout == first.stdout
    assert {v: (folder / "artifact.json").stat().st_mtime_ns for v, folder in artifacts(store).items()} == made


def test_shards_are_equal_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = torch.arange(6)
    assert torch.equal(distributed.local_shard(batch), batch)
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    parts = []
    for number in range(3):
        monkeypatch.setattr(distributed, "rank", lambda number=number: number)
        parts.append(distributed.local_shard(batch))
    assert torch.equal(torch.cat(parts), batch) and {len(p) for p in parts} == {2}
    with pytest.raises(InputError, match=r"batch_size .*multiples of 3"):
        distributed.local_shard(torch.arange(7))


def test_collectives_of_one_process_do_nothing() -> None:
    with distributed.process_group():
        assert (distributed.world_size(), distributed.rank(), distributed.is_main_process()) == (1, 0, True)
        x = torch.tensor([3.0, 4.0], requires_grad=True)
        assert distributed.global_norm(x) == 5.0
        assert torch.equal(distributed.global_mean(x), x) and not distributed.global_mean(x).requires_grad
        assert distributed.all_gather_with_grad(x) is x
        assert distributed.average_gradients(torch.nn.Linear(1, 1))(x) is x
        assert distributed.broadcast("x") == "x"
