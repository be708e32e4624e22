"""Sound to plan, in one pass, with no trained weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from melodygan_core import audio
from melodygan_core.config import require
from melodygan_core.plan.grid import Array, Grid
from melodygan_core.plan.melody import melody_of
from melodygan_core.plan.plan import PARTS, Plan, empty
from melodygan_core.plan.rhythm import metre_of, onset_parts, onset_strengths
from melodygan_core.plan.sections import sections_of
from melodygan_core.plan.spectrum import (
    LOWER_SIZE,
    RATE,
    SILENT_RMS,
    UPPER_SIZE,
    chroma_of,
    spectral_peaks,
)

# Loudness of a token: -60 dB of full scale is 0.
_QUIETEST_DB = 60.0


def extract(wav: NDArray[np.floating], sample_rate: int, grid: Grid, tokens: int | None = None) -> Plan:
    """Extracts the plan of a sound.

    Args:
        wav: (samples,) or (channels, samples) in [-1, 1].
        sample_rate: Hz, at least 8,000.
        grid: When the tokens are.
        tokens: Number of tokens; those that cover the sound by default.

    Returns:
        All parts are given. Silence has zeros everywhere.

    Raises:
        InputError: another shape, values that are not finite, or too low a sample rate.
    """
    require(wav.ndim in (1, 2), "wav.shape", wav.shape, "(samples,) or (channels, samples)")
    require(sample_rate >= 8_000, "sample_rate", sample_rate, "at least 8000 Hz")
    require(bool(np.isfinite(wav).all()), "wav", "not finite", "finite values")
    count = grid.tokens(wav.shape[-1] / sample_rate) if tokens is None else tokens
    mono = audio.to_mono(np.atleast_2d(np.asarray(wav, np.float32)))
    mono = audio.resample(mono, sample_rate, RATE)
    made = empty(grid, count)
    values = {name: getattr(made, name) for name in made.__dataclass_fields__}
    values["given"] = frozenset(PARTS)
    if not mono.size or not count or float(np.sqrt(np.mean(np.square(mono, dtype=np.float64)))) < SILENT_RMS:
        return Plan(**values)
    centres = grid.centres(count)
    lower, upper = (spectral_peaks(mono, centres, size) for size in (LOWER_SIZE, UPPER_SIZE))
    high, low = chroma_of(lower, upper, count)
    chroma, onsets = np.concatenate([high, low], axis=1), onset_strengths(mono)
    metre = metre_of(onsets, chroma, grid)
    values |= {"upper_chroma": high, "lower_chroma": low, "melody": melody_of(upper, count)}
    values |= {"onsets": onset_parts(onsets.strength, grid, count), **vars(metre)}
    values |= {"loudness": _loudness(mono, grid, count), "section": sections_of(mono, chroma, grid)}
    return Plan(**values)


def _loudness(wav: NDArray[np.float32], grid: Grid, tokens: int) -> NDArray[np.float32]:
    """Returns the RMS (tokens,) in dB, from 0 at -60 dB of full scale to 1 at full scale."""
    edges = np.clip(np.round(grid.edges(tokens) * RATE).astype(np.int64), 0, len(wav))
    energy: Array = np.concatenate([[0.0], np.cumsum(np.square(wav, dtype=np.float64))])
    power = np.diff(energy[edges]) / np.maximum(np.diff(edges), 1)
    level_db = 10 * np.log10(np.maximum(power, 1e-12))
    return np.clip(1 + level_db / _QUIETEST_DB, 0, 1).astype(np.float32)
