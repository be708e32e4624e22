"""Schedule, moving average, optimizer updates, and the resumable checkpoint."""

from __future__ import annotations

import errno
import math
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from melodygan_core.config import OptimizerConfig
from melodygan_core.errors import InputError, StorageError
from melodygan_core.training import (
    EMA,
    Best,
    Progress,
    TrainState,
    allow_tf32,
    learning_rate,
    optimizer_for,
    resolve_device,
    seed_everything,
    update,
)

CONFIG = OptimizerConfig(max_steps=100, warmup_steps=10, learning_rate=1.0, weight_decay=0.1)
CPU = torch.device("cpu")


def weights(module: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in module.parameters()]


# Schedule.


def test_the_schedule_warms_up_linearly_and_ends_at_a_tenth() -> None:
    assert [learning_rate(s, CONFIG) for s in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert learning_rate(10, CONFIG) == pytest.approx(1.0)
    assert learning_rate(55, CONFIG) == pytest.approx(0.55)
    assert learning_rate(100, CONFIG) == pytest.approx(0.1)
    assert learning_rate(1000, CONFIG) == pytest.approx(0.1)
    falling = [learning_rate(s, CONFIG) for s in range(10, 101)]
    assert falling == sorted(falling, reverse=True)
    assert learning_rate(0, OptimizerConfig(warmup_steps=0, learning_rate=2.0)) == pytest.approx(2.0)


# Moving average.


def test_the_average_of_a_constant_is_the_constant() -> None:
    module = nn.Linear(3, 2)
    ema = EMA(module, 0.9)
    for step in range(5):
        ema.update(module, step)
    for average, value in zip(ema.module.parameters(), module.parameters(), strict=True):
        assert torch.equal(average, value)
        assert not average.requires_grad


def test_the_average_moves_by_its_decay() -> None:
    module = nn.Linear(1, 1, bias=False)
    module.weight.data.fill_(0.0)
    ema = EMA(module, 0.9)
    module.weight.data.fill_(1.0)
    ema.update(module, 0)  # decay min(0.9, 1 / 10)
    assert float(ema.module.weight.detach()) == pytest.approx(0.9)
    module.weight.data.fill_(0.0)
    ema.update(module, 10_000)
    assert float(ema.module.weight.detach()) == pytest.approx(0.81)


def test_the_average_copies_integer_buffers() -> None:
    module = nn.BatchNorm1d(2)
    ema = EMA(module, 0.9)
    module(torch.randn(4, 2))
    ema.update(module, 5)
    assert int(ema.module.state_dict()["num_batches_tracked"]) == 1


# Updates.


def test_an_update_clips_the_gradient_and_uses_the_rate() -> None:
    module = nn.Linear(2, 1, bias=False)
    before = weights(module)[0]
    optimizer = torch.optim.SGD(module.parameters(), lr=123.0)
    norm = update(optimizer, (module(torch.tensor([[3.0, 4.0]])) * 10).sum(), 0.5, 1.0)
    assert norm == pytest.approx(50.0)
    assert torch.allclose(before - weights(module)[0], 0.5 * torch.tensor([[0.6, 0.8]]), atol=1e-5)


def not_finite_gradient(module: nn.Module) -> Tensor:
    return (module(torch.ones(1, 2)) * math.nan).sum()


def infinite_gradient(module: nn.Module) -> Tensor:
    return (module(torch.ones(1, 2)) * math.inf).sum()


def infinite_loss_with_finite_gradient(module: nn.Module) -> Tensor:
    # A damaged target: the gradient of an absolute error is its sign.
    return (module(torch.ones(1, 2)) - torch.tensor([math.inf, 0.0])).abs().mean()


@pytest.mark.parametrize("loss", [not_finite_gradient, infinite_gradient, infinite_loss_with_finite_gradient])
def test_an_update_that_is_not_finite_is_skipped_and_changes_nothing(
    loss: Callable[[nn.Module], Tensor],
) -> None:
    module = nn.Linear(2, 2)
    optimizer = optimizer_for(module, CONFIG, (0.9, 0.99))
    assert update(optimizer, module(torch.ones(1, 2)).sum(), 1e-3, 1.0) is not None
    before, state = weights(module), optimizer.state_dict()["state"]
    moments = [{k: v.clone() for k, v in s.items()} for s in state.values()]
    assert update(optimizer, loss(module), 1.0, 1.0) is None
    assert all(torch.equal(a, b) for a, b in zip(before, weights(module), strict=True))
    after = optimizer.state_dict()["state"].values()
    assert all(torch.equal(a[k], b[k]) for a, b in zip(moments, after, strict=True) for k in a)


def test_only_matrices_decay() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    optimizer = optimizer_for(module, CONFIG, (0.9, 0.99))
    decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert {n: decay[id(p)] for n, p in module.named_parameters()} == {
        "0.weight": 0.1,
        "0.bias": 0.0,
        "1.weight": 0.0,
        "1.bias": 0.0,
    }


def test_the_best_weights_are_a_copy_and_ties_do_not_win() -> None:
    module, best = nn.Linear(1, 1), Best()
    first = weights(module)[0]
    assert best.offer(2.0, 10, module)
    module.weight.data.add_(1)
    assert not best.offer(2.0, 20, module)
    assert not best.offer(float("nan"), 30, module)
    assert (best.value, best.step, best.stale) == (2.0, 10, 2)
    assert torch.equal(best.state["weight"], first)
    assert best.offer(1.0, 40, module)
    assert (best.step, best.stale) == (40, 0)


# The resumable checkpoint.


def train(path: Path, last: int, seed: int) -> tuple[list[Tensor], Progress]:
    seed_everything(seed)
    module = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    optimizer = optimizer_for(module, CONFIG, (0.9, 0.99))
    progress = Progress()
    with TrainState(path, 0.0, {"module": module, "optimizer": optimizer}, CPU) as state:
        for step in range(state.load(progress), last):
            loss = module(torch.randn(16, 4)).square().mean()
            update(optimizer, loss, 1e-2, 1.0)
            progress.best.offer(float(loss.detach()), step, module)
            progress.history.append({"step": step, "loss": float(loss.detach())})
            progress.recent.append({"loss": loss.detach()})
            progress.skipped, progress.skipped_in_a_row = step, 2 * step
            state.save(step + 1, progress)
    return weights(module), progress


def test_a_resumed_training_ends_where_an_undisturbed_one_does(tmp_path: Path) -> None:
    straight, expected = train(tmp_path / "a.pt", 20, 0)
    train(tmp_path / "b.pt", 7, 0)
    # What was drawn before a load does not matter: dropout and noise continue where they stopped.
    again, progress = train(tmp_path / "b.pt", 20, 99)
    assert all(torch.equal(a, b) for a, b in zip(straight, again, strict=True))
    assert progress.history == expected.history and progress.recent == expected.recent
    assert (progress.skipped, progress.skipped_in_a_row) == (19, 38)
    best, expected_best = progress.best, expected.best
    assert (best.value, best.step, best.stale) == (expected_best.value, expected_best.step, expected_best.stale)
    assert all(torch.equal(best.state[k], expected_best.state[k]) for k in best.state)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pt", "b.pt"]


def state_of(path: Path, every_s: float = 0.0, **parts: Any) -> TrainState:
    return TrainState(path, every_s, parts or {"module": nn.Linear(3, 3)}, CPU)


def test_a_checkpoint_is_written_only_when_it_is_due(tmp_path: Path) -> None:
    with state_of(tmp_path / "s.pt", 3600.0) as state:
        state.save(1, Progress())
    assert not (tmp_path / "s.pt").exists()
    with state_of(tmp_path / "s.pt", 0.0) as state:
        state.save(2, Progress())
        state.wait()
        assert state.load(Progress()) == 2


class SlowDisk:
    """torch.save that stops half-way until `proceed` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.proceed, self.reached, self.writes = threading.Event(), threading.Event(), 0
        self._save = torch.save
        monkeypatch.setattr(torch, "save", self)

    def __call__(self, value: Any, file: Any) -> None:
        self.writes += 1
        file.write(b"half")
        file.flush()
        self.reached.set()
        assert self.proceed.wait(30)
        file.seek(0)
        self._save(value, file)


def test_the_loop_goes_on_while_a_checkpoint_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = nn.Linear(3, 3)
    path = tmp_path / "s.pt"
    with state_of(path, module=module) as state:
        state.save(1, Progress())
    disk = SlowDisk(monkeypatch)
    saved = weights(module)
    with state_of(path, 1e-9, module=module) as state:
        state.save(2, Progress())
        assert disk.reached.wait(30)
        # The write hangs. Further steps change the weights, and are not due: one write at a time.
        for step in range(3, 9):
            module.weight.data.add_(1.0)
            state.save(step, Progress())
        # A process killed now leaves the checkpoint before.
        assert torch.load(path, weights_only=True)["step"] == 1
        disk.proceed.set()
        state.wait()
    assert disk.writes == 1
    written = torch.load(path, weights_only=True)
    assert written["step"] == 2
    assert torch.equal(written["parts"]["module"]["weight"], saved[0])
    assert not torch.equal(module.weight, saved[0])


def test_a_state_that_does_not_fit_on_the_disk_names_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.pt"

    def save(state: object, file: object) -> None:
        # As torch does where a write fails.
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos")  # noqa: B904

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(StorageError) as caught, state_of(path) as state:
        state.save(1, Progress())
    assert str(caught.value).startswith(f"the disk is full ({path}); ")


def test_a_full_disk_is_reported_at_the_next_checkpoint_and_keeps_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.pt"
    with state_of(path) as state:
        state.save(1, Progress())

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="disk is full"), state_of(path) as state:
        state.save(2, Progress())
        state.save(3, Progress())
    with pytest.raises(StorageError, match="disk is full"), state_of(path) as state:
        state.save(2, Progress())
    # An error of the training itself is not hidden by it.
    with pytest.raises(ZeroDivisionError) as caught, state_of(path) as state:
        state.save(2, Progress())
        raise ZeroDivisionError
    assert "disk is full" in caught.value.__notes__[0]
    assert torch.load(path, weights_only=True)["step"] == 1


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Boom:
        def __reduce__(self) -> tuple[object, ...]:
            return (exec, ("raise SystemExit('ran code')",))

    torch.save({"step": Boom()}, tmp_path / "s.pt")
    with pytest.warns(UserWarning, match="cannot be read"):
        assert state_of(tmp_path / "s.pt").load(Progress()) == 0


def test_a_training_with_an_incomplete_checkpoint_starts_again(tmp_path: Path) -> None:
    with state_of(tmp_path / "s.pt") as state:
        state.save(5, Progress())
    complete = (tmp_path / "s.pt").read_bytes()
    for size in (0, 10, len(complete) // 2):
        (tmp_path / "s.pt").write_bytes(complete[:size])
        with pytest.warns(UserWarning, match="training starts again"):
            assert state_of(tmp_path / "s.pt").load(Progress()) == 0


def test_a_training_with_the_checkpoint_of_another_version_starts_again(tmp_path: Path) -> None:
    with state_of(tmp_path / "s.pt", old_name=nn.Linear(3, 3)) as state:
        state.save(5, Progress())
    with pytest.warns(UserWarning, match="of another version; training starts again"):
        assert state_of(tmp_path / "s.pt").load(Progress()) == 0
    torch.save({"parts": {"module": nn.Linear(3, 3).state_dict()}, "step": 5}, tmp_path / "s.pt")
    with pytest.warns(UserWarning, match="of another version; training starts again"):
        assert state_of(tmp_path / "s.pt").load(Progress()) == 0


class Gpus:
    """The random states of some GPUs, as torch.cuda gives and takes them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
        self.states = [torch.full((4,), k, dtype=torch.uint8) for k in range(count)]
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: self.states[self.index(device)].clone())
        monkeypatch.setattr(torch.cuda, "set_rng_state", self.set)
        monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: self.states)
        monkeypatch.setattr(
            torch.cuda, "set_rng_state_all", lambda states: [self.set(s, k) for k, s in enumerate(states)]
        )

    @staticmethod
    def index(device: torch.device | int) -> int:
        return device if isinstance(device, int) else device.index or 0

    def set(self, state: Tensor, device: torch.device | int) -> None:
        if self.index(device) >= len(self.states):
            raise RuntimeError("CUDA error: invalid device ordinal")
        self.states[self.index(device)] = state


@pytest.mark.parametrize(
    ("before", "after"), [("cuda:0", "cuda:0"), ("cuda:3", "cuda:0"), ("cuda:0", "cuda:1")]
)
def test_a_training_resumes_on_a_machine_with_fewer_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, after: str
) -> None:
    many = Gpus(monkeypatch, 4)
    many.states[int(before[-1])] = torch.full((4,), 77, dtype=torch.uint8)
    with TrainState(tmp_path / "s.pt", 0.0, {}, torch.device(before)) as state:
        state.save(5, Progress())
    few = Gpus(monkeypatch, 2)
    assert TrainState(tmp_path / "s.pt", 0.0, {}, torch.device(after)).load(Progress()) == 5
    assert few.states[int(after[-1])].tolist() == [77] * 4
    # Other GPUs draw nothing for this training.
    assert few.states[1 - int(after[-1])].tolist() == [1 - int(after[-1])] * 4


def test_a_training_that_resumes_on_another_kind_of_device_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with state_of(tmp_path / "s.pt") as state:
        state.save(5, Progress())
    Gpus(monkeypatch, 1)
    state = TrainState(tmp_path / "s.pt", 0.0, {"module": nn.Linear(3, 3)}, torch.device("cuda", 0))
    with pytest.warns(UserWarning, match="random state of cpu but not of cuda"):
        assert state.load(Progress()) == 5


# Devices.


def test_devices() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device(torch.device("meta")) == torch.device("meta")
    assert resolve_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(InputError, match=r"device.*auto, cpu.*'tpu'"):
        resolve_device("tpu")


@pytest.mark.parametrize(("device", "precision"), [("cuda", "high"), ("cpu", "highest"), ("mps", "highest")])
def test_only_cuda_multiplies_in_tf32(monkeypatch: pytest.MonkeyPatch, device: str, precision: str) -> None:
    chosen = ["highest"]
    monkeypatch.setattr(torch, "set_float32_matmul_precision", chosen.append)
    allow_tf32(torch.device(device))
    assert chosen[-1] == precision


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_state_that_meets_a_full_disk_says_so(tmp_path: Path) -> None:
    # torch's own error is about an unexpected position in its archive.
    (tmp_path / "s.tmp").symlink_to("/dev/full")
    with (
        pytest.raises(StorageError, match=r"^the disk is full \(.*s\.pt\); free some space and run again"),
        state_of(tmp_path / "s.pt") as state,
    ):
        state.save(1, Progress())
    assert list(tmp_path.iterdir()) == []
