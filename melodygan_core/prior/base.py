"""What every prior is (a model that makes new latents of a codec) and what it needs to be trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from melodygan_core.codec import Codec
from melodygan_core.errors import InputError
from melodygan_core.latents import LatentTable
from melodygan_core.training import Task
from melodygan_core.training.checkpoint import MAX_VALUE


@dataclass(frozen=True)
class LatentSpace:
    """What a prior knows of the latents it makes.

    Attributes:
        mean: (latent_dim,) of the training latents, before standardisation; at most MAX_VALUE.
        std: (latent_dim,), above 0, at most MAX_VALUE.
        conditions: Names of the conditions it was trained with, in the order of its embedding; empty for none.
    """

    mean: Tensor
    std: Tensor
    conditions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.mean.ndim != 1 or self.mean.shape != self.std.shape:
            raise InputError(
                "mean and std must be lists of one length, got shapes"
                f" {tuple(self.mean.shape)} and {tuple(self.std.shape)}"
            )
        for name, values in (("mean", self.mean), ("std", self.std)):
            # Not `> MAX_VALUE`, which NaN would pass.
            if not bool((values.abs() <= MAX_VALUE).all()):
                raise InputError(f"{name} must be finite and at most {MAX_VALUE:g}, got {values.abs().max():g}")
        if not bool((self.std > 0).all()):
            raise InputError(f"std must be above 0, got {self.std.min():g}")

    @property
    def latent_dim(self) -> int:
        """Values in one latent."""
        return len(self.mean)


class Prior(nn.Module, ABC):
    """noise (and a condition) -> latents as the codec's encoder makes them.

    A checkpoint holds its whole state: parameters, persistent buffers and child modules.

    Args:
        config: The prior's config.
        space: Statistics and conditions of the latents.
    """

    # What it can do besides `sample`; see prior.EditingPrior. The registry names the same.
    capabilities: ClassVar[frozenset[str]] = frozenset()

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: Any, space: LatentSpace) -> None:
        super().__init__()
        self.config = config
        self.conditions = space.conditions
        # Statistics have values even where a checkpoint's sizes are tried on the meta device.
        self.register_buffer("latent_mean", space.mean, persistent=False)
        self.register_buffer("latent_std", space.std, persistent=False)

    @property
    def latent_dim(self) -> int:
        """Values in one latent."""
        return len(self.latent_mean)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.latent_mean.device

    @property
    def border_tokens(self) -> int:
        """Tokens between two places at which what it makes could have a seam; 0 for none."""
        return 0

    @abstractmethod
    def sample(self, tokens: int, seed: int, condition: int | None = None, truncation: float = 0.0) -> Tensor:
        """New latents, the same for a seed on a machine.

        Args:
            tokens: Wanted.
            seed: 0 and above.
            condition: Index in `conditions`, or None where there are none.
            truncation: Noise beyond this many standard deviations is drawn again; 0 for no limit.

        Returns:
            (tokens, latent_dim) in the codec's latent space, on the prior's device.
        """


@dataclass(frozen=True)
class Health:
    """What a prior makes.

    Attributes:
        finite: Whether all of it is finite.
        diversity: Mean distance between generated segments over that between real ones; 0 for a constant.
        allowed: Lowest and highest diversity of a prior that has not collapsed.
    """

    finite: bool
    diversity: float
    allowed: tuple[float, float]

    @property
    def collapsed(self) -> bool:
        """Whether it makes the same again and again, or what has nothing to do with the data."""
        return not self.allowed[0] <= self.diversity <= self.allowed[1]


class PriorTask(Task, Protocol):
    """The training of a prior; see training.Task."""

    @property
    def betas(self) -> tuple[float, float]:
        """Of the optimizer."""
        ...

    @property
    def conditions(self) -> tuple[str, ...]:
        """Names of the conditions that it is trained with."""
        ...

    def prior(self, space: LatentSpace) -> Prior:
        """The prior with the weights of `eval_model`."""
        ...

    def report(self) -> dict[str, Any]:
        """Figures and sizes for the checkpoint's metrics."""
        ...


@runtime_checkable
class StartablePriorTask(Protocol):
    """The training of a prior that can begin with the weights of another one of the same shapes."""

    def start_from(self, pretrained: Prior, space: LatentSpace) -> None:
        """Takes over the weights of a trained prior.

        Args:
            pretrained: On the task's device. It may know other conditions: those of both keep what was learned.
            space: Statistics and conditions of the latents that are trained on.
        """
        ...


@dataclass(frozen=True)
class PriorKind:
    """How a registered prior is built, trained and checked.

    Attributes:
        model: (config, latent space) -> an untrained prior.
        task: (latent table, codec, config, device) -> its training.
        check: (prior, latent table, codec, device) -> whether it has collapsed, with noise that no checkpoint
            was selected by.
    """

    model: Callable[[Any, LatentSpace], Prior]
    task: Callable[[LatentTable, Codec, Any, torch.device], PriorTask]
    check: Callable[[Prior, LatentTable, Codec, torch.device], Health]
