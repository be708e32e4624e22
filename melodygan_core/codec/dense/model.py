"""The seed's autoencoder: fully connected, over one flat vector a segment."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melodygan_core.codec.covariance import Covariance
from melodygan_core.config import DenseAutoencoderConfig, FeatureConfig
from melodygan_core.dataset import Statistics
from melodygan_core.errors import InputError
from melodygan_core.training import distributed


def _mlp(sizes: list[int], dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, (n_in, n_out) in enumerate(pairwise(sizes)):
        if i:
            layers += [nn.LayerNorm(n_in), nn.GELU(), distributed.Dropout(dropout)]
        layers.append(nn.Linear(n_in, n_out))
    return nn.Sequential(*layers)


class DenseAutoencoder(nn.Module):
    """vector -> latents -> vector_hat, each half an MLP beside a linear shortcut.

    The shortcut starts as the PCA of the training vectors and the MLPs' last layers start at zero, so training
    begins at PCA and what the layers learn is what PCA cannot do.

    Args:
        config: Layer sizes and time bins.
        feature: What the vectors are made of.

    Raises:
        InputError: the latent is not smaller than the vector.
    """

    log_mel_mean: Tensor
    log_mel_std: Tensor
    mfcc_mean: Tensor
    mfcc_std: Tensor
    center: Tensor

    def __init__(self, config: DenseAutoencoderConfig, feature: FeatureConfig) -> None:
        super().__init__()
        self.config = config
        self.feature = feature
        sizes = [self.vector_dim, *config.hidden_sizes]
        if config.latent_dim >= self.vector_dim:
            raise InputError(
                f"the latent has {config.latent_dim} values; allowed: below the vector's {self.vector_dim} "
                f"values ({feature.n_mels} mels + {feature.n_mfcc} MFCC, {config.time_bins} time_bins)"
            )
        self.encoder = _mlp(sizes, config.dropout)
        self.decoder = _mlp(sizes[::-1], config.dropout)
        self.shortcut_in = nn.Linear(self.vector_dim, config.latent_dim, bias=False)
        self.shortcut_out = nn.Linear(config.latent_dim, self.vector_dim, bias=False)
        self.register_buffer("center", torch.zeros(self.vector_dim))
        for name, width in (("log_mel", feature.n_mels), ("mfcc", feature.n_mfcc)):
            self.register_buffer(f"{name}_mean", torch.zeros(width))
            self.register_buffer(f"{name}_std", torch.ones(width))

    @property
    def vector_dim(self) -> int:
        """Values in one vector."""
        return (self.feature.n_mels + self.feature.n_mfcc) * self.config.time_bins

    @torch.no_grad()
    def initialise(self, mean: Tensor, components: Tensor, statistics: Statistics) -> None:
        """Starts the shortcut as a PCA of training vectors: mean (vector_dim,), components (k, vector_dim)."""
        for name in ("log_mel_mean", "log_mel_std", "mfcc_mean", "mfcc_std"):
            getattr(self, name).copy_(torch.from_numpy(getattr(statistics, name)))
        self.center.copy_(mean)
        self.shortcut_in.weight.zero_()
        self.shortcut_in.weight[: len(components)] = components
        self.shortcut_out.weight.copy_(self.shortcut_in.weight.T)
        for half in (self.encoder, self.decoder):
            last = half[-1]
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def encode(self, vector: Tensor) -> Tensor:
        """(n, vector_dim) standardised -> latents (n, latent_dim)."""
        x = vector - self.center
        return self.shortcut_in(x) + self.encoder(x)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (n, latent_dim) -> vector_hat (n, vector_dim) standardised."""
        return self.center + self.shortcut_out(latents) + self.decoder(latents)

    def forward(self, vector: Tensor) -> Tensor:
        """(n, vector_dim) -> vector_hat (n, vector_dim)."""
        return self.decode(self.encode(vector))

    def log_mel(self, vector: Tensor, frames: int | None = None) -> Tensor:
        """The log-mel part of vectors at the frame rate, linearly interpolated between the bins' centres.

        Args:
            vector: (n, vector_dim) standardised.
            frames: Wanted; `segment_frames` by default.

        Returns:
            (n, n_mels, frames), natural log of magnitude.
        """
        n_mels, bins = self.feature.n_mels, self.config.time_bins
        binned = vector[:, : n_mels * bins].reshape(-1, bins, n_mels)
        binned = (binned * self.log_mel_std + self.log_mel_mean).transpose(1, 2)
        return F.interpolate(binned, size=frames or self.feature.segment_frames, mode="linear")


def pca(blocks: Iterable[Tensor], components: int) -> tuple[Tensor, Tensor]:
    """Principal components by randomised SVD (Halko et al. 2011, arXiv 0909.4061) of the covariance.

    Args:
        blocks: (n, dim) each, at least one; they need not be in memory together.
        components: Wanted; fewer come back when there are fewer vectors or dimensions.

    Returns:
        mean (dim,) and orthonormal components (k, dim), largest variance first, on the blocks' device.
    """
    seen = Covariance()
    for block in blocks:
        seen.add(block)
    k = min(components, seen.count, len(seen.mean))
    _, _, v = torch.svd_lowrank(seen.covariance.float(), q=min(k + 16, len(seen.mean)), niter=4)
    return seen.mean.float(), v[:, :k].T


def errors(pairs: Iterable[tuple[Tensor, Tensor]], mean: Tensor) -> tuple[float, float]:
    """How far reconstructions are from what they are of.

    Args:
        pairs: Vectors and their reconstructions, (n, dim) each.
        mean: (dim,) of the training vectors.

    Returns:
        Mean squared error, and the explained variance: 1 - squared error / squared distance to `mean`.
    """
    squared, total, values = 0.0, 0.0, 0
    for vector, vector_hat in pairs:
        squared += float((vector_hat - vector).square().sum(dtype=torch.float64))
        total += float((vector - mean).square().sum(dtype=torch.float64))
        values += vector.numel()
    return squared / values, 1 - squared / total
