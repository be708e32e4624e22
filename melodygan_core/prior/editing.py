"""What some priors can do besides making new latents: go on, repair, loop and vary given ones."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from melodygan_core.config import require
from melodygan_core.config.registry import able, require_capability
from melodygan_core.prior.base import Prior

# Called at the start and after each part of some work: parts that are done, and parts in all.
Parts = Callable[[int, int], None]


@dataclass(frozen=True)
class Sampling:
    """How a prior that solves a differential equation does so.

    Attributes:
        steps: Of the solver; 0 for the prior's own number.
        guidance: Above 1 moves towards the condition, away from what would be made without (classifier-free
            guidance, arXiv 2207.12598).
        autoguidance: Above 1 moves away from what an early version of the prior would make (arXiv 2406.02507).
    """

    steps: int = 0
    guidance: float = 1.0
    autoguidance: float = 1.0


DEFAULT_SAMPLING = Sampling()


@dataclass(frozen=True)
class Guide:
    """A loss of latents that a prior lowers while it makes them.

    Attributes:
        loss: (latents (tokens, latent_dim) of a part of a piece, as the codec decodes them; position (tokens,)
            of each in the piece) -> a scalar, differentiable; 0 or less where nothing is to be gained.
        weight: Farthest that a step moves, in standard deviations of what is not known yet; 0 for none.
    """

    loss: Callable[[Tensor, Tensor], Tensor]
    weight: float = 1.0


class EditingPrior(Prior):
    """A prior that can be asked for each of its `capabilities`.

    All latents are of one piece, (tokens, latent_dim) in the codec's latent space, on the prior's device.

    A plan is (any number of tokens, plan.CHANNELS), zero where nothing is given, as it is beyond its end.
    Priors without the capability `plan` refuse one; those that have it need none.
    """

    capabilities: ClassVar[frozenset[str]] = frozenset({"stream", "continue", "inpaint", "loop", "vary"})

    @abstractmethod
    def sample(
        self,
        tokens: int,
        seed: int,
        condition: int | None = None,
        truncation: float = 0.0,
        sampling: Sampling = DEFAULT_SAMPLING,
        plan: Tensor | None = None,
    ) -> Tensor:
        """New latents (tokens, latent_dim); see Prior.sample."""

    @property
    @abstractmethod
    def loop_tokens(self) -> int:
        """The number of tokens of a loop is a multiple of this."""

    @property
    @abstractmethod
    def context_tokens(self) -> int:
        """Known tokens beyond this many, on one side of unknown ones, make no difference to them."""

    @abstractmethod
    def stream(
        self,
        seed: int,
        condition: int | None = None,
        sampling: Sampling = DEFAULT_SAMPLING,
        plan: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """Yields a piece without end in parts (tokens, latent_dim); `sample` returns the beginning of the same.

        Args:
            seed: 0 and above.
            condition: Index in `conditions`, or None.
            sampling: See Sampling.
            plan: What the piece plays, or None.
        """

    @abstractmethod
    def fill(
        self,
        latents: Tensor,
        known: Tensor,
        seed: int,
        condition: int | None = None,
        sampling: Sampling = DEFAULT_SAMPLING,
        parts: Parts | None = None,
        plan: Tensor | None = None,
    ) -> Tensor:
        """Makes the unknown latents of a piece so that they go with the known ones.

        Args:
            latents: (tokens, latent_dim); values of unknown tokens are not looked at.
            known: (tokens,) boolean.
            seed: 0 and above.
            condition: Index in `conditions`, or None.
            sampling: See Sampling.
            parts: Called after each window.
            plan: What the piece plays, from its first token on, or None.

        Returns:
            (tokens, latent_dim); the known ones as they are.
        """

    @abstractmethod
    def loop(
        self,
        tokens: int,
        seed: int,
        condition: int | None = None,
        sampling: Sampling = DEFAULT_SAMPLING,
        plan: Tensor | None = None,
    ) -> Tensor:
        """Makes latents whose end goes over into their beginning.

        Args:
            tokens: Wanted, a multiple of `loop_tokens`.
            seed: 0 and above.
            condition: Index in `conditions`, or None.
            sampling: See Sampling.
            plan: What the loop plays, or None.

        Raises:
            InputError: tokens is no multiple of `loop_tokens`.
        """

    @abstractmethod
    def vary(
        self,
        latents: Tensor,
        strength: float,
        seed: int,
        condition: int | None = None,
        sampling: Sampling = DEFAULT_SAMPLING,
        parts: Parts | None = None,
        plan: Tensor | None = None,
        guides: Sequence[Guide] = (),
    ) -> Tensor:
        """Makes latents anew from a mixture of given ones and noise (SDEdit, arXiv 2108.01073).

        Args:
            latents: (tokens, latent_dim).
            strength: 0 to 1: share of the noise. 0 returns the latents, 1 owes nothing to them.
            seed: 0 and above.
            condition: Index in `conditions`, or None.
            sampling: See Sampling.
            parts: Called after each window.
            plan: What the piece plays, from its first token on, or None.
            guides: Losses that are lowered meanwhile.

        Returns:
            (tokens, latent_dim)
        """


def editing(prior: Prior, capability: str) -> EditingPrior:
    """The prior, if it has a capability.

    Args:
        prior: Of a pipeline.
        capability: One of `EditingPrior.capabilities`.

    Raises:
        InputError: it has not; the message names the pipelines that have.
    """
    require_capability(prior.capabilities, capability)
    assert isinstance(prior, EditingPrior), "only an EditingPrior has capabilities"
    return prior


def sample(
    prior: Prior,
    tokens: int,
    seed: int,
    condition: int | None,
    truncation: float,
    sampling: Sampling,
    plan: Tensor | None = None,
) -> Tensor:
    """Samples of a prior with settings that only some priors have; see Prior.sample.

    Raises:
        InputError: settings other than the defaults for a prior that solves no equation, or a plan for one that
            follows none.
    """
    if plan is not None:
        require_capability(prior.capabilities, "plan")
    if isinstance(prior, EditingPrior):
        return prior.sample(tokens, seed, condition, truncation, sampling, plan)
    require_defaults(sampling, "this release")
    return prior.sample(tokens, seed, condition, truncation)


def require_defaults(sampling: Sampling, what: str) -> None:
    """Checks that no setting is given to what has none.

    Args:
        sampling: The settings.
        what: What has none, to be read after "with".

    Raises:
        InputError: a setting differs from its default; the message names the pipelines that have it.
    """
    for name, value in vars(sampling).items():
        default = getattr(DEFAULT_SAMPLING, name)
        require(value == default, name, value, f"{default:g} with {what}: it is a setting of {able('stream')}")
