"""The dense codec: fully connected, over one flat vector per segment."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from melodygan_core.codec.base import Codec, Decoded, Features
from melodygan_core.codec.covariance import Covariance
from melodygan_core.config import DenseCodecConfig, FeatureConfig
from melodygan_core.dataset import Dataset, Statistics, to_vectors
from melodygan_core.errors import InputError
from melodygan_core.features import spectrum_of_mels
from melodygan_core.training import distributed

# Neighbouring segments of a generated piece share this part of a segment and fade into each other.
OVERLAP = 0.125
COLUMNS = ("log_mel", "mfcc")
# Segments encoded at once.
BLOCK = 1024


def _mlp(sizes: list[int], dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, (n_in, n_out) in enumerate(pairwise(sizes)):
        if i:
            layers += [nn.LayerNorm(n_in), nn.GELU(), distributed.Dropout(dropout)]
        layers.append(nn.Linear(n_in, n_out))
    return nn.Sequential(*layers)


class DenseCodec(Codec):
    """vector -> latents -> vector_hat, each half an MLP beside a linear shortcut; one latent per segment.

    A segment's log-mel and MFCC, standardised and averaged in time bins, are one flat vector. The shortcut
    starts as the PCA of the training vectors and the MLPs' last layers start at zero, so training begins at PCA
    and what the layers learn is what PCA cannot do. Decoded log-mel becomes the spectrum of the vocoders by a
    fixed matrix.

    Args:
        config: Layer sizes and time bins.
        feature: What the vectors are made of.

    Raises:
        InputError: the latent is not smaller than the vector.
    """

    config: DenseCodecConfig
    log_mel_mean: Tensor
    log_mel_std: Tensor
    mfcc_mean: Tensor
    mfcc_std: Tensor
    center: Tensor

    def __init__(self, config: DenseCodecConfig, feature: FeatureConfig) -> None:
        super().__init__(config, feature)
        sizes = [self.vector_dim, *config.hidden_sizes]
        if config.latent_dim >= self.vector_dim:
            raise InputError(
                f"latent_dim must be below the vector's {self.vector_dim} values ({feature.n_mels} mels + "
                f"{feature.n_mfcc} MFCC, {config.time_bins} time_bins), got {config.latent_dim}"
            )
        self.encoder = _mlp(sizes, config.dropout)
        self.decoder = _mlp(sizes[::-1], config.dropout)
        self.shortcut_in = nn.Linear(self.vector_dim, config.latent_dim, bias=False)
        self.shortcut_out = nn.Linear(config.latent_dim, self.vector_dim, bias=False)
        self.register_buffer("center", torch.zeros(self.vector_dim))
        for name, width in (("log_mel", feature.n_mels), ("mfcc", feature.n_mfcc)):
            self.register_buffer(f"{name}_mean", torch.zeros(width))
            self.register_buffer(f"{name}_std", torch.ones(width))
        self.spectrum_of_mels = spectrum_of_mels(feature)

    @property
    def columns(self) -> tuple[str, ...]:
        """Log-mel and MFCC."""
        return COLUMNS

    @property
    def vector_dim(self) -> int:
        """Values in one vector."""
        return (self.feature.n_mels + self.feature.n_mfcc) * self.config.time_bins

    @property
    def token_frames(self) -> int:
        """Frames that one latent stands for: a segment."""
        return self.feature.segment_frames

    @property
    def statistics(self) -> Statistics:
        """Mean and deviation of the columns, by which it standardises."""
        mean, std = (
            {name: self.get_buffer(f"{name}_{figure}").cpu().numpy() for name in COLUMNS}
            for figure in ("mean", "std")
        )
        return Statistics(mean, std)

    @torch.no_grad()
    def initialise(self, mean: Tensor, components: Tensor, statistics: Statistics) -> None:
        """Starts the shortcut as a PCA of training vectors: mean (vector_dim,), components (k, vector_dim)."""
        for name in COLUMNS:
            self.get_buffer(f"{name}_mean").copy_(torch.from_numpy(statistics.mean[name]))
            self.get_buffer(f"{name}_std").copy_(torch.from_numpy(statistics.std[name]))
        self.center.copy_(mean)
        self.shortcut_in.weight.zero_()
        self.shortcut_in.weight[: len(components)] = components
        self.shortcut_out.weight.copy_(self.shortcut_in.weight.T)
        for half in (self.encoder, self.decoder):
            last = half[-1]
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def targets(self, features: Features) -> Tensor:
        """The vector of each segment; see Codec.targets."""
        batch, frames, _ = features["log_mel"].shape
        size = self.token_frames
        if frames % size or frames == 0:
            raise InputError(f"frames must be a multiple of segment_frames = {size}, got {frames}")
        values = [features[name] for name in COLUMNS]
        segments = [x.reshape(-1, size, x.shape[2]).cpu().numpy() for x in values]
        # By numpy, as training vectors are made: the same values to the last digit.
        vectors = to_vectors(segments[0], segments[1], self.statistics, self.config.time_bins)
        return torch.from_numpy(vectors).to(values[0].device).reshape(batch, frames // size, -1)

    def encode(self, features: Features) -> Tensor:
        """Features (batch, frames, ...) of whole segments -> latents (batch, segments, latent_dim)."""
        return self.encode_vectors(self.targets(features))

    def encode_vectors(self, vector: Tensor) -> Tensor:
        """(..., vector_dim) standardised -> latents (..., latent_dim)."""
        x = vector - self.center
        return self.shortcut_in(x) + self.encoder(x)

    def decode_targets(self, latents: Tensor) -> Tensor:
        """Latents (..., latent_dim) -> vector_hat (..., vector_dim) standardised."""
        return self.center + self.shortcut_out(latents) + self.decoder(latents)

    def from_targets(self, targets: Tensor) -> Decoded:
        """Vectors (batch, segments, vector_dim) -> mono frames (batch, segments * segment_frames, n_bands)."""
        batch = len(targets)
        log_mel = self.log_mel(targets.flatten(0, 1))
        return Decoded(self.spectrum_of_mels(log_mel.transpose(1, 2).reshape(batch, -1, self.feature.n_mels)))

    def forward(self, vector: Tensor) -> Tensor:
        """(n, vector_dim) -> vector_hat (n, vector_dim)."""
        return self.decode_targets(self.encode_vectors(vector))

    def log_mel(self, vector: Tensor) -> Tensor:
        """The log-mel part of vectors at the frame rate, linearly interpolated between the bins' centres.

        Args:
            vector: (n, vector_dim) standardised.

        Returns:
            (n, n_mels, segment_frames), natural log of magnitude.
        """
        n_mels, bins = self.feature.n_mels, self.config.time_bins
        binned = vector[:, : n_mels * bins].reshape(-1, bins, n_mels)
        binned = (binned * self.log_mel_std + self.log_mel_mean).transpose(1, 2)
        return F.interpolate(binned, size=self.feature.segment_frames, mode="linear")

    def tokens_for(self, frames: int) -> int:
        """Segments needed for a piece of so many frames; neighbours overlap."""
        return max(1, math.ceil((frames - self.overlap_frames) / (self.token_frames - self.overlap_frames)))

    def decode_piece(self, latents: Tensor, frames: int) -> Decoded:
        """Latents (segments, latent_dim) -> (1, frames, n_bands); neighbouring segments cross-fade."""
        log_mel = _crossfade(self.log_mel(self.decode_targets(latents)), self.overlap_frames, frames).T
        return Decoded(self.spectrum_of_mels(log_mel)[None])

    @property
    def overlap_frames(self) -> int:
        """Frames in which two segments of a generated piece cross-fade."""
        return int(self.token_frames * OVERLAP)

    def feature_vectors(self, latents: Tensor) -> Tensor:
        """Latents (segments, latent_dim) -> feature vectors (segments, vector_dim) standardised."""
        return self.decode_targets(latents)

    @torch.no_grad()
    def encode_split(self, dataset: Dataset, split: str) -> Iterator[NDArray[np.float32]]:
        """Latents of every usable segment of a split; see Codec.encode_split. Segments are independent."""
        rows, device = dataset.rows(split, self.stems), self.center.device
        for start in tqdm(range(0, len(rows), BLOCK), desc=f"latents of {split}", unit="block"):
            part = rows.take(np.arange(start, min(start + BLOCK, len(rows))))
            features = {k: v.to(device) for k, v in dataset.columns(part, self.columns).items()}
            yield self.encode(features).cpu().numpy()


def _crossfade(segments: Tensor, overlap: int, frames: int) -> Tensor:
    """Joins segments (n, n_mels, segment_frames) into one log-mel (n_mels, frames), linear in magnitude."""
    n, n_mels, length = segments.shape
    hop = length - overlap
    total = segments.new_zeros(n_mels, hop * (n - 1) + length)
    ramp = torch.arange(1, overlap + 1, device=segments.device) / (overlap + 1)
    for i, magnitude in enumerate(segments.exp()):
        weight = segments.new_ones(length)
        if i > 0:
            weight[:overlap] = ramp
        if i < n - 1:
            weight[length - overlap :] = 1 - ramp
        total[:, i * hop : i * hop + length] += magnitude * weight
    return total[:, :frames].log()


def pca(blocks: Iterable[Tensor], components: int) -> tuple[Tensor, Tensor]:
    """Principal components by randomised SVD (Halko et al. 2011, arXiv 0909.4061) of the covariance.

    Args:
        blocks: (n, dim) each, at least one; they need not be in memory together.
        components: Wanted; fewer come back when there are fewer vectors or dimensions.

    Returns:
        mean (dim,) and orthonormal components (k, dim), largest variance first, on the blocks' device.
    """
    seen, device = Covariance(), torch.device("cpu")
    for block in blocks:
        seen.add(block)
        device = block.device
    k = min(components, seen.count, len(seen.mean))
    # On the CPU: Apple's GPUs have neither float64 nor this decomposition.
    _, _, v = torch.svd_lowrank(seen.covariance.float(), q=min(k + 16, len(seen.mean)), niter=4)
    return seen.mean.float().to(device), v[:, :k].T.to(device)


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
        # Summed in float64 on the CPU: Apple's GPUs have no float64.
        squared += float((vector_hat - vector).square().cpu().sum(dtype=torch.float64))
        total += float((vector - mean).square().cpu().sum(dtype=torch.float64))
        values += vector.numel()
    return squared / values, 1 - squared / total
