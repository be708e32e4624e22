"""What the dense GAN is trained on: single latents, judged on the log-mel that they decode to."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from melodygan_core import metrics
from melodygan_core.codec import DenseAutoencoder
from melodygan_core.config import DenseGanConfig, require
from melodygan_core.dataset import Batches
from melodygan_core.latents import LatentTable
from melodygan_core.prior.conditions import Conditions
from melodygan_core.prior.gan.dense import Discriminator, Generator
from melodygan_core.training import Batch, distributed

VALIDATION_SAMPLES = 512


class _Judge:
    """Compares generated with real latents on the log-mel that they decode to, where it is heard."""

    def __init__(self, table: LatentTable, decoder: DenseAutoencoder, device: torch.device) -> None:
        self.decoder, self.device = decoder, device
        self.mean, self.std = torch.from_numpy(table.mean).to(device), torch.from_numpy(table.std).to(device)
        self.validation = self._spread(table, "validation")
        self.training = self._spread(table, "train")
        # The distance of real training to real validation: what a perfect memory of the training set would get.
        self.floor = metrics.kad(self.validation, self.training)

    def _spread(self, table: LatentTable, split: str) -> NDArray[np.float64]:
        rows = np.flatnonzero(table.split == split)
        picked = rows[np.linspace(0, len(rows) - 1, min(len(rows), VALIDATION_SAMPLES)).round().astype(int)]
        return self.decoded(torch.from_numpy(table.latents[picked, 0]).to(self.device))

    @torch.no_grad()
    def decoded(self, standardised: Tensor) -> NDArray[np.float64]:
        """Binned, standardised log-mels (n, n_mels * time_bins) of standardised latents."""
        vectors = self.decoder.decode(standardised * self.std + self.mean)
        width = self.decoder.feature.n_mels * self.decoder.config.time_bins
        return vectors[:, :width].cpu().double().numpy()


class DenseGanSetup:
    """Single latents of training segments.

    Args:
        table: Of the autoencoder's latents.
        decoder: The autoencoder.
        config: The models and their training.
        device: Where the models are.
    """

    r1_target = None
    bfloat16 = False

    def __init__(
        self, table: LatentTable, decoder: DenseAutoencoder, config: DenseGanConfig, device: torch.device
    ) -> None:
        self.config, self.device = config, device
        self._rows = np.flatnonzero(table.split == "train")
        require(len(self._rows) >= 8, "train segments", len(self._rows), "at least 8")
        self.conditions = Conditions(config.condition, table, self._rows)
        self._latents = torch.from_numpy(table.latents[:, 0])
        self._judge = _Judge(table, decoder, device)
        latent_dim, count = self._latents.shape[1], len(self.conditions.names)
        self.generator = Generator(config, latent_dim, count).to(device)
        self.discriminator = Discriminator(config, latent_dim, count).to(device)
        seed = config.optimizer.seed
        self._batches = Batches(len(self._rows), config.optimizer.batch_size, seed)
        fixed = np.random.default_rng(seed)
        noise = torch.randn(VALIDATION_SAMPLES, config.noise_dim, generator=torch.Generator().manual_seed(seed))
        self._fixed_noise = noise.to(device)
        self._fixed_condition = self._moved(
            self.conditions.sample(fixed.choice(self._rows, VALIDATION_SAMPLES), fixed)
        )

    def _moved(self, condition: Tensor | None) -> Tensor | None:
        return None if condition is None else condition.to(self.device)

    def get_batch(self, step: int) -> Batch:
        """`latents` (batch_size, latent_dim), standardised, and `condition` (batch_size,), if there are any."""
        rows = self._rows[self._batches[step]]
        condition = self.conditions.sample(rows, np.random.default_rng((self.config.optimizer.seed, step)))
        batch = {"latents": self._latents[rows]}
        return batch if condition is None else batch | {"condition": condition}

    def fake(self, count: int, condition: Tensor | None) -> Tensor:
        """What the generator makes now (count, latent_dim), with gradients."""
        dim = self.config.noise_dim
        return self.generator(
            distributed.sample_global(count, lambda n: torch.randn(n, dim, device=self.device)), condition
        )

    def augment(self, latents: Tensor) -> Tensor:
        """What the discriminator sees of latents: all, as they are."""
        return latents

    @torch.no_grad()
    def decoded(self, generator: nn.Module) -> NDArray[np.float64]:
        """What a generator makes of noise that stays the same: (n, n_mels * time_bins) as it is judged."""
        return self._judge.decoded(generator(self._fixed_noise, self._fixed_condition))

    def diversity(self, decoded: NDArray[np.floating]) -> float:
        """How far apart what was made lies beside real training segments; 1 is equal, 0 a constant."""
        return metrics.mean_distance(np.asarray(decoded, np.float64)) / metrics.mean_distance(
            self._judge.training
        )

    def figures(self, generator: nn.Module) -> dict[str, float]:
        """KAD to validation, that of real training segments, and diversity."""
        fake = self.decoded(generator)
        return {
            "kad": metrics.kad(self._judge.validation, fake),
            "kad_floor": self._judge.floor,
            "diversity": self.diversity(fake),
        }

    def report(self) -> dict[str, Any]:
        """Sizes."""
        return {"train_segments": len(self._rows)}
