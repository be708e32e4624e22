"""The one training loop, on a task whose validations are told in advance."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from melodygan_core.config import OptimizerConfig
from melodygan_core.errors import MelodyGANError
from melodygan_core.training import Batch, TrainResult, Update, Validation, fit, ignore

CONFIG = OptimizerConfig(max_steps=8, eval_every=2, patience=2, warmup_steps=0, learning_rate=0.1)


class Told:
    """Two modules that are updated in turn; `losses` says what each validation finds, None for no candidate."""

    def __init__(self, losses: dict[int, float | None]) -> None:
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(2, 1), nn.Linear(2, 1)
        self.eval_model, self.losses = self.second, losses
        self.optimized_modules = {"first": self.first, "second": self.second}
        self.stateful_modules = {"norm": nn.BatchNorm1d(2)}
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
        loss = self.second(torch.randn(3, 2)).square().sum()
        self.order.append("second")
        yield Update("second", loss, {"b": loss} if step >= 4 else {})

    def validate(self, step: int) -> Validation:
        self.validated[step] = self.second.weight.detach().clone()
        loss = self.losses[step]
        return Validation(loss, {"figure": 10.0 * step if loss is None else loss})


def run(
    losses: dict[int, float | None], work: Path, config: OptimizerConfig = CONFIG
) -> tuple[Told, TrainResult]:
    task = Told(losses)
    return task, fit("told", task, config, work, ignore)


def test_the_best_candidate_is_kept_and_patience_ends_it(tmp_path: Path) -> None:
    task, fitted = run({0: 0.0, 2: 3.0, 4: 1.0, 6: 2.0, 8: 1.5}, tmp_path)
    # What was never trained is shown and is no candidate.
    assert [row["step"] for row in fitted.history] == [0, 2, 4, 6, 8]
    assert (fitted.best_step, fitted.figures) == (4, {"figure": 1.0})
    assert torch.equal(task.eval_model.weight, task.validated[4])
    assert fitted.metrics["validation/figure"] == 1.0 and fitted.metrics["steps"] == 8
    _, fitted = run({0: 0.0, 2: 1.0, 4: 2.0, 6: 2.0, 8: 0.0}, tmp_path)
    assert (fitted.history[-1]["step"], fitted.best_step) == (6, 2)


def test_patience_begins_with_the_first_candidate(tmp_path: Path) -> None:
    _, fitted = run({0: None, 2: None, 4: None, 6: None, 8: 5.0}, tmp_path)
    assert fitted.best_step == 8


def test_without_a_candidate_the_last_is_kept(tmp_path: Path) -> None:
    task, fitted = run(dict.fromkeys((0, 2, 4, 6, 8)), tmp_path)
    assert (fitted.best_step, fitted.figures) == (8, {"figure": 80.0})
    assert torch.equal(task.eval_model.weight, task.validated[8])


def test_updates_go_in_turn_and_their_means_are_shown(tmp_path: Path) -> None:
    seen: list[int] = []
    task = Told({0: 1.0, 2: 1.0, 4: 0.9, 6: 0.8, 8: 0.7})
    fitted = fit("told", task, CONFIG, tmp_path, lambda step, row: seen.append(step))
    assert task.order == ["first", "second"] * 8
    assert seen == [2, 4, 6, 8]
    assert ["train/b" in row for row in fitted.history] == [False, False, False, True, True]
    assert all("train/a" in row for row in fitted.history[1:])


def test_a_figure_that_is_no_number_is_named(tmp_path: Path) -> None:
    with pytest.raises(MelodyGANError, match=r"the told diverged by step 4: {'validation/figure': nan}"):
        run({0: 1.0, 2: 1.0, 4: math.nan, 6: 1.0, 8: 1.0}, tmp_path)


@pytest.mark.parametrize("killed", [3, 4, 7])
def test_a_killed_one_goes_on_where_it_was(tmp_path: Path, killed: int) -> None:
    class Dies(Told):
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
        fit("told", Dies(losses), often, tmp_path / "b", ignore)
    torch.manual_seed(4321)
    again, fitted = run(losses, tmp_path / "b", often)
    assert len(again.order) == 2 * (8 - killed)
    assert fitted.history == expected.history and fitted.best_step == expected.best_step
    assert torch.equal(again.first.weight, straight.first.weight)
    assert torch.equal(again.eval_model.weight, straight.eval_model.weight)
    norms = [t.stateful_modules["norm"].state_dict()["running_mean"] for t in (again, straight)]
    assert torch.equal(*norms)
