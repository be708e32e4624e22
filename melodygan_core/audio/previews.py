"""What a player shows of a sound: peaks of its waveform, and a spectrogram without axes."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

SPECTROGRAM_ROWS = 200
LOWEST_HZ = 50.0
COLUMNS = 1200
PEAKS = 400
# One scale for all sounds, so that a quieter sound is darker. 0 dB is a sine at full scale.
DARKEST_DB, BRIGHTEST_DB = -100.0, -20.0
_N_FFT = 2048


def peaks(wav: NDArray[np.float32], count: int = PEAKS) -> list[float]:
    """Returns the lowest and the highest sample of each part of a sound: low, high, low, high, ...

    Args:
        wav: (samples,) mono in [-1, 1]; samples beyond are clipped.
        count: Number of parts; fewer where there are fewer samples.

    Returns:
        2 * count values in [-1, 1], rounded to 0.01, finer than a pixel.
    """
    if not len(wav):
        return []
    edges = np.linspace(0, len(wav), min(count, len(wav)) + 1).astype(int)[:-1]
    pairs = np.stack([np.minimum.reduceat(wav, edges), np.maximum.reduceat(wav, edges)], axis=1)
    # Adding 0 makes 0 of -0.
    return (np.clip(pairs, -1, 1).astype(np.float64).round(2) + 0.0).ravel().tolist()


def spectrogram_db(
    wav: NDArray[np.float32], sample_rate: int, highest_hz: float | None = None
) -> NDArray[np.float64]:
    """Returns levels in dB of full scale (SPECTROGRAM_ROWS, frames), on a logarithmic frequency axis.

    Each row is the maximum over its bins, so that a narrow tone is as bright at high frequencies, where a row
    covers many bins, as at low ones. The first row begins at LOWEST_HZ.

    Args:
        wav: (samples,) mono in [-1, 1].
        sample_rate: In Hz.
        highest_hz: Where the last row ends, for pictures of sounds of several rates; half the sample rate by
            default. Rows above half the sample rate are empty.
    """
    padded = np.pad(wav, (_N_FFT // 2, _N_FFT // 2 + max(0, _N_FFT - len(wav))))
    hop = max(256, len(padded) // COLUMNS)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _N_FFT)[::hop]
    window = np.hanning(_N_FFT)
    magnitude = np.abs(np.fft.rfft(frames * window, axis=1)).T * (2 / window.sum())
    highest_hz = highest_hz or sample_rate / 2
    edges = np.geomspace(LOWEST_HZ, highest_hz, SPECTROGRAM_ROWS + 1) * _N_FFT / sample_rate
    low = np.minimum(np.floor(edges[:-1]).astype(int), len(magnitude) - 1)
    high = np.maximum(np.minimum(np.ceil(edges[1:]).astype(int), len(magnitude)), low + 1)
    rows = np.stack([magnitude[a:b].max(axis=0) for a, b in zip(low, high, strict=True)])
    rows[edges[:-1] >= _N_FFT / 2] = 0
    return 20 * np.log10(np.maximum(rows, 1e-9))


def spectrogram_png(wav: NDArray[np.float32], sample_rate: int, highest_hz: float | None = None) -> bytes:
    """Returns the picture of `spectrogram_db`, from DARKEST_DB to BRIGHTEST_DB, low frequencies below.

    It has no axes, because a player draws its playhead over the full width. Pillow writes it in a third of the
    time of `plots.sound_png`.

    Args:
        wav: (samples,) mono in [-1, 1].
        sample_rate: In Hz.
        highest_hz: See `spectrogram_db`.
    """
    share = (spectrogram_db(wav, sample_rate, highest_hz) - DARKEST_DB) / (BRIGHTEST_DB - DARKEST_DB)
    # 64 levels look the same and take half of the file size.
    level = (255 * np.clip(share[::-1], 0, 1)).astype(np.uint8) & 0xFC
    picture = Image.fromarray(level, mode="P")
    picture.putpalette(magma().tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, "png")
    return buffer.getvalue()


@cache
def magma() -> NDArray[np.uint8]:
    """Returns the colours of the magma colour map (256, 3)."""
    return np.ascontiguousarray(colormaps["magma"](np.arange(256), bytes=True)[:, :3])
