"""The embedding of `metrics.embed` as a differentiable function of tensors, for guidance."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from melodygan_core.config import require
from melodygan_core.metrics.embedding import (
    BAND_GROUPS,
    CONTRAST_SCALE,
    MEAN_SCALE,
    MIN_FRAME_RATE,
    MIN_WINDOW_S,
    MODULATION_SCALE,
    POWER_FLOOR,
    SPREAD_SCALE,
    modulation_bands,
)


def embed_tensor(log_mel: Tensor, frame_rate: float) -> Tensor:
    """Embeds each window of log-mel as `metrics.embed` does, in the tensor's own precision and with gradients.

    Args:
        log_mel: (n, n_mels, frames), natural log of magnitudes; at least 16 bands and 0.5 s.
        frame_rate: Frames per second, at least 60.

    Returns:
        (n, 120), as `metrics.embed`.

    Raises:
        InputError: wrong shape, too short, or too low a frame rate.
    """
    require(log_mel.ndim == 3, "log_mel.shape", tuple(log_mel.shape), "(n, n_mels, frames)")
    n_mels, frames = log_mel.shape[1:]
    require(n_mels >= 2 * BAND_GROUPS, "n_mels", n_mels, f"at least {2 * BAND_GROUPS}")
    require(frame_rate >= MIN_FRAME_RATE, "frame_rate", frame_rate, f"at least {MIN_FRAME_RATE:g} per second")
    fewest = int(np.ceil(MIN_WINDOW_S * frame_rate))
    require(frames >= fewest, "frames", frames, f"at least {fewest} ({MIN_WINDOW_S} s)")
    mean = log_mel.mean(dim=2)
    fluctuation = log_mel - mean[:, :, None]
    # As numpy's hanning(frames + 1) without its last value.
    taper = torch.hann_window(frames, periodic=True, dtype=log_mel.dtype, device=log_mel.device)
    power = torch.fft.rfft(fluctuation * taper).abs().square() * (2 / (frames * float(taper.square().sum())))
    bands = torch.from_numpy(modulation_bands(frames, frame_rate)).to(power)
    groups = _groups(n_mels).to(power)
    sizes = groups.sum(dim=0)
    steps = mean.diff(dim=1).square()
    # A step from one group to the next belongs to neither.
    inside = groups[:-1] * (groups[:-1] == groups[1:])
    variances = fluctuation.square().mean(dim=2) @ groups / sizes
    contrasts = steps @ inside / (sizes - 1)
    modulations = torch.einsum("nbm,bg->ngm", power @ bands, groups) / sizes[:, None]
    return torch.cat(
        [
            mean @ groups / sizes / MEAN_SCALE,
            0.5 * (variances + POWER_FLOOR).log() / SPREAD_SCALE,
            0.5 * (contrasts + POWER_FLOOR).log() / CONTRAST_SCALE,
            (modulations + POWER_FLOOR).log().flatten(1) / MODULATION_SCALE,
        ],
        dim=1,
    )


def _groups(n_mels: int) -> Tensor:
    """(n_mels, BAND_GROUPS), 1 where a band is of a group."""
    starts = np.linspace(0, n_mels, BAND_GROUPS, endpoint=False).round().astype(int)
    group = np.searchsorted(starts, np.arange(n_mels), side="right") - 1
    return torch.nn.functional.one_hot(torch.from_numpy(group), BAND_GROUPS).float()
