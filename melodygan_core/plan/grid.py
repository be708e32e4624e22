"""When the tokens of a plan are, and the eight parts of each."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from melodygan_core.config import FeatureConfig, require

# Parts of a token: where in its 93 ms an onset lies.
SUBPOSITIONS = 8

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """The times of tokens, which are those of a codec's latents.

    Attributes:
        token_s: Duration of a token, in seconds, above 0.
        lead_s: Time by which the first token begins before the first sample: frames are centred on samples, so
            that the first token of a codec begins half a frame early.
    """

    token_s: float
    lead_s: float = 0.0

    def __post_init__(self) -> None:
        require(0 < self.token_s < 60, "token_s", self.token_s, "above 0 and below 60")
        require(0 <= self.lead_s < self.token_s, "lead_s", self.lead_s, f"0 to {self.token_s:g} (`token_s`)")

    def edges(self, tokens: int, parts: int = 1) -> Array:
        """Returns the times (tokens * parts + 1,) in seconds between equal parts of the tokens."""
        return np.arange(tokens * parts + 1, dtype=np.float64) * (self.token_s / parts) - self.lead_s

    def centres(self, tokens: int, parts: int = 1) -> Array:
        """Returns the times (tokens * parts,) in seconds of the middles of equal parts of the tokens."""
        edges = self.edges(tokens, parts)
        return (edges[1:] + edges[:-1]) / 2

    def position(self, time_s: float, parts: int = 1) -> int:
        """Returns the number of the part of a token that a time in seconds lies in."""
        # Times that are written as fractions of a beat may lie a rounding error before the edge that they mean.
        return math.floor((time_s + self.lead_s) * parts / self.token_s + 1e-6)

    def tokens(self, duration_s: float) -> int:
        """Returns the number of tokens that cover so many seconds from the first sample on."""
        return max(0, math.ceil((duration_s + self.lead_s) / self.token_s - 1e-6))


def codec_grid(feature: FeatureConfig, token_frames: int) -> Grid:
    """Returns the grid of a codec's latents.

    Args:
        feature: Of the codec.
        token_frames: Frames per token.
    """
    return token_grid(token_frames, feature.hop_length / feature.sample_rate)


def token_grid(token_frames: int, frame_s: float) -> Grid:
    """Returns the grid of tokens of so many frames, which are `frame_s` seconds apart."""
    return Grid(token_frames * frame_s, frame_s / 2)
