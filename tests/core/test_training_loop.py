"""The training loop, on a task whose validation losses are given."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from melodygan_core.config import OptimizerConfig, replace
from melodygan_core.errors import MelodyGANError
from melodygan_core.training import MAX_SKIPPED_STEPS, Batch, TrainResult, Update, Validation, fit, ignore

CONFIG = OptimizerConfig(max_steps=8, eval_every=2, patience=2, warmup_steps=0, learning_rate=0.1)


class Scripted:
    """Two modules that are updated in turn; `losses` are those of each validation, None for no candidate.

    Args:
        losses: By step.
        broken: Steps whose second loss is not finite.
    """

    def __init__(self, losses: dict[int, float | None], broken: Collection[int] = ()) -> None:
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(2, 1), nn.Linear(2, 1)
        self.eval_model, self.losses = self.second, losses
        self.optimized_modules = {"first": self.first, "second": self.second}
        self.stateful_modules = {"norm": nn.BatchNorm1d(2)}
        self.broken = broken
        self.validated: dict[int, torch.Tensor] = {}
        self.order: list[str] = []

    def get_batch(self, step: int) -> Batch:
        return {"step": torch.tensor([step])}

    def training_step(self, step: int, batch: Batch) -> Iterator[Update]:
        assert batch["step"].tolist() == [step]
        before = self.first.weight.detach().clone()
        loss = self.first(torch.ones(1, 2)).square().sum()
        self.order.append("first")
        yield Update("first", loss, {"a": loss})
        # The first update is done when the second is asked for.
        assert not torch.equal(self.first.weight, before)
        self.stateful_modules["norm"](torch.randn(4, 2))
        loss = self.second(torch.randn(3, 2)).square().sum() * (math.nan if step in self.broken else 1)
        self.order.append("second")
        yield Update("second", loss, {"b": loss} if step >= 4 else {})

    def validate(self, step: int) -> Validation:
        self.validated[step] = self.second.weight.detach().clone()
        loss = self.losses[step]
        return Validation(loss, {"figure": 10.0 * step if loss is None else loss})


def run(
    losses: dict[int, float | None], work: Path, config: OptimizerConfig = CONFIG
) -> tuple[Scripted, TrainResult]:
    task = Scripted(losses)
    return task, fit("made-up", task, config, work, ignore)


def test_the_best_candidate_is_kept_and_patience_ends_the_training(tmp_path: Path) -> None:
    task, result = run({0: 0.0, 2: 3.0, 4: 1.0, 6: 2.0, 8: 1.5}, tmp_path)
    # Untrained weights are in the history and are no candidate.
    assert [row["step"] for row in result.history] == [0, 2, 4, 6, 8]
    assert (result.best_step, result.figures) == (4, {"figure": 1.0})
    assert torch.equal(task.eval_model.weight, task.validated[4])
    assert result.metrics["validation/figure"] == 1.0 and result.metrics["steps"] == 8
    _, result = run({0: 0.0, 2: 1.0, 4: 2.0, 6: 2.0, 8: 0.0}, tmp_path)
    assert (result.history[-1]["step"], result.best_step) == (6, 2)


def test_patience_begins_with_the_first_candidate(tmp_path: Path) -> None:
    _, result = run({0: None, 2: None, 4: None, 6: None, 8: 5.0}, tmp_path)
    assert result.best_step == 8


def test_without_a_candidate_the_last_is_kept(tmp_path: Path) -> None:
    task, result = run(dict.fromkeys((0, 2, 4, 6, 8)), tmp_path)
    assert (result.best_step, result.figures) == (8, {"figure": 80.0})
    assert torch.equal(task.eval_model.weight, task.validated[8])


def test_updates_are_done_in_turn_and_their_mean_losses_are_reported(tmp_path: Path) -> None:
    seen: list[int] = []
    task = Scripted({0: 1.0, 2: 1.0, 4: 0.9, 6: 0.8, 8: 0.7})
    result = fit("made-up", task, CONFIG, tmp_path, lambda step, row: seen.append(step))
    assert task.order == ["first", "second"] * 8
    assert seen == [2, 4, 6, 8]
    assert ["train/b" in row for row in result.history] == [False, False, False, True, True]
    assert all("train/a" in row for row in result.history[1:])


def test_a_metric_that_is_not_finite_is_named(tmp_path: Path) -> None:
    with pytest.raises(MelodyGANError, match=r"the made-up diverged by step 4: {'validation/figure': nan}"):
        run({0: 1.0, 2: 1.0, 4: math.nan, 6: 1.0, 8: 1.0}, tmp_path)


@pytest.mark.parametrize("killed", [3, 4, 7])
def test_a_killed_training_resumes_where_it_was(tmp_path: Path, killed: int) -> None:
    class Dies(Scripted):
        def training_step(self, step: int, batch: Batch) -> Iterator[Update]:
            if step == killed:
                raise KeyboardInterrupt
            return super().training_step(step, batch)

    losses: dict[int, float | None] = {0: 1.0, 2: None, 4: 2.0, 6: 1.0, 8: 3.0}
    often = replace(CONFIG, checkpoint_every_s=0.0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    straight, expected = run(losses, tmp_path / "a", often)
    with pytest.raises(KeyboardInterrupt):
        fit("made-up", Dies(losses), often, tmp_path / "b", ignore)
    torch.manual_seed(4321)
    again, result = run(losses, tmp_path / "b", often)
    assert len(again.order) == 2 * (8 - killed)
    assert result.history == expected.history and result.best_step == expected.best_step
    assert torch.equal(again.first.weight, straight.first.weight)
    assert torch.equal(again.eval_model.weight, straight.eval_model.weight)
    norms = [t.stateful_modules["norm"].state_dict()["running_mean"] for t in (again, straight)]
    assert torch.equal(*norms)


# Steps that are not finite.

STEADY: dict[int, float | None] = {0: 1.0, 2: 1.0, 4: 0.9, 6: 0.8, 8: 0.7}


def test_an_update_that_is_not_finite_is_skipped_and_counted(tmp_path: Path) -> None:
    task = Scripted(STEADY, broken=(2, 4, 5))
    result = fit("made-up", task, CONFIG, tmp_path, ignore)
    assert [row.get("train/skipped_steps") for row in result.history] == [None, 0, 1, 2, 0]
    # Only the broken update is skipped, and its losses are left out.
    assert all(math.isfinite(v) for row in result.history for v in row.values())
    assert ["train/b" in row for row in result.history] == [False, False, False, False, True]
    assert all("train/a" in row for row in result.history[1:])
    assert all(bool(p.isfinite().all()) for p in task.second.parameters())


def test_many_skipped_steps_in_a_row_end_the_training(tmp_path: Path) -> None:
    config = replace(CONFIG, max_steps=40, eval_every=5, patience=40)
    losses: dict[int, float | None] = dict.fromkeys(range(0, 41, 5), 1.0)
    first = 3
    enough = range(first, first + MAX_SKIPPED_STEPS)
    with pytest.raises(
        MelodyGANError, match=rf"the made-up diverged at step {enough[-1]}: .* second .*in a row"
    ):
        fit("made-up", Scripted(losses, broken=enough), config, tmp_path, ignore)
    few = [k for k in range(40) if k % MAX_SKIPPED_STEPS]
    (tmp_path / "few").mkdir()
    result = fit("made-up", Scripted(losses, broken=few), config, tmp_path / "few", ignore)
    assert sum(row.get("train/skipped_steps", 0) for row in result.history) == len(few)


def test_skipped_steps_are_counted_across_a_resume(tmp_path: Path) -> None:
    class Dies(Scripted):
        def training_step(self, step: int, batch: Batch) -> Iterator[Update]:
            if step == 9:
                raise KeyboardInterrupt
            return super().training_step(step, batch)

    config = replace(CONFIG, max_steps=20, eval_every=20, checkpoint_every_s=0.0)
    losses: dict[int, float | None] = {0: 1.0, 20: 1.0}
    with pytest.raises(KeyboardInterrupt):
        fit("made-up", Dies(losses, broken=range(4, 20)), config, tmp_path, ignore)
    with pytest.raises(MelodyGANError, match="at step 13"):
        fit("made-up", Scripted(losses, broken=range(4, 20)), config, tmp_path, ignore)
