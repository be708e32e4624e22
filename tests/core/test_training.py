from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from melodygan_core.config import OptimizerConfig
from melodygan_core.errors import InputError, MelodyGANError
from melodygan_core.training import (
    EMA,
    Best,
    TrainState,
    learning_rate,
    optimizer_for,
    resolve_device,
    seed_everything,
    update,
)

CONFIG = OptimizerConfig(max_steps=100, warmup_steps=10, learning_rate=1.0, weight_decay=0.1)


def weights(module: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in module.parameters()]


def test_the_schedule_warms_up_linearly_and_ends_at_a_tenth() -> None:
    assert [learning_rate(s, CONFIG) for s in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert learning_rate(10, CONFIG) == pytest.approx(1.0)
    assert learning_rate(55, CONFIG) == pytest.approx(0.55)
    assert learning_rate(100, CONFIG) == pytest.approx(0.1)
    assert learning_rate(1000, CONFIG) == pytest.approx(0.1)
    falling = [learning_rate(s, CONFIG) for s in range(10, 101)]
    assert falling == sorted(falling, reverse=True)
    assert learning_rate(0, OptimizerConfig(warmup_steps=0, learning_rate=2.0)) == pytest.approx(2.0)


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


def test_the_average_copies_counters() -> None:
    module = nn.BatchNorm1d(2)
    ema = EMA(module, 0.9)
    module(torch.randn(4, 2))
    ema.update(module, 5)
    assert int(ema.module.state_dict()["num_batches_tracked"]) == 1


def test_an_update_clips_the_gradient_and_takes_the_rate() -> None:
    module = nn.Linear(2, 1, bias=False)
    before = weights(module)[0]
    optimizer = torch.optim.SGD(module.parameters(), lr=123.0)
    norm = update(optimizer, (module(torch.tensor([[3.0, 4.0]])) * 10).sum(), 0.5, 1.0, 0, "x")
    assert norm == pytest.approx(50.0)
    assert torch.allclose(before - weights(module)[0], 0.5 * torch.tensor([[0.6, 0.8]]), atol=1e-5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_diverged_update_is_an_error_and_changes_nothing(value: float) -> None:
    module = nn.Linear(2, 2)
    optimizer = optimizer_for(module, CONFIG, (0.9, 0.99))
    before = weights(module)
    with pytest.raises(MelodyGANError, match="the thing diverged at step 7"):
        update(optimizer, (module(torch.ones(1, 2)) * value).sum(), 1.0, 1.0, 7, "the thing")
    assert all(torch.equal(a, b) for a, b in zip(before, weights(module), strict=True))


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


def train(path: Path, last: int, first_seed: int) -> tuple[list[torch.Tensor], Best, list[dict[str, float]]]:
    seed_everything(first_seed)
    module = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    optimizer = optimizer_for(module, CONFIG, (0.9, 0.99))
    best, history = Best(), []
    state = TrainState(path, 0.0, {"module": module, "optimizer": optimizer})
    for step in range(state.load(best, history), last):
        loss = module(torch.randn(16, 4)).square().mean()
        update(optimizer, loss, 1e-2, 1.0, step, "x")
        best.offer(float(loss.detach()), step, module)
        history.append({"step": step, "loss": float(loss.detach())})
        state.save(step + 1, best, history)
    return weights(module), best, history


def test_a_resumed_training_ends_where_an_undisturbed_one_does(tmp_path: Path) -> None:
    straight, best, history = train(tmp_path / "a.pt", 20, 0)
    train(tmp_path / "b.pt", 7, 0)
    # What was drawn before a load must not matter: dropout and noise go on where they stopped.
    again, best_again, history_again = train(tmp_path / "b.pt", 20, 99)
    assert all(torch.equal(a, b) for a, b in zip(straight, again, strict=True))
    assert history_again == history
    assert (best_again.value, best_again.step) == (best.value, best.step)
    assert all(torch.equal(best.state[k], best_again.state[k]) for k in best.state)
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".tmp"] == []


def test_states_are_saved_as_often_as_asked(tmp_path: Path) -> None:
    module = nn.Linear(1, 1)
    state = TrainState(tmp_path / "s.pt", 3600.0, {"module": module})
    assert state.load(Best(), []) == 0
    state.save(1, Best(), [])
    assert not (tmp_path / "s.pt").exists()
    state.save(2, Best(), [], force=True)
    assert state.load(Best(), []) == 2


def test_a_state_that_is_code_is_not_run(tmp_path: Path) -> None:
    class Boom:
        def __reduce__(self) -> tuple[object, ...]:
            return (exec, ("raise SystemExit('ran code')",))

    torch.save({"step": Boom()}, tmp_path / "s.pt")
    with pytest.warns(UserWarning, match="cannot be read"):
        assert TrainState(tmp_path / "s.pt", 0.0, {}).load(Best(), []) == 0


def test_a_state_that_is_torn_does_not_stand_in_the_way(tmp_path: Path) -> None:
    module = nn.Linear(3, 3)
    state = TrainState(tmp_path / "s.pt", 0.0, {"module": module})
    state.save(5, Best(), [])
    whole = (tmp_path / "s.pt").read_bytes()
    for size in (0, 10, len(whole) // 2):
        (tmp_path / "s.pt").write_bytes(whole[:size])
        with pytest.warns(UserWarning, match="training starts again"):
            assert state.load(Best(), []) == 0


def test_the_state_of_another_version_does_not_stand_in_the_way(tmp_path: Path) -> None:
    TrainState(tmp_path / "s.pt", 0.0, {"old_name": nn.Linear(3, 3)}).save(5, Best(), [])
    with pytest.warns(UserWarning, match="of another version; training starts again"):
        assert TrainState(tmp_path / "s.pt", 0.0, {"module": nn.Linear(3, 3)}).load(Best(), []) == 0


def test_devices() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(InputError, match="device is 'tpu'; allowed: auto, cpu"):
        resolve_device("tpu")
