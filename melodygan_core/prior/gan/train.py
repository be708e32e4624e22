"""Trains a GAN of any family on its latent table, and reads one back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from melodygan_core import codec, latents
from melodygan_core.codec import Autoencoder, DenseAutoencoder
from melodygan_core.config import (
    VERSIONS,
    DenseGanConfig,
    TemporalGanConfig,
    config_id,
    from_dict,
    require,
    to_dict,
    training_id,
)
from melodygan_core.errors import InputError
from melodygan_core.latents import LatentTable
from melodygan_core.prior.gan import dense, temporal
from melodygan_core.prior.gan.dense_setup import DenseGanSetup
from melodygan_core.prior.gan.losses import R1Weight, discriminator_loss, generator_loss, r1_penalty
from melodygan_core.prior.gan.temporal_setup import TemporalGanSetup
from melodygan_core.storage.store import Artifact, Store
from melodygan_core.training import (
    EMA,
    Batch,
    MetricsCallback,
    Update,
    Validation,
    autocast,
    fit,
    get_or_build,
    ignore,
    resolve_device,
    seed_everything,
)
from melodygan_core.training.checkpoint import config_errors, load_config, load_weights, save_weights

GanConfig = DenseGanConfig | TemporalGanConfig
Generator = dense.Generator | temporal.Generator

BETAS = (0.5, 0.99)
# Mean distance between generated segments over that between real ones; below it the modes have collapsed.
DIVERSITY_RANGE = (0.5, 1.6)
_CONFIGS = {c.family: c for c in (DenseGanConfig, TemporalGanConfig)}


def name_of(family: str) -> str:
    """The asset's name."""
    return f"{family}/gan_checkpoint"


@dataclass(frozen=True)
class LatentGan:
    """A trained generator with what is needed to use it.

    Attributes:
        generator: noise -> standardised latents.
        mean: (latent_dim,) of the latents before standardisation.
        std: (latent_dim,)
        conditions: Names, in the order of the generator's embedding; empty for none.
        config: Of its training.
    """

    generator: Generator
    mean: Tensor
    std: Tensor
    conditions: tuple[str, ...]
    config: GanConfig

    @torch.no_grad()
    def latents(self, noise: Tensor, condition: int | None) -> Tensor:
        """Noise (n, ..., noise_dim) -> latents (n, ..., latent_dim) as the autoencoder makes them."""
        index = None if condition is None else torch.full((len(noise),), condition, dtype=torch.int64)
        return self.generator(noise, index) * self.std + self.mean


def load(folder: Path) -> LatentGan:
    """The GAN of a checkpoint folder, on the CPU.

    Raises:
        InputError: missing or damaged, or of a family that this version does not know.
    """
    stored = load_config(folder, "family", "config", "conditions", "mean", "std")
    with config_errors(folder):
        require(stored["family"] in _CONFIGS, "family", stored["family"], ", ".join(_CONFIGS))
        config = from_dict(_CONFIGS[stored["family"]], stored["config"])
        conditions = tuple(str(c) for c in stored["conditions"])
        mean, std = (torch.tensor(stored[k], dtype=torch.float32) for k in ("mean", "std"))
        if (
            mean.ndim != 1
            or mean.shape != std.shape
            or not bool((mean.isfinite() & std.isfinite() & (std > 0)).all())
        ):
            raise InputError("mean and std; allowed: lists of one length, of finite values, std above 0")
    with config_errors(folder), torch.device("meta"):
        if isinstance(config, DenseGanConfig):
            generator: Generator = dense.Generator(config, len(mean), len(conditions))
        else:
            generator = temporal.Generator(config, len(mean), len(conditions))
    load_weights(folder, {"generator": generator})
    return LatentGan(generator.eval(), mean, std, conditions, config)


def train(
    latent_table: Artifact,
    checkpoint: Artifact,
    store: Store,
    config: GanConfig,
    observe: MetricsCallback = ignore,
) -> Artifact:
    """Trains generator and discriminator; keeps the diverse generator whose samples are nearest to validation.

    Args:
        latent_table: What `latents.encode` returned.
        checkpoint: The autoencoder that made the latents; distances are measured on what it decodes.
        store: Where the checkpoint goes.
        config: The models and their training.
        observe: Called after every validation.

    Raises:
        InputError: too few latents, or fewer than two conditions to tell apart.
        MelodyGANError: training diverged.
    """
    version = config_id(training_id(config), latent_table.version, checkpoint.version, VERSIONS["gan"])

    def build(work: Path, folder: Path) -> dict[str, Any]:
        with store.reading(store.at(checkpoint.uri)) as local:
            decoder = codec.load(local, config.optimizer.device)
        return _run(latents.load(latent_table, store), decoder, work, folder, config, observe)

    return get_or_build(
        name_of(config.family),
        store,
        store.model(config.family, "gan", version),
        f"{config.family}.gan.{version}",
        build,
        config=to_dict(config),
        inputs={latent_table.name: latent_table.version, checkpoint.name: checkpoint.version},
    )


def build_setup(
    table: LatentTable, decoder: Autoencoder, config: GanConfig, device: torch.device
) -> DenseGanSetup | TemporalGanSetup:
    """What the training of a config is about; latents, decoder and config are of one family."""
    if isinstance(config, DenseGanConfig):
        assert isinstance(decoder, DenseAutoencoder), "latents and GAN are of one family"
        return DenseGanSetup(table, decoder, config, device)
    assert not isinstance(decoder, DenseAutoencoder), "latents and GAN are of one family"
    return TemporalGanSetup(table, decoder, config, device)


class GanTask:
    """Generator against discriminator; the generator's moving average is what is kept.

    Args:
        setup: What is real, what is made, and how far apart they lie.
        config: Of the training.
    """

    def __init__(self, setup: DenseGanSetup | TemporalGanSetup, config: GanConfig) -> None:
        self.setup, self.config = setup, config
        self._generator, self._discriminator = setup.generator, setup.discriminator
        self._ema = EMA(self._generator, config.ema_decay)
        self._r1_weight = R1Weight(config.r1_gamma, setup.r1_target)
        self.eval_model = self._ema.module
        self.optimized_modules = {"generator": self._generator, "discriminator": self._discriminator}
        self.stateful_modules = {"ema": self._ema.module, "r1_weight": self._r1_weight}

    def _autocast(self, *, enabled: bool = True) -> torch.autocast:
        device = next(self._generator.parameters()).device
        return autocast(device, wanted=enabled and self.setup.bfloat16)

    def get_batch(self, step: int) -> Batch:
        """What is real at a step."""
        return self.setup.get_batch(step)

    def training_step(self, step: int, batch: Batch) -> Iterator[Update]:
        """The discriminator's, then the generator's; the gradient penalty at every `r1_every`-th step."""
        config, discriminator, augment = self.config, self._discriminator, self.setup.augment
        real, condition = batch["latents"], batch.get("condition")
        penalised = step % config.r1_every == 0
        real.requires_grad_(penalised)
        with self._autocast():
            fake = self.setup.fake(len(real), condition).float()
        # The penalty is a gradient of a gradient, and small: not for bfloat16.
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

        with self._autocast():
            logits = discriminator(augment(fake), condition).float()
        loss = generator_loss(logits, config.loss)
        yield Update("generator", loss, {"adv/gen": loss})
        self._ema.update(self._generator, step)

    def validate(self, step: int) -> Validation:
        """KAD to validation. A generator that repeats itself may lie near to it: it is no candidate."""
        figures = self.setup.figures(self.eval_model)
        diverse = DIVERSITY_RANGE[0] <= figures["diversity"] <= DIVERSITY_RANGE[1]
        return Validation(figures["kad"] if diverse else None, figures)


def _run(
    table: LatentTable,
    decoder: Autoencoder,
    work: Path,
    folder: Path,
    config: GanConfig,
    observe: MetricsCallback,
) -> dict[str, Any]:
    opt = config.optimizer
    device = resolve_device(opt.device)
    seed_everything(opt.seed)
    task = GanTask(build_setup(table, decoder, config, device), config)
    fitted = fit(f"{config.family} GAN", task, opt, work, observe, BETAS)
    kept, conditions = task.eval_model, list(task.setup.conditions.names)
    stored = {
        "family": config.family,
        "config": to_dict(config),
        "conditions": conditions,
        "mean": table.mean.tolist(),
        "std": table.std.tolist(),
        "step": fitted.best_step,
    }
    save_weights(folder, {"generator": kept}, stored)
    return {
        **fitted.metrics,
        "finite": all(bool(p.isfinite().all()) for p in kept.parameters()),
        "parameters": sum(p.numel() for p in kept.parameters()),
        "conditions": conditions,
        **task.setup.report(),
    }
