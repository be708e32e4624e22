"""What the dense autoencoder is trained on: the flat vectors of segments, computed as they are asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from melodygan_core.codec.base import Codec
from melodygan_core.codec.dense.model import DenseCodec, errors, pca
from melodygan_core.config import SPLITS, DenseCodecConfig
from melodygan_core.dataset import Batches, Dataset, Rows, Statistics, to_vectors
from melodygan_core.training import Batch, Preview, Update, Validation, autocast

MAX_PCA_VECTORS = 20_000
PCA_RUN = 8
MAX_VALIDATION_VECTORS = 4096
PREVIEW_SEGMENTS = 2


class Vectors:
    """The vectors of some rows, computed as they are asked for."""

    def __init__(self, dataset: Dataset, rows: Rows, statistics: Statistics, time_bins: int) -> None:
        self.dataset, self.rows, self.statistics, self.time_bins = dataset, rows, statistics, time_bins

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, indices: NDArray[np.int64]) -> Tensor:
        rows = self.rows.take(indices)
        log_mel, mfcc = (self.dataset.column(rows, name) for name in ("log_mel", "mfcc"))
        return torch.from_numpy(to_vectors(log_mel, mfcc, self.statistics, self.time_bins))

    def augmented(self, indices: NDArray[np.int64], config: DenseCodecConfig, step: int) -> Tensor:
        """Vectors of segments that begin near these, at another level; random by (seed, step) alone."""
        rng = np.random.default_rng((config.optimizer.seed, step))
        frames = self.dataset.feature.segment_frames
        offset = rng.integers(0, frames if config.random_shift else 1, len(indices))
        log_mel, mfcc = self.dataset.shifted(self.rows.take(indices), offset)
        # A gain adds to every band of the log-mel; of the orthonormal cepstrum it moves the first coefficient.
        gain = rng.normal(0, config.gain_db * math.log(10) / 20, (len(indices), 1, 1)).astype(np.float32)
        log_mel += gain
        np.maximum(log_mel, np.float32(math.log(self.dataset.feature.log_floor)), out=log_mel)
        mfcc[:, :, :1] += 2 * gain * np.float32(math.sqrt(self.dataset.feature.n_mels))
        return torch.from_numpy(to_vectors(log_mel, mfcc, self.statistics, self.time_bins))

    def evenly_spaced(self, at_most: int, run: int = 1) -> Vectors:
        """Those of rows spread evenly over these, in runs of so many, which a disk reads at once."""
        run = min(run, len(self))
        runs = at_most // run if at_most < len(self) else -(-len(self) // run)
        starts = np.linspace(0, len(self) - run, runs).round().astype(np.int64)
        picked = np.unique(starts[:, None] + np.arange(run))
        return Vectors(self.dataset, self.rows.take(picked), self.statistics, self.time_bins)

    def blocks(self, size: int = 1024) -> Iterator[Tensor]:
        """All vectors, in order, in blocks."""
        for start in range(0, len(self), size):
            yield self[np.arange(start, min(start + size, len(self)))]


def vectors(dataset: Dataset, split: str, config: DenseCodecConfig) -> Vectors:
    """The standardised vectors of a split, lazily."""
    rows = dataset.rows(split, config.stems)
    return Vectors(dataset, rows, dataset.statistics(config.stems), config.time_bins)


class DenseTask:
    """Trains the dense codec by the squared error of single segments; reported beside PCA of the same size.

    Args:
        dataset: Memory-mapped.
        config: The model and its training.
        device: Where the model is.
    """

    betas = (0.9, 0.99)

    def __init__(self, dataset: Dataset, config: DenseCodecConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self._training, held, self._test = (vectors(dataset, split, config) for split in SPLITS)
        self._held = held.evenly_spaced(MAX_VALIDATION_VECTORS)
        self.model = DenseCodec(config, dataset.feature).to(device)
        self._mean, self._components = self._pca()
        self.model.initialise(self._mean, self._components, self._training.statistics)
        self._batches = Batches(len(self._training), config.optimizer.batch_size, config.optimizer.seed)

        self.eval_model, self.optimized_modules, self.stateful_modules = self.model, {"model": self.model}, {}

    def _pca(self) -> tuple[Tensor, Tensor]:
        """Mean and principal components of training vectors, on the device."""
        picked = self._training.evenly_spaced(MAX_PCA_VECTORS, PCA_RUN)
        return pca((block.to(self.device) for block in picked.blocks()), self.config.latent_dim)

    def start_from(self, pretrained: Codec) -> None:
        """Takes over weights and standardisation: the weights were trained with it."""
        self.model.load_state_dict(pretrained.state_dict())
        statistics = self.model.statistics
        for data in (self._training, self._held, self._test):
            data.statistics = statistics
        self._mean, self._components = self._pca()

    def get_batch(self, step: int) -> Batch:
        """`vector` (batch_size, vector_dim)."""
        return {"vector": self._training.augmented(self._batches[step], self.config, step)}

    def training_step(self, step: int, batch: Batch) -> Iterator[Update]:
        """Mean squared error of a batch."""
        vector = batch["vector"]
        with autocast(self.device, wanted=self.config.bfloat16):
            vector_hat = self.model(vector).float()
        loss = F.mse_loss(vector_hat, vector)
        yield Update("model", loss, {"loss": loss})

    def validate(self, step: int) -> Validation:
        """Mean squared error and explained variance of validation segments."""
        loss, explained = self._evaluate(self._held, self.model)
        return Validation(loss, {"loss": loss, "explained_variance": explained})

    @torch.no_grad()
    def _evaluate(self, data: Vectors, reconstruct: Callable[[Tensor], Tensor]) -> tuple[float, float]:
        self.model.eval()
        blocks = (block.to(self.device) for block in data.blocks())
        found = errors(((block, reconstruct(block)) for block in blocks), self._mean)
        self.model.train()
        return found

    @torch.no_grad()
    def preview(self) -> Preview:
        """The first validation segments after the latents."""
        self.model.eval()
        vectors = next(self._held.blocks(PREVIEW_SEGMENTS)).to(self.device)
        spectrum = self.model.from_targets(self.model(vectors)[None]).spectrum[0].cpu()
        self.model.train()
        return Preview(self.model.feature, spectrum)

    def _by_pca(self, vector: Tensor) -> Tensor:
        return self._mean + (vector - self._mean) @ self._components.T @ self._components

    def report(self) -> dict[str, Any]:
        """Explained variance of the test segments, beside PCA of the same size, and sizes."""
        return {
            "test/explained_variance": self._evaluate(self._test, self.model)[1],
            "test/explained_variance_pca": self._evaluate(self._test, self._by_pca)[1],
            "vector_dim": self.model.vector_dim,
            "latent_dim": self.config.latent_dim,
            "train_segments": len(self._training),
        }
