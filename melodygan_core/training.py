"""What every training loop needs: seed, device, schedule, moving average, resuming, progress."""

from __future__ import annotations

import copy
import math
import os
import pickle
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from melodygan_core.config import OptimizerConfig
from melodygan_core.errors import InputError, MelodyGANError

M = TypeVar("M", bound=nn.Module)

# Called with the step and a flat dict of namespaced figures, after each validation.
Observer = Callable[[int, dict[str, float]], None]


def ignore(step: int, figures: dict[str, float]) -> None:
    """The Observer that looks away."""


def resolve_device(name: str) -> torch.device:
    """`auto` is CUDA, else MPS, else the CPU.

    Raises:
        InputError: the device is not there.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(d for d in ("cuda", "mps", "cpu") if there[d])
    if not there.get(name.split(":")[0], False):
        raise InputError(f"device is {name!r}; allowed: auto, {', '.join(d for d, ok in there.items() if ok)}")
    return torch.device(name)


def seed_everything(seed: int) -> None:
    """Seeds torch on every device; numpy generators are made where they are used."""
    torch.manual_seed(seed)


def optimizer_for(module: nn.Module, config: OptimizerConfig, betas: tuple[float, float]) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only."""
    matrices = [p for p in module.parameters() if p.requires_grad and p.ndim >= 2]
    others = [p for p in module.parameters() if p.requires_grad and p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas, fused=True)


def learning_rate(step: int, config: OptimizerConfig) -> float:
    """Linear warm-up, then cosine to a tenth of the peak at max_steps."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.max_steps - config.warmup_steps)
    return config.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * min(1.0, progress))))


def update(
    optimizer: torch.optim.Optimizer, loss: Tensor, rate: float, clip_norm: float, step: int, name: str
) -> float:
    """One optimizer update with clipped gradients.

    Returns:
        The gradients' norm before clipping.

    Raises:
        MelodyGANError: the gradients are not finite; the weights are left as they were.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    params = [p for group in optimizer.param_groups for p in group["params"]]
    norm = float(nn.utils.clip_grad_norm_(params, clip_norm))
    if not math.isfinite(norm):
        raise MelodyGANError(
            f"{name} diverged at step {step}: loss {float(loss.detach())}, gradient norm {norm}"
        )
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    return norm


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


class Resumable:
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
        if not self._path.exists():
            return 0
        try:
            state = torch.load(self._path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
            # A disk that was full or lost power: the work is lost, but must not stand in the way for ever.
            warnings.warn(f"{self._path} cannot be read ({error}); training starts again", stacklevel=2)
            return 0
        for name, part in self._parts.items():
            part.load_state_dict(state["parts"][name])
        best.value, best.step, best.stale = state["best"]
        best.state = state["best_state"]
        history[:], self._recent[:] = state["history"], state.get("recent", [])
        torch.set_rng_state(state["rng"])
        return int(state["step"])

    def save(self, step: int, best: Best, history: list[dict[str, float]], *, force: bool = False) -> None:
        """Saves, atomically, if enough time has passed since the last save; `step` is the next to do."""
        if not force and time.monotonic() - self._last < self._every_s:
            return
        state = {
            "parts": {name: part.state_dict() for name, part in self._parts.items()},
            "best": [best.value, best.step, best.stale],
            "best_state": best.state,
            "history": history,
            "recent": self._recent,
            "rng": torch.get_rng_state(),
            "step": step,
        }
        temporary = self._path.with_suffix(".tmp")
        torch.save(state, temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(self._path)
        self._last = time.monotonic()


def steps(name: str, first: int, last: int) -> Iterable[int]:
    """A progress bar over optimizer updates."""
    return tqdm(range(first, last), desc=name, unit="step", initial=first, total=last, mininterval=1.0)
