"""How well a sound follows a plan."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import find_peaks

from melodygan_core.metrics import music
from melodygan_core.plan.extract import extract
from melodygan_core.plan.grid import SUBPOSITIONS, Array
from melodygan_core.plan.plan import UNVOICED, Plan

# An onset is found if the sound has one this near.
ONSET_TOLERANCE_S = 0.07
# Of the strength of an onset; 1 is a strong one.
_ONSET, _APART_S = 0.3, 0.05
# Metre is compared where the plan is this sure of it.
_SURE = 0.3
_FEWEST = 8

Samples = NDArray[np.floating]


def adherence(plan: Plan, wav: Samples, sample_rate: int) -> dict[str, float]:
    """Measures how well a sound follows a plan.

    The plan of the sound is extracted and compared with the wanted one, part by part. What is open, or in
    which the plan has too little to say, is left out.

    Args:
        plan: What was wanted.
        wav: (samples,) or (channels, samples) in [-1, 1], as long as the plan or longer.
        sample_rate: Hz.

    Returns:
        `chroma_correlation`: Mean over tokens of the correlation of 24 pitch classes, in [-1, 1].
        `chroma_cosine`: Mean over tokens of their cosine, in [0, 1].
        `onset_correlation`: Correlation of the onset strengths of tokens, in [-1, 1].
        `onset_f`: F measure of the onsets, within 70 ms.
        `melody`: Share of the plan's notes, in tokens, whose pitch class the predominant line has.
        `melody_transcribed`: The same of the melody line of notes that basic-pitch transcribes, if it is
            installed.
        `beat`: Mean cosine of the difference of the phases of the beat: 1 on the beat, 0 by chance.

    Raises:
        InputError: as `plan.extract`.
    """
    made = extract(wav, sample_rate, plan.grid, len(plan))
    found: dict[str, float | None] = {}
    if "harmony" in plan.given:
        found |= _harmony(plan, made)
    if "onsets" in plan.given:
        found["onset_correlation"] = _correlation(plan.onsets.max(axis=1), made.onsets.max(axis=1))
        found["onset_f"] = onset_f(_onset_times(plan), _onset_times(made))
    if "melody" in plan.given:
        found["melody"] = _same_notes(plan.melody, made.melody)
        if music.model_path() is not None:
            found["melody_transcribed"] = _same_notes(plan.melody, _transcribed(plan, wav, sample_rate))
    if "metre" in plan.given:
        found["beat"] = _beat(plan, made)
    return {name: value for name, value in found.items() if value is not None}


def onset_f(wanted_s: Array, made_s: Array) -> float | None:
    """Returns the F measure of onsets within 70 ms of each other, each matched at most once; None without any.

    Args:
        wanted_s: (n,) times in seconds, ascending.
        made_s: (m,) the same.
    """
    if not len(wanted_s):
        return None
    matched, later = 0, 0
    for time in wanted_s:
        while later < len(made_s) and made_s[later] < time - ONSET_TOLERANCE_S:
            later += 1
        if later < len(made_s) and made_s[later] <= time + ONSET_TOLERANCE_S:
            matched, later = matched + 1, later + 1
    return 2 * matched / (len(wanted_s) + len(made_s))


def _harmony(plan: Plan, made: Plan) -> dict[str, float | None]:
    wanted, heard = (np.concatenate([p.upper_chroma, p.lower_chroma], axis=1) for p in (plan, made))
    given = wanted.any(axis=1)
    if given.sum() < _FEWEST:
        return {}
    wanted, heard = wanted[given].astype(np.float64), heard[given].astype(np.float64)
    centred = [c - c.mean(axis=1, keepdims=True) for c in (wanted, heard)]
    return {
        "chroma_correlation": float(_cosine(*centred).mean()),
        "chroma_cosine": float(_cosine(wanted, heard).mean()),
    }


def _cosine(first: Array, second: Array) -> Array:
    """Cosine of each row (n,); 0 where a row is zero."""
    scale = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.divide((first * second).sum(axis=1), scale, out=np.zeros(len(first)), where=scale > 0)


def _correlation(wanted: NDArray[np.floating], made: NDArray[np.floating]) -> float | None:
    if len(wanted) < _FEWEST or not float(wanted.std()):
        return None
    # A sound in which nothing changes follows nothing.
    return float(np.corrcoef(wanted, made)[0, 1]) if float(made.std()) else 0.0


def _onset_times(plan: Plan) -> Array:
    strength = plan.onsets.reshape(-1)
    apart = max(1, round(_APART_S * SUBPOSITIONS / plan.grid.token_s))
    # An onset may lie in the first part or the last.
    peaks, _ = find_peaks(np.pad(strength, 1), height=_ONSET, distance=apart)
    return plan.grid.centres(len(plan), SUBPOSITIONS)[peaks - 1]


def _same_notes(wanted: NDArray[np.int16], made: NDArray[np.int16]) -> float | None:
    voiced = wanted != UNVOICED
    if voiced.sum() < _FEWEST:
        return None
    same = (made != UNVOICED) & (wanted % 12 == made % 12)
    return float(same[voiced].mean())


def _transcribed(plan: Plan, wav: Samples, sample_rate: int) -> NDArray[np.int16]:
    """Returns the pitch (tokens,) of the melody line of transcribed notes at the plan's tokens."""
    line = music.melody_line(music.transcribe(music.music_sound(wav, sample_rate)))
    centres = plan.grid.centres(len(plan))
    pitch = np.full(len(plan), UNVOICED, np.int16)
    for note in line:
        pitch[(centres >= note.start_s) & (centres < note.end_s)] = note.pitch
    return pitch


def _beat(plan: Plan, made: Plan) -> float | None:
    sure = plan.beat_confidence >= _SURE
    if sure.sum() < _FEWEST:
        return None
    heard = made.beat_confidence[sure] > 0
    turn = 2 * np.pi * (plan.beat_phase[sure] - made.beat_phase[sure]).astype(np.float64)
    return float((np.cos(turn) * heard).mean())
