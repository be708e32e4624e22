"""A first guess at the phase of a magnitude spectrogram, in one pass."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

_EPSILON = 1e-5
# Any phases that do not line up; fixed, so that the same magnitudes always sound the same.
_GOLDEN = (math.sqrt(5) - 1) / 2


@torch.no_grad()
def single_pass_phase(magnitude: Tensor, hop_length: int, before: Tensor | None = None) -> Tensor:
    """Sinusoids followed from frame to frame (SPSI: Beauregard, Harish and Wyse 2015).

    Each bin belongs to the nearest peak of its frame. A peak's frequency, interpolated between the bins, says
    how far its phase has gone since the last frame; its bins go with it, neighbours half a turn apart.

    Args:
        magnitude: (batch, n_fft // 2 + 1, frames).
        hop_length: Of the STFT.
        before: (batch, n_fft // 2 + 1) phases of the frame before the first, if this goes on from there.

    Returns:
        Radians in [0, 2 pi), same shape.
    """
    batch, bins, frames = magnitude.shape
    n_fft = 2 * (bins - 1)
    level = magnitude.clamp_min(_EPSILON).log().transpose(1, 2)
    below, here, above = level[..., :-2], level[..., 1:-1], level[..., 2:]
    peak = F.pad((here > below) & (here >= above), (1, 1))
    curvature = (below - 2 * here + above).clamp(max=-_EPSILON)
    offset = F.pad((0.5 * (below - above) / curvature).clamp(-0.5, 0.5), (1, 1))

    index = torch.arange(bins, device=magnitude.device).expand_as(level)
    left = torch.where(peak, index, -bins).cummax(-1).values
    right = torch.where(peak, index, 2 * bins).flip(-1).cummin(-1).values.flip(-1)
    nearest = torch.where(index - left <= right - index, left, right)
    # A frame without any peak, such as silence: every bin for itself.
    nearest = torch.where((nearest < 0) | (nearest >= bins), index, nearest)
    turn = 2 * math.pi * hop_length / n_fft * (nearest + offset.gather(-1, nearest))
    step = turn + math.pi * ((index - nearest) % 2)

    # Frame after frame, but no more than a lookup and a sum each: numpy, whose calls cost a quarter of torch's,
    # and on the CPU wherever the rest is. Over an hour's frames float32 would not do.
    row = bins * torch.arange(batch, device=level.device)[:, None, None]
    sources = (nearest + row).transpose(0, 1).reshape(frames, -1).cpu().numpy()
    phase = step.cpu().double().transpose(0, 1).reshape(frames, -1).numpy()
    if before is None:
        now = np.tile(2 * math.pi * _GOLDEN * np.arange(bins), batch)
    else:
        now = before.cpu().double().reshape(-1).numpy()
    for t, source in enumerate(sources):
        phase[t] += now[source]
        now = phase[t]
    d_phase = torch.from_numpy(phase).reshape(frames, batch, bins).remainder(2 * math.pi)
    return d_phase.to(level).permute(1, 2, 0)
