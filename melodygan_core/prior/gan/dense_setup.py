"""What the dense GAN is trained on: single latents, measured on the log-mel that they decode to."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from melodygan_core import metrics
from melodygan_core.codec.dense import DenseCodec
from melodygan_core.config import DenseGanConfig, require
from melodygan_core.dataset import Batches
from melodygan_core.latents import LatentTable
from melodygan_core.prior.base import LatentSpace
from melodygan_core.prior.conditions import Conditions
from melodygan_core.prior.gan.dense import DenseGan, Discriminator, Generator
from melodygan_core.training import Batch, Preview, distributed

VALIDATION_SAMPLES = 512
PREVIEW_SEGMENTS = 2


class _Evaluator:
    """Compares generated with real latents on the log-mel that they decode to, where it is heard."""

    def __init__(self, table: LatentTable, decoder: DenseCodec, device: torch.device) -> None:
        self.decoder, self.device = decoder, device
        self.mean, self.std = torch.from_numpy(table.mean).to(device), torch.from_numpy(table.std).to(device)
        self.validation, self._validation_tracks = self._evenly_spaced(table, "validation")
        self.training, training_tracks = self._evenly_spaced(table, "train")
        self._kad_groups = metrics.fewest_groups(self._validation_tracks, training_tracks)
        if self._kad_groups >= metrics.MIN_GROUPS:
            # What a perfect memory of the training set would get.
            self._kad_real_baseline = metrics.kad(
                self.validation, self.training, self._validation_tracks, training_tracks
            )

    def _evenly_spaced(self, table: LatentTable, split: str) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
        """Decoded segments of a split, and the track of each."""
        rows = np.flatnonzero(table.split == split)
        picked = rows[np.linspace(0, len(rows) - 1, min(len(rows), VALIDATION_SAMPLES)).round().astype(int)]
        latents = torch.from_numpy(table.latents[picked, 0]).to(self.device)
        return self.decoded(latents), table.track_id[picked]

    def kad(self, fake: NDArray[np.float64]) -> dict[str, float]:
        """Returns the KAD of independent generated segments to validation by track, beside that of training.

        `kad_groups` is the number of tracks behind the KAD; with fewer than two there is no KAD.
        """
        figures = {"kad_groups": float(self._kad_groups)}
        if self._kad_groups >= metrics.MIN_GROUPS:
            figures["kad"] = metrics.kad(self.validation, fake, self._validation_tracks, np.arange(len(fake)))
            figures["kad_real_baseline"] = self._kad_real_baseline
        return figures

    @torch.no_grad()
    def preview(self, standardised: Tensor) -> Preview:
        """Standardised latents (segments, latent_dim), one after the other."""
        latents = standardised * self.std + self.mean
        return Preview(self.decoder.feature, self.decoder.decode(latents[None]).spectrum[0].cpu())

    @torch.no_grad()
    def decoded(self, standardised: Tensor) -> NDArray[np.float64]:
        """Binned, standardised log-mels (n, n_mels * time_bins) of standardised latents."""
        vectors = self.decoder.decode_targets(standardised * self.std + self.mean)
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
        self, table: LatentTable, decoder: DenseCodec, config: DenseGanConfig, device: torch.device
    ) -> None:
        self.config, self.device = config, device
        self._rows = np.flatnonzero(table.split == "train")
        require(len(self._rows) >= 8, "train segments", len(self._rows), "at least 8")
        self.conditions = Conditions(config.condition, table, self._rows)
        self._latents = torch.from_numpy(table.latents[:, 0])
        self._evaluator = _Evaluator(table, decoder, device)
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
        """What a generator makes of noise that stays the same: (n, n_mels * time_bins) as it is measured."""
        return self._evaluator.decoded(generator(self._fixed_noise, self._fixed_condition))

    @torch.no_grad()
    def preview(self, generator: nn.Module) -> Preview:
        """The first of these samples, one after the other."""
        condition = None if self._fixed_condition is None else self._fixed_condition[:PREVIEW_SEGMENTS]
        standardised = generator(self._fixed_noise[:PREVIEW_SEGMENTS], condition)
        return self._evaluator.preview(standardised)

    def diversity(self, decoded: NDArray[np.floating]) -> float:
        """How far apart what was made lies beside real training segments; 1 is equal, 0 a constant."""
        return metrics.mean_distance(np.asarray(decoded, np.float64)) / metrics.mean_distance(
            self._evaluator.training
        )

    def figures(self, generator: nn.Module) -> dict[str, float]:
        """Returns the KAD to validation by track, that of real training segments, and diversity."""
        fake = self.decoded(generator)
        return {**self._evaluator.kad(fake), "diversity": self.diversity(fake)}

    def report(self) -> dict[str, Any]:
        """Sizes."""
        return {"train_segments": len(self._rows)}

    def build(self, space: LatentSpace, generator: nn.Module) -> DenseGan:
        """The prior with the weights of a generator."""
        prior = DenseGan(self.config, space).to(self.device)
        prior.generator.load_state_dict(generator.state_dict())
        return prior.eval()
