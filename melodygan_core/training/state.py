"""What a training keeps between steps: moving average, best weights, progress, and the resumable checkpoint."""

from __future__ import annotations

import copy
import math
import os
import pickle
import time
import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Generic, Self, TypeVar

import torch
from torch import Tensor, nn

from melodygan_core.errors import storage_errors
from melodygan_core.storage.files import named_errors
from melodygan_core.training import distributed

M = TypeVar("M", bound=nn.Module)


class EMA(Generic[M]):
    """Exponential moving average of a module's weights and buffers.

    `torch.optim.swa_utils.AveragedModel` starts from a copy of the first update's weights and passes its
    averaging function no step, so that the warm-up of the decay would need a counter of its own.

    Args:
        module: To average; `self.module` is the average.
        decay: Of the average. At step k it is at most (1 + k) / (10 + k), so that the start is soon forgotten.
    """

    def __init__(self, module: M, decay: float) -> None:
        self.module: M = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Moves the average one step towards the module; integer buffers are copied."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for average, value in zip(self.module.state_dict().values(), module.state_dict().values(), strict=True):
            if average.is_floating_point():
                average.lerp_(value, 1 - decay)
            else:
                average.copy_(value)


@dataclass
class Best:
    """The best validation so far and its weights.

    Attributes:
        value: Validation loss; lower is better.
        step: Of that validation; -1 before the first candidate.
        state: Weights at that step.
        stale: Validations since.
    """

    value: float = math.inf
    step: int = -1
    state: dict[str, Tensor] = field(default_factory=dict)
    stale: int = 0

    def offer(self, value: float, step: int, module: nn.Module) -> bool:
        """Copies the module's weights if the value is better; returns whether it is."""
        if value < self.value:
            self.value, self.step, self.stale = value, step, 0
            self.state = {k: v.detach().clone() for k, v in module.state_dict().items()}
            return True
        if self.step >= 0:  # Patience begins with the first candidate.
            self.stale += 1
        return False


@dataclass
class Progress:
    """What the loop itself accumulates; part of the checkpoint.

    Attributes:
        best: Best validation.
        history: One row per validation.
        recent: Losses of each step since the last validation.
        skipped: Steps with a skipped update since the last validation.
        skipped_in_a_row: Latest steps, without a gap, that had a skipped update.
    """

    best: Best = field(default_factory=Best)
    history: list[dict[str, float]] = field(default_factory=list)
    recent: list[dict[str, Tensor]] = field(default_factory=list)
    skipped: int = 0
    skipped_in_a_row: int = 0


class TrainState:
    """The resumable checkpoint of one training: weights, optimizers, progress, random state, step.

    Tensors are copied to the CPU in the loop and written in a thread, one checkpoint at a time. The file is
    replaced atomically: a process that is killed leaves the previous checkpoint. It is scratch, never
    published, and is read with `weights_only=True`. Use as a context manager, which waits for the last write.

    Args:
        path: Of the file.
        every_s: Seconds from the end of one write to the start of the next; 0 saves after every step, and then
            a step waits for the write of the one before.
        parts: Modules and optimizers by name.
        device: Of the modules; its random state is saved beside the CPU's.
    """

    def __init__(self, path: Path, every_s: float, parts: dict[str, Any], device: torch.device) -> None:
        self._path, self._every_s, self._parts, self._device = path, every_s, parts, device
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None
        self._written_at = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.wait()
        except Exception as failed:
            if error is None:
                raise
            error.add_note(f"The last checkpoint was not written either: {failed}")
        finally:
            self._thread.shutdown()

    def load(self, progress: Progress) -> int:
        """Restores everything and returns the next step; 0 if there is nothing to resume."""
        state = distributed.broadcast(self._read() if distributed.is_main_process() else None)
        if state is None:
            return 0
        if state.keys() != self._state(0, progress).keys() or state["parts"].keys() != self._parts.keys():
            warnings.warn(f"{self._path} is of another version; training starts again", stacklevel=2)
            return 0
        for name, part in self._parts.items():
            part.load_state_dict(state["parts"][name])
        best = progress.best
        best.value, best.step, best.stale = state["best"]
        best.state, progress.history[:], progress.recent[:] = (
            state["best_state"],
            state["history"],
            state["recent"],
        )
        progress.skipped, progress.skipped_in_a_row = state["skipped"]
        _set_random_state(state["random"], self._device)
        return int(state["step"])

    def save(self, step: int, progress: Progress) -> None:
        """Starts to write a checkpoint if one is due; `step` is the next to do.

        Raises:
            StorageError: the previous checkpoint could not be written.
        """
        if not distributed.is_main_process():
            return
        if self._every_s > 0:
            if self._writing is not None and not self._writing.done():
                return
            if time.monotonic() - self._written_at < self._every_s:
                return
        self.wait()
        # The next step changes the tensors while they are written: the copy is what makes a checkpoint whole.
        self._writing = self._thread.submit(self._write, _copy_to_cpu(self._state(step, progress)))

    def wait(self) -> None:
        """Waits for the checkpoint that is being written.

        Raises:
            StorageError: it could not be written.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _state(self, step: int, progress: Progress) -> dict[str, Any]:
        best = progress.best
        return {
            "parts": {name: part.state_dict() for name, part in self._parts.items()},
            "best": [best.value, best.step, best.stale],
            "best_state": best.state,
            "history": progress.history,
            "recent": progress.recent,
            "skipped": [progress.skipped, progress.skipped_in_a_row],
            "random": _random_state(self._device),
            "step": step,
        }

    def _read(self) -> dict[str, Any] | None:
        if not self._path.exists():
            return None
        try:
            return torch.load(self._path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
            # A full disk or a power cut: the work is lost, but must not block the training for ever.
            warnings.warn(f"{self._path} cannot be read ({error}); training starts again", stacklevel=2)
            return None

    def _write(self, state: dict[str, Any]) -> None:
        temporary = self._path.with_suffix(".tmp")
        with storage_errors(), named_errors(self._path):
            try:
                with temporary.open("wb") as file:
                    _save(state, file)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError:
                # What is half written would keep a full disk full.
                temporary.unlink(missing_ok=True)
                raise
            temporary.replace(self._path)
        self._written_at = time.monotonic()


def _save(state: dict[str, Any], file: BinaryIO) -> None:
    try:
        torch.save(state, file)
    except RuntimeError as error:
        # torch closes its archive after a failed write, and that error hides the one of the disk.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def _copy_to_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {k: _copy_to_cpu(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copy_to_cpu(v) for v in value)
    return value


def _random_state(device: torch.device) -> dict[str, Tensor]:
    # Of the training's device only, because the resuming machine may have fewer. All processes draw alike.
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def _set_random_state(states: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type not in states:
        warnings.warn(
            f"the checkpoint has the random state of {', '.join(states)} but not of {device.type}: "
            "the resumed training draws other random numbers than an undisturbed one",
            stacklevel=3,
        )
    elif device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps":
        torch.mps.set_rng_state(states["mps"])
