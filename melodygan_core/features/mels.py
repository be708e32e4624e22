"""From a spectrum to its mel bands, of magnitude and of power, in one pass."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor


class MelBands:
    """Sums of a spectrum over bands that are nearly all zeros: each bin has a weight in two of them.

    Args:
        filterbank: (bins, n_mels) float32 on any device; a band's weights lie side by side.
    """

    def __init__(self, filterbank: Tensor) -> None:
        self._filterbank = filterbank
        # First bin and last + 1 of each band, and its weights, one band after the other.
        self._ranges = np.zeros((filterbank.shape[1], 2), np.int64)
        weights = []
        for band, column in enumerate(filterbank.T.cpu()):
            inside = column.nonzero().flatten().tolist()
            if inside:
                self._ranges[band] = inside[0], inside[-1] + 1
            weights.append(column[slice(*self._ranges[band])].numpy())
        self._weights = np.concatenate(weights)

    def __call__(self, spectrum: Tensor, magnitude: Tensor, power: Tensor) -> None:
        """Writes the bands of |spectrum| and of |spectrum|^2.

        Args:
            spectrum: (frames, bins) complex64, contiguous, on the filterbank's device.
            magnitude: (frames, n_mels) float32, contiguous; is written.
            power: Likewise.
        """
        if spectrum.device.type != "cpu":
            self._by_torch(spectrum, magnitude, power)
            return
        parts = torch.view_as_real(spectrum).flatten(1)
        _kernel()(*(x.numpy() for x in (parts, magnitude, power)), self._ranges, self._weights)

    def _by_torch(self, spectrum: Tensor, magnitude: Tensor, power: Tensor) -> None:
        """The same on any device, by dense products."""
        square = torch.view_as_real(spectrum).square().sum(-1)
        torch.mm(square, self._filterbank, out=power)
        torch.mm(square.sqrt_(), self._filterbank, out=magnitude)


@cache
def _kernel() -> Any:
    # Imported here: with its compiler it takes a second, and only features need it.
    import numba

    # By its signature it is compiled here, once a machine (the code is kept beside this file or in the user's
    # cache), and not by the first of several threads that call it. Sums stay in order: a vector's start and end
    # cost more than a band is long.
    types = "void(float32[:,::1], float32[:,::1], float32[:,::1], int64[:,::1], float32[::1])"

    @numba.njit(types, nogil=True, fastmath={"contract", "nsz"}, cache=True)
    def kernel(parts: Any, magnitude: Any, power: Any, ranges: Any, weights: Any) -> None:
        frames, bins, bands = len(parts), parts.shape[1] // 2, len(ranges)
        squares, roots = np.zeros((4, bins), np.float32), np.zeros((4, bins), np.float32)
        sums = np.zeros((8, bands), np.float32)
        # Four frames at once: an addition waits for the one before it in its sum, and eight sums do not wait.
        for first in range(0, frames, 4):
            here = min(4, frames - first)
            for j in range(here):
                for k in range(bins):
                    re, im = parts[first + j, 2 * k], parts[first + j, 2 * k + 1]
                    square = re * re + im * im
                    squares[j, k] = square
                    roots[j, k] = np.sqrt(square)
            at = 0
            for band in range(bands):
                m0 = m1 = m2 = m3 = p0 = p1 = p2 = p3 = np.float32(0)
                for k in range(ranges[band, 0], ranges[band, 1]):
                    weight = weights[at]
                    at += 1
                    m0 += weight * roots[0, k]
                    m1 += weight * roots[1, k]
                    m2 += weight * roots[2, k]
                    m3 += weight * roots[3, k]
                    p0 += weight * squares[0, k]
                    p1 += weight * squares[1, k]
                    p2 += weight * squares[2, k]
                    p3 += weight * squares[3, k]
                for j, value in enumerate((m0, m1, m2, m3, p0, p1, p2, p3)):
                    sums[j, band] = value
            for j in range(here):
                magnitude[first + j] = sums[j]
                power[first + j] = sums[4 + j]

    return kernel
