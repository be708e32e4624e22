"""Initial spectrum of a log-mel: magnitudes by pseudo-inverse, phases by single-pass spectrogram inversion."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melodygan_core.config import FeatureConfig
from melodygan_core.features import mel_filterbank

# Natural log of more than any mel band or bin of a wav in [-1, 1], which is at most about n_fft / 2.
MAX_LOG = 10.0
_MIN_MAGNITUDE = 1e-4
_EPSILON = 1e-5
# First phases that do not line up. They are fixed, so that the same magnitudes always sound the same.
_GOLDEN = (math.sqrt(5) - 1) / 2


def pad_to_window(log_mel: Tensor, feature: FeatureConfig) -> Tensor:
    """Appends silence to a log-mel that is too short for the STFT, which reflects half a window at the ends.

    Args:
        log_mel: (batch, n_mels, frames), natural log.
        feature: How it was made.
    """
    fewest = feature.n_fft // (2 * feature.hop_length) + 2
    return F.pad(log_mel, (0, max(0, fewest - log_mel.shape[2])), value=math.log(feature.log_floor))


class InitialSpectrum(nn.Module):
    """log_mel -> magnitudes and phases of an STFT, without anything learned.

    Args:
        feature: How the log-mels were made.
    """

    inverse: Tensor

    def __init__(self, feature: FeatureConfig) -> None:
        super().__init__()
        self.feature = feature
        # Not a weight: it has values even where a checkpoint is built on the meta device.
        with torch.device("cpu"):
            self.register_buffer("inverse", torch.linalg.pinv(mel_filterbank(feature)), persistent=False)

    @torch.no_grad()
    def magnitude(self, log_mel: Tensor) -> Tensor:
        """log_mel (batch, n_mels, frames), natural log -> magnitudes (batch, n_fft // 2 + 1, frames)."""
        mel = (log_mel.clamp(max=MAX_LOG).exp() - self.feature.log_floor).clamp_min(0)
        return (mel.transpose(1, 2) @ self.inverse).clamp_min(_MIN_MAGNITUDE).transpose(1, 2)

    @torch.no_grad()
    def forward(self, log_mel: Tensor, before: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """log_mel (batch, n_mels, frames) -> magnitude and phase, each (batch, n_fft // 2 + 1, frames).

        Args:
            log_mel: Natural log.
            before: Phases of the frame before the first; see single_pass_phase.
        """
        magnitude = self.magnitude(log_mel)
        return magnitude, single_pass_phase(magnitude, self.feature.hop_length, before)


@torch.no_grad()
def single_pass_phase(magnitude: Tensor, hop_length: int, before: Tensor | None = None) -> Tensor:
    """Phases of sinusoids that are tracked from frame to frame (SPSI: Beauregard, Harish and Wyse 2015).

    Each bin belongs to the nearest peak of its frame. The frequency of a peak, interpolated between bins, gives
    the phase advance since the last frame. The bins of a peak advance with it, neighbours half a turn apart.

    The loop over frames runs in numpy on the CPU, wherever the magnitudes are: a GPU waits for it.

    Args:
        magnitude: (batch, n_fft // 2 + 1, frames).
        hop_length: Of the STFT.
        before: (batch, n_fft // 2 + 1) phases of the frame before the first, to continue from.

    Returns:
        Radians in [0, 2 pi), of the same shape.
    """
    batch, bins, frames = magnitude.shape
    n_fft = 2 * (bins - 1)
    level = magnitude.clamp_min(_EPSILON).log().transpose(1, 2)
    lower, here, upper = level[..., :-2], level[..., 1:-1], level[..., 2:]
    peak = F.pad((here > lower) & (here >= upper), (1, 1))
    curvature = (lower - 2 * here + upper).clamp(max=-_EPSILON)
    offset = F.pad((0.5 * (lower - upper) / curvature).clamp(-0.5, 0.5), (1, 1))

    index = torch.arange(bins, device=magnitude.device).expand_as(level)
    left = torch.where(peak, index, -bins).cummax(-1).values
    right = torch.where(peak, index, 2 * bins).flip(-1).cummin(-1).values.flip(-1)
    nearest = torch.where(index - left <= right - index, left, right)
    # In a frame without a peak, such as silence, every bin is its own.
    nearest = torch.where((nearest < 0) | (nearest >= bins), index, nearest)
    peak_advance = 2 * math.pi * hop_length / n_fft * (nearest + offset.gather(-1, nearest))
    advance = peak_advance + math.pi * ((index - nearest) % 2)

    # A lookup and a sum per frame: a numpy call costs a quarter of a torch call. In float64, because float32
    # loses the phase over an hour's frames.
    row = bins * torch.arange(batch, device=level.device)[:, None, None]
    sources = (nearest + row).transpose(0, 1).reshape(frames, -1).cpu().numpy()
    phase = advance.cpu().double().transpose(0, 1).reshape(frames, -1).numpy()
    if before is None:
        now = np.tile(2 * math.pi * _GOLDEN * np.arange(bins), batch)
    else:
        now = before.cpu().double().reshape(-1).numpy()
    for t, source in enumerate(sources):
        phase[t] += now[source]
        now = phase[t]
    wrapped = torch.from_numpy(phase).reshape(frames, batch, bins).remainder(2 * math.pi)
    return wrapped.to(level.dtype).to(level.device).permute(1, 2, 0)
