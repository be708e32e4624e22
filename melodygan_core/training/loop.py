"""The one training loop: updates, validations, early stop, resuming."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from melodygan_core.config import OptimizerConfig
from melodygan_core.errors import MelodyGANError
from melodygan_core.training import distributed
from melodygan_core.training.optimizer import learning_rate, optimizer_for, update
from melodygan_core.training.prefetch import Batch, prefetch
from melodygan_core.training.state import Best, TrainState

# Called with the step and a flat dict of namespaced figures, after each validation.
MetricsCallback = Callable[[int, dict[str, float]], None]


def ignore(step: int, figures: dict[str, float]) -> None:
    """A MetricsCallback that does nothing."""


class Update(NamedTuple):
    """One update within a step.

    Attributes:
        part: Which of the task's trained modules.
        loss: Minimised by it.
        figures: Namespaced losses to be shown.
    """

    part: str
    loss: Tensor
    figures: dict[str, Tensor]


class Validation(NamedTuple):
    """What the model is worth now.

    Attributes:
        loss: The weights with the lowest are kept; None when these are no candidate.
        figures: To be shown.
    """

    loss: float | None
    figures: dict[str, float]


class Task(Protocol):
    """What a training is about: what is trained, by which losses, and how it is judged."""

    @property
    def eval_model(self) -> nn.Module:
        """The module whose best weights are the result."""
        ...

    @property
    def optimized_modules(self) -> Mapping[str, nn.Module]:
        """Modules that have an optimizer of their own, on their device."""
        ...

    @property
    def stateful_modules(self) -> Mapping[str, nn.Module]:
        """Modules without optimizer whose state goes on from step to step."""
        ...

    def get_batch(self, step: int) -> Batch:
        """The whole batch of a step, on the CPU; by the step alone, for it is asked for ahead, in a thread."""
        ...

    def training_step(self, step: int, batch: Batch) -> Iterator[Update]:
        """The updates of a step, in order; each is done before the next is asked for.

        Args:
            step: Which.
            batch: What was drawn for it, on the device of what is trained. All else that is random is torch's
                generator's.
        """
        ...

    def validate(self, step: int) -> Validation:
        """Judges what is kept, on the validation split, after so many steps."""
        ...


@dataclass(frozen=True)
class TrainResult:
    """What a training came to; what the task keeps has its best weights.

    Attributes:
        best_step: When the kept weights were validated.
        figures: Of the validation then.
        history: One row a validation, `train/...` and `validation/...`.
        duration_s: Since this process started or resumed it.
    """

    best_step: int
    figures: dict[str, float]
    history: list[dict[str, float]]
    duration_s: float

    @property
    def metrics(self) -> dict[str, Any]:
        """As an artifact's metrics."""
        return {
            "steps": self.history[-1]["step"],
            "best_step": self.best_step,
            **{f"validation/{k}": v for k, v in self.figures.items()},
            "duration_s": self.duration_s,
            "history": self.history,
        }


def steps(name: str, first: int, last: int) -> Iterable[int]:
    """A progress bar over optimizer updates."""
    bar = {"desc": name, "unit": "step", "initial": first, "total": last, "mininterval": 1.0}
    return tqdm(range(first, last), disable=not distributed.is_main_process(), **bar)


def fit(
    name: str,
    task: Task,
    config: OptimizerConfig,
    work: Path,
    observe: MetricsCallback,
    betas: tuple[float, float] = (0.9, 0.99),
) -> TrainResult:
    """Trains until the validation loss stops falling, resuming where a killed run stopped.

    Args:
        name: For progress bar and errors, such as `dense autoencoder`.
        task: What is trained, and how.
        config: How long, how fast, when to stop.
        work: A folder for the resumable state.
        observe: Called after every validation.
        betas: Of AdamW.

    Raises:
        MelodyGANError: training diverged.
    """
    optimizers = {part: optimizer_for(module, config, betas) for part, module in task.optimized_modules.items()}
    best, history = Best(), []
    recent: list[dict[str, Tensor]] = []
    parts = {
        **task.optimized_modules,
        **task.stateful_modules,
        **{f"{part}_optimizer": o for part, o in optimizers.items()},
    }
    state = TrainState(work / "state.pt", config.checkpoint_every_s, parts, recent)
    averaged = {part: distributed.average_gradients(module) for part, module in task.optimized_modules.items()}
    first = state.load(best, history)
    if first == 0:
        # Shown, but no candidate: what was never trained is not what anybody asked for.
        history.append({"step": 0, **_row("validation", distributed.broadcast(task.validate(0)).figures)})
    started = time.monotonic()

    device = next(task.eval_model.parameters()).device
    with closing(prefetch(task.get_batch, range(first, config.max_steps), device)) as batches:
        for step, batch in zip(steps(name, first, config.max_steps), batches, strict=True):
            losses: dict[str, Tensor] = {}
            for part, loss, figures in task.training_step(step, batch):
                rate = learning_rate(step, config)
                update(optimizers[part], averaged[part](loss), rate, config.clip_norm, step, f"{name} ({part})")
                losses |= figures
            recent.append(_of_whole_batch(losses))
            if (step + 1) % config.eval_every == 0 or step + 1 == config.max_steps:
                # All judge, so that all have drawn alike; the leader's last digits decide when to stop.
                loss_now, shown = distributed.broadcast(task.validate(step + 1))
                row = _row("train", means(recent)) | _row("validation", shown)
                if wrong := {k: v for k, v in row.items() if not math.isfinite(v)}:
                    raise MelodyGANError(f"the {name} diverged by step {step + 1}: {wrong}")
                best.offer(math.inf if loss_now is None else loss_now, step + 1, task.eval_model)
                history.append({"step": step + 1, **row})
                recent.clear()
                observe(step + 1, row)
                if best.stale >= config.patience:
                    break
            state.save(step + 1, best, history)

    # Where no validation was a candidate the last weights are kept, and checks on what they make fail.
    if best.step >= 0:
        task.eval_model.load_state_dict(best.state)
    chosen = next(row for row in history if row["step"] == best.step) if best.step >= 0 else history[-1]
    figures = {k.removeprefix("validation/"): v for k, v in chosen.items() if k.startswith("validation/")}
    return TrainResult(int(chosen["step"]), figures, history, round(time.monotonic() - started, 1))


def _row(kind: str, figures: dict[str, float]) -> dict[str, float]:
    return {f"{kind}/{k}": v for k, v in figures.items()}


def _of_whole_batch(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    parts = {k: v.detach() for k, v in losses.items()}
    if distributed.world_size() == 1:
        return parts
    return dict(zip(parts, distributed.global_mean(torch.stack([*parts.values()])).unbind(), strict=True))


def means(rows: list[dict[str, Tensor]]) -> dict[str, float]:
    """The mean of each figure over the rows that have it."""
    names = {k for row in rows for k in row}
    return {k: float(torch.stack([row[k].cpu() for row in rows if k in row]).mean()) for k in sorted(names)}
