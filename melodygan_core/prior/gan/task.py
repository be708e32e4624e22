"""The training of a GAN over latents: generator against discriminator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from melodygan_core.config import DenseGanConfig, TemporalGanConfig
from melodygan_core.prior.base import LatentSpace, Prior
from melodygan_core.prior.conditions import Conditions, known_rows
from melodygan_core.prior.gan.losses import R1Weight, discriminator_loss, generator_loss, r1_penalty
from melodygan_core.training import EMA, Batch, Preview, Update, Validation, autocast

# Mean distance between generated segments over that between real ones. Outside, the generator has collapsed.
DIVERSITY_RANGE = (0.5, 1.6)
# Of the generator's state; not there without conditions.
EMBEDDING = "embedding.weight"


class GanSetup(Protocol):
    """The data and the networks of a GAN, and how its samples are compared with real ones."""

    generator: nn.Module
    discriminator: nn.Module
    conditions: Conditions
    device: torch.device
    r1_target: float | None
    bfloat16: bool

    def get_batch(self, step: int) -> Batch:
        """Real `latents`, and `condition` if there are any; see training.Task."""
        ...

    def fake(self, count: int, condition: Tensor | None) -> Tensor:
        """Generated latents of the shape of a batch of real ones, with gradients."""
        ...

    def augment(self, latents: Tensor) -> Tensor:
        """Latents as the discriminator sees them: the same random changes for real and fake ones."""
        ...

    def decoded(self, generator: nn.Module) -> NDArray[np.floating]:
        """Samples of a generator from fixed noise, decoded to log-mel."""
        ...

    def preview(self, generator: nn.Module) -> Preview:
        """The first of these samples."""
        ...

    def diversity(self, decoded: NDArray[np.floating]) -> float:
        """Mean distance between decoded samples over that between real ones."""
        ...

    def figures(self, generator: nn.Module) -> dict[str, float]:
        """Figures of a validation: `kad`, its real baseline, `diversity`."""
        ...

    def build(self, space: LatentSpace, generator: nn.Module) -> Prior:
        """The prior with the weights of a generator."""
        ...

    def report(self) -> dict[str, Any]:
        """Sizes."""
        ...


class GanTask:
    """Trains generator and discriminator; evaluates the generator's exponential moving average.

    Args:
        setup: Data and networks.
        config: Of the training.
    """

    betas = (0.5, 0.99)

    def __init__(self, setup: GanSetup, config: DenseGanConfig | TemporalGanConfig) -> None:
        self.setup, self.config = setup, config
        self._generator, self._discriminator = setup.generator, setup.discriminator
        self._ema = EMA(self._generator, config.ema_decay)
        self._r1_weight = R1Weight(config.r1_gamma, setup.r1_target).to(setup.device)
        self.eval_model = self._ema.module
        self.optimized_modules = {"generator": self._generator, "discriminator": self._discriminator}
        self.stateful_modules = {"ema": self._ema.module, "r1_weight": self._r1_weight}
        # Updates of the discriminator alone, before the generator's first.
        self._discriminator_steps = 0

    def start_from(self, pretrained: Prior, space: LatentSpace) -> None:
        """Takes over the generator of a trained prior; it makes the same latents as there.

        A release has no discriminator. The new one learns alone while the learning rate rises: what it says
        before that would undo what the generator knows.
        """
        given = pretrained.get_submodule("generator")
        state = given.state_dict()
        # Both standardise latents, by statistics of their own.
        mean, std = pretrained.latent_mean, pretrained.latent_std
        own_mean, own_std = space.mean.to(mean.device), space.std.to(mean.device)
        state["head.weight"] = state["head.weight"] * (std / own_std)[:, None]
        state["head.bias"] = (state["head.bias"] * std + mean - own_mean) / own_std
        own = self._generator.state_dict()
        if EMBEDDING in state and EMBEDDING in own:
            own[EMBEDDING] = known_rows(
                own[EMBEDDING], space.conditions, state[EMBEDDING], pretrained.conditions
            )
        state.pop(EMBEDDING, None)
        self._generator.load_state_dict({**own, **state})
        self._ema.module.load_state_dict(self._generator.state_dict())
        self._discriminator_steps = self.config.optimizer.warmup_steps

    @property
    def conditions(self) -> tuple[str, ...]:
        """Names of the conditions."""
        return self.setup.conditions.names

    def _autocast(self, *, enabled: bool = True) -> torch.autocast:
        return autocast(self.setup.device, wanted=enabled and self.setup.bfloat16)

    def get_batch(self, step: int) -> Batch:
        """Real latents of a step."""
        return self.setup.get_batch(step)

    def training_step(self, step: int, batch: Batch) -> Iterator[Update]:
        """Updates the discriminator, then the generator; the gradient penalty every `r1_every` steps."""
        config, discriminator, augment = self.config, self._discriminator, self.setup.augment
        real, condition = batch["latents"], batch.get("condition")
        penalised = step % config.r1_every == 0
        real.requires_grad_(penalised)
        with self._autocast():
            fake = self.setup.fake(len(real), condition).float()
        # The penalty is a gradient of a gradient, and small: bfloat16 is not precise enough for it.
        with self._autocast(enabled=not penalised):
            real_logits = discriminator(augment(real), condition).float()
            fake_logits = discriminator(augment(fake.detach()), condition).float()
        loss = discriminator_loss(real_logits, fake_logits, config.loss)
        figures = {"adv/disc": loss, "adv/r1_weight": self._r1_weight.gamma.clone()}
        if penalised:
            figures["adv/r1"] = r1_penalty(real_logits, real)
            loss = loss + float(self._r1_weight.gamma) * config.r1_every * figures["adv/r1"]
        yield Update("discriminator", loss, figures)
        self._r1_weight.update(real_logits)
        if step < self._discriminator_steps:
            return

        with self._autocast():
            logits = discriminator(augment(fake), condition).float()
        loss = generator_loss(logits, config.loss)
        yield Update("generator", loss, {"adv/gen": loss})
        self._ema.update(self._generator, step)

    def validate(self, step: int) -> Validation:
        """KAD to validation. A generator that repeats itself may have a low one: it is no candidate.

        With fewer than two validation tracks there is no KAD, and a GAN has no validation loss: the last
        diverse generator is kept.
        """
        figures = self.setup.figures(self.eval_model)
        diverse = DIVERSITY_RANGE[0] <= figures["diversity"] <= DIVERSITY_RANGE[1]
        return Validation(figures.get("kad", -float(step)) if diverse else None, figures)

    def preview(self) -> Preview:
        """What the generator makes of noise that stays the same."""
        return self.setup.preview(self.eval_model)

    def prior(self, space: LatentSpace) -> Prior:
        """The prior with the weights of `eval_model`."""
        return self.setup.build(space, self.eval_model)

    def report(self) -> dict[str, Any]:
        """Sizes."""
        return self.setup.report()
