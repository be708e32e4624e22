"""Trains the GAN on the latent table."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from melodygan_core import autoencoder, latents, metrics
from melodygan_core.checkpoint import blaming, load_config, load_weights, save_weights
from melodygan_core.config import (
    STEMS,
    VERSIONS,
    DenseGanConfig,
    config_id,
    from_dict,
    require,
    to_dict,
    training_id,
)
from melodygan_core.dataset import batches
from melodygan_core.errors import InputError, MelodyGANError
from melodygan_core.gan.dense import Discriminator, Generator
from melodygan_core.gan.losses import discriminator_loss, generator_loss, r1_penalty
from melodygan_core.latents import LatentTable
from melodygan_core.store import Artifact, Store
from melodygan_core.training import (
    EMA,
    Best,
    Observer,
    Resumable,
    ignore,
    learning_rate,
    optimizer_for,
    resolve_device,
    seed_everything,
    steps,
    update,
)

NAME = "dense/gan_checkpoint"
BETAS = (0.5, 0.99)
VALIDATION_SAMPLES = 512
UNTAGGED = "untagged"
# Mean distance between generated segments over that between real ones; below it the modes have collapsed.
DIVERSITY_RANGE = (0.5, 1.6)


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
    config: DenseGanConfig

    @torch.no_grad()
    def latents(self, noise: Tensor, condition: int | None) -> Tensor:
        """Noise (n, noise_dim) -> latents (n, latent_dim) as the autoencoder makes them."""
        index = None if condition is None else torch.full((len(noise),), condition, dtype=torch.int64)
        return self.generator(noise, index) * self.std + self.mean


def load(folder: Path) -> LatentGan:
    """The GAN of a checkpoint folder, on the CPU.

    Raises:
        InputError: missing or damaged.
    """
    stored = load_config(folder, "config", "conditions", "mean", "std")
    with blaming(folder):
        config = from_dict(DenseGanConfig, stored["config"])
        conditions = tuple(str(c) for c in stored["conditions"])
        mean, std = (torch.tensor(stored[k], dtype=torch.float32) for k in ("mean", "std"))
        if (
            mean.ndim != 1
            or mean.shape != std.shape
            or not bool((mean.isfinite() & std.isfinite() & (std > 0)).all())
        ):
            raise InputError("mean and std; allowed: lists of one length, of finite values, std above 0")
    with blaming(folder), torch.device("meta"):
        generator = Generator(config, len(mean), len(conditions))
    load_weights(folder, {"generator": generator})
    return LatentGan(generator.eval(), mean, std, conditions, config)


class _Conditions:
    """Which conditions each row may be trained under."""

    def __init__(self, kind: str, table: LatentTable) -> None:
        if kind == "stem":
            self.of_row = [(str(s),) for s in table.stem]
        elif kind == "tag":
            self.of_row = [tags or (UNTAGGED,) for tags in table.tags]
        else:
            self.of_row = []
        order = (s for s in STEMS) if kind == "stem" else sorted({c for row in self.of_row for c in row})
        present = {c for row in self.of_row for c in row}
        self.names = tuple(c for c in order if c in present)
        if kind != "none" and len(self.names) < 2:
            raise InputError(
                f"condition is {kind!r}, of which there is only {self.names}; allowed: two and more"
            )
        self._index = [[self.names.index(c) for c in row] for row in self.of_row]

    def draw(self, rows: NDArray[np.int64], rng: np.random.Generator) -> Tensor | None:
        """One condition for each row, at random among its own."""
        if not self.names:
            return None
        return torch.tensor([self._index[r][rng.integers(len(self._index[r]))] for r in rows])


def train(
    latent_table: Artifact,
    checkpoint: Artifact,
    store: Store,
    config: DenseGanConfig,
    observe: Observer = ignore,
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
    work = f"dense.gan.{version}"

    def build(folder: Path) -> dict[str, Any]:
        with store.reading(store.at(checkpoint.uri)) as local:
            decoder = autoencoder.load(local, config.optimizer.device)
        return _run(latents.load(latent_table, store), decoder, store.work(work), folder, config, observe)

    artifact = store.once(
        NAME,
        store.model("dense", "gan", version),
        build,
        config=to_dict(config),
        inputs={"dense/latent_table": latent_table.version, "dense/autoencoder_checkpoint": checkpoint.version},
    )
    store.drop_work(work)
    return artifact


class _Judge:
    """Compares generated with real latents on the log-mel that they decode to, where it is heard."""

    def __init__(self, table: LatentTable, decoder: autoencoder.DenseAutoencoder, device: torch.device) -> None:
        self.decoder, self.device = decoder, device
        self.mean, self.std = torch.from_numpy(table.mean).to(device), torch.from_numpy(table.std).to(device)
        self.validation = self._spread(table, "validation")
        self.training = self._spread(table, "train")
        # The distance of real training to real validation: what a perfect memory of the training set would get.
        self.floor = metrics.kad(self.validation, self.training)

    def _spread(self, table: LatentTable, split: str) -> NDArray[np.float64]:
        rows = np.flatnonzero(table.split == split)
        picked = rows[np.linspace(0, len(rows) - 1, min(len(rows), VALIDATION_SAMPLES)).round().astype(int)]
        return self.decoded(torch.from_numpy(table.latents[picked]).to(self.device))

    @torch.no_grad()
    def decoded(self, standardised: Tensor) -> NDArray[np.float64]:
        """Binned, standardised log-mels (n, n_mels * time_bins) of standardised latents."""
        vectors = self.decoder.decode(standardised * self.std + self.mean)
        width = self.decoder.feature.n_mels * self.decoder.config.time_bins
        return vectors[:, :width].cpu().double().numpy()

    def figures(self, generator: Generator, noise: Tensor, condition: Tensor | None) -> dict[str, float]:
        """KAD to validation, and how diverse the samples are beside real training segments (1 is equal)."""
        with torch.no_grad():
            fake = self.decoded(generator(noise, condition))
        return {
            "kad": metrics.kad(self.validation, fake),
            "kad_floor": self.floor,
            "diversity": metrics.mean_distance(fake) / metrics.mean_distance(self.training),
        }


def _run(
    table: LatentTable,
    decoder: autoencoder.DenseAutoencoder,
    work: Path,
    folder: Path,
    config: DenseGanConfig,
    observe: Observer,
) -> dict[str, Any]:
    opt = config.optimizer
    device = resolve_device(opt.device)
    seed_everything(opt.seed)
    real_rows = np.flatnonzero(table.split == "train")
    require(len(real_rows) >= 8, "train segments", len(real_rows), "at least 8")
    conditions = _Conditions(config.condition, table)
    real_latents = torch.from_numpy(table.latents)
    judge = _Judge(table, decoder, device)

    latent_dim, count = real_latents.shape[1], len(conditions.names)
    generator = Generator(config, latent_dim, count).to(device)
    discriminator = Discriminator(config, latent_dim, count).to(device)
    ema = EMA(generator, config.ema_decay)
    gen_optimizer = optimizer_for(generator, opt, BETAS)
    disc_optimizer = optimizer_for(discriminator, opt, BETAS)
    fixed = np.random.default_rng(opt.seed)
    fixed_noise = torch.randn(
        VALIDATION_SAMPLES, config.noise_dim, generator=torch.Generator().manual_seed(opt.seed)
    )
    fixed_condition = conditions.draw(fixed.choice(real_rows, VALIDATION_SAMPLES), fixed)

    best, history = Best(), []
    recent: list[dict[str, Tensor]] = []
    parts = {
        "generator": generator,
        "discriminator": discriminator,
        "ema": ema.module,
        "gen_optimizer": gen_optimizer,
        "disc_optimizer": disc_optimizer,
    }
    state = Resumable(work / "state.pt", opt.checkpoint_every_s, parts, recent)
    first = state.load(best, history)
    started = time.monotonic()

    data = batches(len(real_rows), opt.batch_size, opt.seed, first)
    for step in steps("dense GAN", first, opt.max_steps):
        rows = real_rows[next(data)]
        condition = conditions.draw(rows, np.random.default_rng((opt.seed, step)))
        condition = None if condition is None else condition.to(device)
        real = real_latents[rows].to(device)
        rate = learning_rate(step, opt)

        penalised = step % config.r1_every == 0
        real.requires_grad_(penalised)
        noise = torch.randn(len(real), config.noise_dim, device=device)
        fake = generator(noise, condition)
        real_logits, fake_logits = discriminator(real, condition), discriminator(fake.detach(), condition)
        losses = {"adv/disc": discriminator_loss(real_logits, fake_logits, config.loss)}
        disc_loss = losses["adv/disc"]
        if penalised:
            losses["adv/r1"] = r1_penalty(real_logits, real)
            disc_loss = disc_loss + config.r1_gamma * config.r1_every * losses["adv/r1"]
        update(disc_optimizer, disc_loss, rate, opt.clip_norm, step, "the discriminator")

        losses["adv/gen"] = generator_loss(discriminator(fake, condition), config.loss)
        update(gen_optimizer, losses["adv/gen"], rate, opt.clip_norm, step, "the generator")
        ema.update(generator, step)
        recent.append({k: v.detach() for k, v in losses.items()})

        if (step + 1) % opt.eval_every == 0 or step + 1 == opt.max_steps:
            figures = judge.figures(ema.module, fixed_noise.to(device), _to(fixed_condition, device))
            wrong = {k: v for k, v in figures.items() if not math.isfinite(v)}
            if wrong:
                raise MelodyGANError(f"the GAN diverged by step {step + 1}: {wrong}")
            # A generator that repeats itself may lie near to validation: it is no candidate.
            diverse = DIVERSITY_RANGE[0] <= figures["diversity"] <= DIVERSITY_RANGE[1]
            best.offer(figures["kad"] if diverse else math.inf, step + 1, ema.module)
            row = {f"train/{k}": v for k, v in _means(recent).items()}
            row |= {f"validation/{k}": v for k, v in figures.items()}
            history.append({"step": step + 1, **row})
            recent.clear()
            observe(step + 1, row)
            if best.stale >= opt.patience:
                break
        state.save(step + 1, best, history)

    if best.step < 0:  # None was diverse: the last one is kept, and the check on its diversity fails.
        best = Best(history[-1]["validation/kad"], int(history[-1]["step"]), ema.module.state_dict())
    chosen = next(row for row in history if row["step"] == best.step)
    ema.module.load_state_dict(best.state)
    stored = {
        "family": "dense",
        "config": to_dict(config),
        "conditions": list(conditions.names),
        "mean": table.mean.tolist(),
        "std": table.std.tolist(),
        "step": best.step,
    }
    save_weights(folder, {"generator": ema.module}, stored)
    return {
        "steps": history[-1]["step"],
        "best_step": best.step,
        "validation/kad": best.value,
        "validation/kad_floor": judge.floor,
        "diversity": chosen["validation/diversity"],
        "finite": all(bool(p.isfinite().all()) for p in ema.module.parameters()),
        "parameters": sum(p.numel() for p in generator.parameters()),
        "conditions": list(conditions.names),
        "train_segments": len(real_rows),
        "duration_s": round(time.monotonic() - started, 1),
        "history": history,
    }


def _to(tensor: Tensor | None, device: torch.device) -> Tensor | None:
    return None if tensor is None else tensor.to(device)


def _means(rows: list[dict[str, Tensor]]) -> dict[str, float]:
    names = {k for row in rows for k in row}
    return {k: float(torch.stack([row[k].cpu() for row in rows if k in row]).mean()) for k in sorted(names)}
