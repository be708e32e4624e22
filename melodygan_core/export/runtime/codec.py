"""Latents -> spectrum and stereo of one piece, by an exported decoder."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from melodygan_core.config import FeatureConfig
from melodygan_core.export.manifest import CodecShape
from melodygan_core.export.runtime.sessions import Session

# float32; the operations of numpy are typed as of any precision.
Values = NDArray[Any]


class Decoded(NamedTuple):
    """What a codec decodes latents to.

    Attributes:
        spectrum: (frames, n_bands), natural log of magnitude.
        stereo: (frames, 2 * STEREO_BANDS); None for mono.
    """

    spectrum: Values
    stereo: Values | None = None


class Codec(ABC):
    """Decodes the latents of one piece."""

    @abstractmethod
    def tokens_for(self, frames: int) -> int:
        """Latents needed for a piece of so many frames."""

    @abstractmethod
    def decode(self, latents: Values, frames: int) -> Decoded:
        """Latents (tokens_for(frames), latent_dim) -> that many frames."""

    def feature_vectors(self, latents: Values) -> Values | None:
        """Latents (tokens, latent_dim) -> feature vectors (tokens, values); None for a codec without any."""
        return None


def refiner_noise(tokens: int, values: int) -> Values:
    """The noise (tokens, values) that refining starts from: of a position alone, as in `codec.refiner`."""
    return np.random.default_rng(0).standard_normal((tokens, values), np.float32)


class TemporalCodec(Codec):
    """See `codec.temporal`: the network gives whole frames.

    Args:
        shape: From the manifest.
        decoder: Network, latents (1, tokens, latent_dim)[, noise (1, tokens, values)] -> spectrum[, stereo].
    """

    def __init__(self, shape: CodecShape, decoder: Session) -> None:
        self._shape, self._decoder = shape, decoder

    def tokens_for(self, frames: int) -> int:
        """Latents needed for a piece of so many frames."""
        return max(1, -(-frames // self._shape.token_frames))

    def decode(self, latents: Values, frames: int) -> Decoded:
        """Latents (tokens_for(frames), latent_dim) -> that many frames."""
        values = self._shape.noise_values
        noise = [refiner_noise(len(latents), values)[None]] if values else []
        spectrum, *stereo = self._decoder(latents[None], *noise)
        return Decoded(spectrum[0, :frames], stereo[0][0, :frames] if stereo else None)


class DenseCodec(Codec):
    """See `codec.dense`: segments that cross-fade.

    Args:
        shape: From the manifest.
        feature: Of the spectrum.
        decoder: Network, latents (n, latent_dim) -> vectors (n, values), log_mel (n, n_mels, segment_frames).
        spectrum: Network, log_mel (frames, n_mels) -> spectrum (frames, n_bands).
    """

    def __init__(self, shape: CodecShape, feature: FeatureConfig, decoder: Session, spectrum: Session) -> None:
        self._shape, self._feature = shape, feature
        self._decoder, self._spectrum = decoder, spectrum

    def tokens_for(self, frames: int) -> int:
        """Segments needed for a piece of so many frames; neighbours overlap."""
        overlap = self._shape.overlap_frames
        return max(1, math.ceil((frames - overlap) / (self._shape.token_frames - overlap)))

    def decode(self, latents: Values, frames: int) -> Decoded:
        """Latents (segments, latent_dim) -> that many frames; neighbouring segments cross-fade."""
        _, segments = self._decoder(latents)
        log_mel = _crossfade(segments, self._shape.overlap_frames, frames)
        return Decoded(self._spectrum(np.ascontiguousarray(log_mel.T))[0])

    def feature_vectors(self, latents: Values) -> Values:
        """Latents (segments, latent_dim) -> feature vectors (segments, values), standardised."""
        return self._decoder(latents)[0]


def _crossfade(segments: Values, overlap: int, frames: int) -> Values:
    """Joins segments (n, n_mels, segment_frames) into one log-mel (n_mels, frames), linear in magnitude."""
    n, n_mels, length = segments.shape
    hop, total = length - overlap, np.zeros((n_mels, (length - overlap) * (n - 1) + length), np.float32)
    ramp = (np.arange(1, overlap + 1) / (overlap + 1)).astype(np.float32)
    for i, magnitude in enumerate(np.exp(segments)):
        weight = np.ones(length, np.float32)
        if i > 0:
            weight[:overlap] = ramp
        if i < n - 1:
            weight[length - overlap :] = 1 - ramp
        total[:, i * hop : i * hop + length] += magnitude * weight
    return np.log(total[:, :frames])
