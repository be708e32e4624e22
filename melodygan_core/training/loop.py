"""The training loop of every model: steps, validations, early stop, checkpoints."""

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
from melodygan_core.training.optimizer import allow_tf32, learning_rate, optimizer_for, update
from melodygan_core.training.prefetch import Batch, prefetch
from melodygan_core.training.preview import PreviewCallback, PreviewTask
from melodygan_core.training.state import Progress, TrainState

# Steps in a row with a skipped update that end a training.
MAX_SKIPPED_STEPS = 10

# Called after each validation with the step and a flat dict of namespaced metrics.
MetricsCallback = Callable[[int, dict[str, float]], None]


def ignore(step: int, figures: dict[str, float]) -> None:
    """A MetricsCallback that does nothing."""


class Update(NamedTuple):
    """One optimizer update within a step.

    Attributes:
        part: Name of the optimized module.
        loss: Scalar that this update minimises.
        figures: Namespaced losses to log, scalars on the module's device.
    """

    part: str
    loss: Tensor
    figures: dict[str, Tensor]


class Validation(NamedTuple):
    """Result of a validation.

    Attributes:
        loss: The weights with the lowest loss are kept; None if these weights are no candidate.
        figures: Metrics to log.
    """

    loss: float | None
    figures: dict[str, float]


class Task(Protocol):
    """One training: its modules, batches, losses and validation."""

    @property
    def eval_model(self) -> nn.Module:
        """The module that is validated, and whose best weights are the result."""
        ...

    @property
    def optimized_modules(self) -> Mapping[str, nn.Module]:
        """Modules with an optimizer of their own, on their device."""
        ...

    @property
    def stateful_modules(self) -> Mapping[str, nn.Module]:
        """Modules without an optimizer whose state changes from step to step, on the same device."""
        ...

    def get_batch(self, step: int) -> Batch:
        """The whole batch of a step, on the CPU. Called ahead, in a thread: it depends on the step alone."""
        ...

    def training_step(self, step: int, batch: Batch) -> Iterator[Update]:
        """Yields the updates of a step, in order; each is done before the next is computed.

        Args:
            step: From 0.
            batch: This process's shard of `get_batch(step)`, on the device. All other random numbers come from
                torch's default generators.
        """
        ...

    def validate(self, step: int) -> Validation:
        """Evaluates `eval_model` on the validation split after `step` steps."""
        ...


@dataclass(frozen=True)
class TrainResult:
    """Result of a training; the task's `eval_model` has the best weights.

    Attributes:
        best_step: Step of the best weights.
        figures: Metrics of the validation at that step.
        history: One row per validation: `step`, `train/...` and `validation/...`.
        duration_s: Since this process started or resumed the training.
    """

    best_step: int
    figures: dict[str, float]
    history: list[dict[str, float]]
    duration_s: float

    @property
    def metrics(self) -> dict[str, Any]:
        """The metrics of the artifact."""
        return {
            "steps": self.history[-1]["step"],
            "best_step": self.best_step,
            **{f"validation/{k}": v for k, v in self.figures.items()},
            "duration_s": self.duration_s,
            "history": self.history,
        }


def fit(
    name: str,
    task: Task,
    config: OptimizerConfig,
    work: Path,
    callback: MetricsCallback,
    betas: tuple[float, float] = (0.9, 0.99),
) -> TrainResult:
    """Trains until the validation loss stops falling; resumes from the checkpoint in `work` if there is one.

    The caller seeds torch before it builds the task: `seed_everything(config.seed)`.

    Args:
        name: For the progress bar and errors, such as `dense codec`.
        task: What to train.
        config: Steps, learning rate, early stop.
        work: Folder of the resumable checkpoint.
        callback: Called after every validation; a PreviewCallback is given what can be heard, too.
        betas: Of AdamW.

    Raises:
        MelodyGANError: a validation metric is not finite, or MAX_SKIPPED_STEPS steps in a row were skipped.
        StorageError: a checkpoint could not be written.
    """
    started = time.monotonic()
    device = next(task.eval_model.parameters()).device
    allow_tf32(device)
    optimizers = {part: optimizer_for(module, config, betas) for part, module in task.optimized_modules.items()}
    average = {part: distributed.average_gradients(module) for part, module in task.optimized_modules.items()}
    parts = {
        **task.optimized_modules,
        **task.stateful_modules,
        **{f"{part}_optimizer": optimizer for part, optimizer in optimizers.items()},
    }
    progress = Progress()
    best, history = progress.best, progress.history

    with TrainState(work / "state.pt", config.checkpoint_every_s, parts, device) as state:
        first = state.load(progress)
        if first == 0:
            # For comparison only: untrained weights are never kept.
            figures = distributed.broadcast(task.validate(0)).figures
            history.append({"step": 0, **_prefixed("validation", figures)})

        with closing(prefetch(task.get_batch, range(first, config.max_steps), device)) as batches:
            for step, batch in zip(_progress_bar(name, first, config.max_steps), batches, strict=True):
                rate = learning_rate(step, config)
                losses: dict[str, Tensor] = {}
                skipped = []
                for part, loss, figures in task.training_step(step, batch):
                    if update(optimizers[part], average[part](loss), rate, config.clip_norm) is None:
                        skipped.append(part)
                    else:
                        losses |= figures
                _record(progress, losses, skipped, name, step)

                if (step + 1) % config.eval_every == 0 or step + 1 == config.max_steps:
                    # Every process validates, so that all draw the same random numbers. The main process's
                    # loss, whose last digits may differ, decides for all.
                    loss, figures = distributed.broadcast(task.validate(step + 1))
                    row = _training_figures(progress) | _prefixed("validation", figures)
                    if invalid := {k: v for k, v in row.items() if not math.isfinite(v)}:
                        raise MelodyGANError(f"the {name} diverged by step {step + 1}: {invalid}")
                    best.offer(math.inf if loss is None else loss, step + 1, task.eval_model)
                    history.append({"step": step + 1, **row})
                    callback(step + 1, row)
                    if isinstance(callback, PreviewCallback) and isinstance(task, PreviewTask):
                        callback.preview(step + 1, task.preview())
                    if best.stale >= config.patience:
                        break
                state.save(step + 1, progress)

    # Without any candidate the last weights are kept; the checks of the artifact then fail.
    if best.step >= 0:
        task.eval_model.load_state_dict(best.state)
    chosen = next(row for row in history if row["step"] == best.step) if best.step >= 0 else history[-1]
    figures = {k.removeprefix("validation/"): v for k, v in chosen.items() if k.startswith("validation/")}
    return TrainResult(int(chosen["step"]), figures, history, round(time.monotonic() - started, 1))


def _record(progress: Progress, losses: dict[str, Tensor], skipped: list[str], name: str, step: int) -> None:
    progress.recent.append(_mean_over_processes(losses))
    progress.skipped += bool(skipped)
    progress.skipped_in_a_row = progress.skipped_in_a_row + 1 if skipped else 0
    if progress.skipped_in_a_row >= MAX_SKIPPED_STEPS:
        raise MelodyGANError(
            f"the {name} diverged at step {step}: loss or gradients of {', '.join(skipped)} were not finite in "
            f"{MAX_SKIPPED_STEPS} steps in a row"
        )


def _training_figures(progress: Progress) -> dict[str, float]:
    """Mean losses of the steps since the last validation, and the number of skipped steps; starts anew."""
    names = sorted({name for row in progress.recent for name in row})
    means = {n: float(torch.stack([row[n].cpu() for row in progress.recent if n in row]).mean()) for n in names}
    means["skipped_steps"] = float(progress.skipped)
    progress.recent.clear()
    progress.skipped = 0
    return _prefixed("train", means)


def _mean_over_processes(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    parts = {k: v.detach() for k, v in losses.items()}
    if distributed.world_size() == 1 or not parts:
        return parts
    return dict(zip(parts, distributed.global_mean(torch.stack([*parts.values()])).unbind(), strict=True))


def _prefixed(prefix: str, figures: dict[str, float]) -> dict[str, float]:
    return {f"{prefix}/{k}": v for k, v in figures.items()}


def _progress_bar(name: str, first: int, last: int) -> Iterable[int]:
    bar = {"desc": name, "unit": "step", "initial": first, "total": last, "mininterval": 1.0}
    return tqdm(range(first, last), disable=not distributed.is_main_process(), **bar)
