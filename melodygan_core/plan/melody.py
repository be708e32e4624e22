"""The predominant line of a sound, by harmonic summation and the smoothest path; no weights.

After Klapuri (ISMIR 2006) and Salamon and Gomez (2012): each spectral peak supports the pitches of which it may
be the first to eighth partial, and the line is the path of most support that leaps least (Viterbi).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from melodygan_core.plan.grid import Array
from melodygan_core.plan.plan import UNVOICED
from melodygan_core.plan.spectrum import COMPRESSION, Peaks

# E2, which men hum, to B6.
LOWEST_PITCH, HIGHEST_PITCH = 40, 95
_PARTIALS, _DECAY = 8, 0.8
# Melodies lie around C5; an octave and a half away counts 0.6 as much.
_USUAL_PITCH, _SPREAD = 72.0, 18.0
# A leap of a semitone costs this share of a token's support, up to an octave.
_LEAP = 0.025
# A token has a note if the line's support is this share of the token's strongest and of the track's usual.
_VOICED_OF_TOKEN, _VOICED_OF_TRACK = 0.6, 0.3
# Single tokens that differ from equal neighbours are errors.
_SHORTEST = 2


def melody_of(peaks: Peaks, tokens: int) -> NDArray[np.int16]:
    """Returns the MIDI pitch (tokens,) of the predominant line, 0 where there is none.

    Args:
        peaks: Of short windows, which resolve fast notes.
        tokens: Number of tokens.
    """
    support = _support(peaks, tokens)
    strongest = support.max(axis=1)
    audible = strongest > 0
    if not audible.any():
        return np.full(tokens, UNVOICED, np.int16)
    relative = np.divide(support, strongest[:, None], out=np.zeros_like(support), where=audible[:, None])
    path = _smoothest(relative)
    own = support[np.arange(tokens), path]
    usual = float(np.percentile(strongest[audible], 75))
    voiced = (own > _VOICED_OF_TOKEN * strongest) & (own > _VOICED_OF_TRACK * usual)
    line = np.where(voiced, path + LOWEST_PITCH, UNVOICED)
    return _without_flicker(line).astype(np.int16)


def _support(peaks: Peaks, tokens: int) -> Array:
    """(tokens, pitches): what the peaks say for each pitch, overtones weighted less."""
    support = np.zeros((tokens, HIGHEST_PITCH - LOWEST_PITCH + 1))
    weight = peaks.magnitude**COMPRESSION
    position = 12 * np.log2(peaks.frequency_hz / 440.0) + 69 - LOWEST_PITCH
    for partial in range(1, _PARTIALS + 1):
        exact = position - 12 * np.log2(partial)
        pitch = np.round(exact).astype(int)
        inside = (pitch >= 0) & (pitch < support.shape[1])
        # Half a semitone off counts nothing.
        fit = np.cos(np.pi * (exact - pitch)) ** 2
        values = (weight * fit * _DECAY ** (partial - 1))[inside]
        np.add.at(support, (peaks.token[inside], pitch[inside]), values)
    pitches = np.arange(LOWEST_PITCH, HIGHEST_PITCH + 1)
    return support * np.exp(-0.5 * ((pitches - _USUAL_PITCH) / _SPREAD) ** 2)


def _smoothest(relative: Array) -> NDArray[np.int64]:
    """Returns the path (tokens,) of indices with most support, less the cost of its leaps."""
    tokens, pitches = relative.shape
    distance = np.abs(np.subtract.outer(np.arange(pitches), np.arange(pitches)))
    cost = _LEAP * np.minimum(distance, 12)
    score = relative[0].copy()
    before = np.zeros((tokens, pitches), np.int64)
    for k in range(1, tokens):
        reached = score[None] - cost
        before[k] = reached.argmax(axis=1)
        score = reached[np.arange(pitches), before[k]] + relative[k]
    path = np.empty(tokens, np.int64)
    path[-1] = int(score.argmax())
    for k in range(tokens - 1, 0, -1):
        path[k - 1] = before[k, path[k]]
    return path


def _without_flicker(line: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the line with single tokens between two equal neighbours set to these."""
    smooth = line.copy()
    same = line[:-_SHORTEST] == line[_SHORTEST:]
    smooth[1:-1] = np.where(same, line[:-_SHORTEST], line[1:-1])
    return smooth
