"""What a training remembers: its moving average, its best weights, and all of it on disk."""

from __future__ import annotations

import copy
import math
import os
import pickle
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from melodygan_core.training import distributed

M = TypeVar("M", bound=nn.Module)


class EMA(Generic[M]):
    """An exponential moving average of a module's weights.

    Args:
        module: Followed; `self.module` is its smoothed copy.
        decay: Of the average; the first updates use a smaller one, so that the start is forgotten.
    """

    def __init__(self, module: M, decay: float) -> None:
        self.module: M = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Moves the average one step towards the module."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for average, value in zip(self.module.state_dict().values(), module.state_dict().values(), strict=True):
            if average.is_floating_point():
                average.lerp_(value, 1 - decay)
            else:
                average.copy_(value)


@dataclass
class Best:
    """The best validation so far, its weights, and how long it has stood.

    Attributes:
        value: Lower is better.
        step: When.
        state: Weights then.
        stale: Validations since.
    """

    value: float = math.inf
    step: int = -1
    state: dict[str, Tensor] = field(default_factory=dict)
    stale: int = 0

    def offer(self, value: float, step: int, module: nn.Module) -> bool:
        """Takes the module's weights if the value is better; says whether it did."""
        if value < self.value:
            self.value, self.step, self.stale = value, step, 0
            self.state = {k: v.detach().clone() for k, v in module.state_dict().items()}
            return True
        if self.step >= 0:  # Patience begins with the first candidate.
            self.stale += 1
        return False


class TrainState:
    """The state of one training on disk, so that a killed run goes on from its last save.

    The file is this project's own scratch and is read with `weights_only=True`; it is never published.

    Args:
        path: Of the file.
        every_s: Seconds between two saves.
        parts: Modules and optimizers by name.
        recent: Tensors since the last validation, which the history's next row is an average of.
    """

    def __init__(
        self, path: Path, every_s: float, parts: dict[str, Any], recent: list[Any] | None = None
    ) -> None:
        self._path = path
        self._every_s = every_s
        self._parts = parts
        self._recent: list[Any] = [] if recent is None else recent
        self._last = time.monotonic()

    def load(self, best: Best, history: list[dict[str, float]]) -> int:
        """Restores everything and returns the next step; 0 when there is nothing to resume."""
        state = distributed.broadcast(self._read() if distributed.is_main_process() else None)
        if state is None:
            return 0
        if set(state["parts"]) != set(self._parts):
            warnings.warn(f"{self._path} is of another version; training starts again", stacklevel=2)
            return 0
        for name, part in self._parts.items():
            part.load_state_dict(state["parts"][name])
        best.value, best.step, best.stale = state["best"]
        best.state = state["best_state"]
        history[:], self._recent[:] = state["history"], state.get("recent", [])
        torch.set_rng_state(state["rng"])
        if state["cuda_rng"] and torch.cuda.is_available():
            if distributed.world_size() == 1:
                torch.cuda.set_rng_state_all(state["cuda_rng"])
            else:  # The leader drew with its first GPU, and all draw alike.
                torch.cuda.set_rng_state(state["cuda_rng"][0])
        return int(state["step"])

    def _read(self) -> dict[str, Any] | None:
        if not self._path.exists():
            return None
        try:
            return torch.load(self._path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
            # A disk that was full or lost power: the work is lost, but must not stand in the way for ever.
            warnings.warn(f"{self._path} cannot be read ({error}); training starts again", stacklevel=2)
            return None

    def save(self, step: int, best: Best, history: list[dict[str, float]], *, force: bool = False) -> None:
        """Saves, atomically, if enough time has passed since the last save; `step` is the next to do."""
        if not distributed.is_main_process():
            return
        if not force and time.monotonic() - self._last < self._every_s:
            return
        state = {
            "parts": {name: part.state_dict() for name, part in self._parts.items()},
            "best": [best.value, best.step, best.stale],
            "best_state": best.state,
            "history": history,
            "recent": self._recent,
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "step": step,
        }
        temporary = self._path.with_suffix(".tmp")
        torch.save(state, temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(self._path)
        self._last = time.monotonic()
