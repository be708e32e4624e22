"""A plan: what a piece plays when, per latent token, without its sound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melodygan_core.config import require
from melodygan_core.plan.grid import SUBPOSITIONS, Grid

# Below, a note is bass.
SPLIT_HZ = 250.0
# Labels of sections: A to F.
SECTIONS = 6
# Octaves of the melody that a prior tells apart: C2 to B7; a note outside counts as of the nearest.
_LOWEST_OCTAVE, _OCTAVES = 3, 6
UNVOICED = 0
_HIGHEST_PITCH = 127

Floats = NDArray[np.float32]

# What may be given or left open by itself, and its values per token in `channels`.
PARTS = {
    "harmony": 24,
    "melody": 12 + _OCTAVES + 1,
    "onsets": SUBPOSITIONS,
    "metre": 6,
    "loudness": 1,
    "sections": SECTIONS,
}
# Each part ends with a flag that says that it is given.
CHANNELS = sum(PARTS.values()) + len(PARTS)


@dataclass(frozen=True)
class Plan:
    """Harmony, melody, onsets, metre, loudness and sections of a piece, each with one row per token.

    Attributes:
        grid: When the tokens are.
        upper_chroma: (tokens, 12) strength of the pitch classes above 250 Hz, C first, in [0, 1]; the strongest
            of a token is 1, and all are 0 in silence.
        lower_chroma: (tokens, 12) the same of 40 to 250 Hz.
        melody: (tokens,) MIDI pitch of the predominant line, 1 to 127; 0 where there is none.
        onsets: (tokens, 8) onset strength at the eight parts of each token, in [0, 1].
        beat_phase: (tokens,) position in the beat of the token's middle, in [0, 1); 0 is on the beat.
        bar_phase: (tokens,) position in the bar, in [0, 1).
        beat_confidence: (tokens,) how regular the beat is, in [0, 1]; 0 for none.
        bar_confidence: (tokens,) the same of the bar.
        loudness: (tokens,) 0 for -60 dB of full scale (RMS) or less, 1 for 0 dB.
        section: (tokens,) label of the section, 0 to 5, numbered as they first occur.
        given: Names of the parts (see PARTS) that say something; the others are open.
    """

    grid: Grid
    upper_chroma: Floats
    lower_chroma: Floats
    melody: NDArray[np.int16]
    onsets: Floats
    beat_phase: Floats
    bar_phase: Floats
    beat_confidence: Floats
    bar_confidence: Floats
    loudness: Floats
    section: NDArray[np.int8]
    given: frozenset[str] = frozenset(PARTS)

    def __post_init__(self) -> None:
        for name, (width, kind) in COLUMNS.items():
            values = getattr(self, name)
            shape = (len(self), width) if width > 1 else (len(self),)
            require(values.shape == shape, name, values.shape, f"of shape {shape}")
            require(values.dtype == kind, name, values.dtype, f"of type {np.dtype(kind)}")
            if np.issubdtype(kind, np.floating):
                inside = bool(((values >= 0) & (values <= 1)).all())
                require(inside, name, "other values", "0 to 1")
        inside = bool(((self.melody >= 0) & (self.melody <= _HIGHEST_PITCH)).all())
        require(inside, "melody", "other pitches", f"MIDI pitches, 0 to {_HIGHEST_PITCH}")
        inside = bool(((self.section >= 0) & (self.section < SECTIONS)).all())
        require(inside, "section", "other labels", f"0 to {SECTIONS - 1}")
        require(self.given <= PARTS.keys(), "given", sorted(self.given), f"some of {', '.join(PARTS)}")

    def __len__(self) -> int:
        return len(self.melody)

    @property
    def duration_s(self) -> float:
        """Duration of all tokens, in seconds."""
        return len(self) * self.grid.token_s

    def crop(self, start: int, stop: int) -> Plan:
        """Returns the plan of the tokens from `start` to before `stop`; those beyond its end are not there."""
        values: dict[str, Any] = {name: getattr(self, name)[start:stop] for name in COLUMNS}
        return replace(self, **values)


# Name to values per token, and type.
COLUMNS: dict[str, tuple[int, type[np.generic]]] = {
    "upper_chroma": (12, np.float32),
    "lower_chroma": (12, np.float32),
    "melody": (1, np.int16),
    "onsets": (SUBPOSITIONS, np.float32),
    "beat_phase": (1, np.float32),
    "bar_phase": (1, np.float32),
    "beat_confidence": (1, np.float32),
    "bar_confidence": (1, np.float32),
    "loudness": (1, np.float32),
    "section": (1, np.int8),
}
assert set(COLUMNS) | {"grid", "given"} == {f.name for f in fields(Plan)}


def empty(grid: Grid, tokens: int) -> Plan:
    """Returns a plan of which nothing is given."""
    values: dict[str, Any] = {
        name: np.zeros((tokens, width) if width > 1 else tokens, kind)
        for name, (width, kind) in COLUMNS.items()
    }
    return Plan(grid, **values, given=frozenset())


def transpose(plan: Plan, semitones: int) -> Plan:
    """Returns the plan some semitones higher: exactly, so that transposing back gives the same plan.

    Args:
        plan: Any.
        semitones: -60 to 60.

    Raises:
        InputError: a note of the melody would leave MIDI's range.
    """
    require(-60 <= semitones <= 60, "semitones", semitones, "-60 to 60")
    voiced = plan.melody != UNVOICED
    melody = np.where(voiced, plan.melody + semitones, UNVOICED).astype(np.int16)
    inside = bool(((melody[voiced] > 0) & (melody[voiced] <= _HIGHEST_PITCH)).all())
    require(inside, "semitones", semitones, "such that the melody stays within MIDI pitches 1 to 127")
    upper, lower = (np.roll(c, semitones, axis=1) for c in (plan.upper_chroma, plan.lower_chroma))
    return replace(plan, upper_chroma=upper, lower_chroma=lower, melody=melody)


def joined(plans: Sequence[Plan]) -> Plan:
    """Returns one plan of several of one grid, one after the other; given is what all of them give.

    Raises:
        InputError: none, or plans of different grids.
    """
    require(len(plans) > 0, "plans", 0, "one or more")
    grids = {plan.grid for plan in plans}
    require(len(grids) == 1, "plans", f"{len(grids)} grids", "of one grid")
    values: dict[str, Any] = {name: np.concatenate([getattr(p, name) for p in plans]) for name in COLUMNS}
    return replace(plans[0], **values, given=frozenset.intersection(*(plan.given for plan in plans)))


def channels(plan: Plan) -> Floats:
    """Returns a plan as a prior takes it: (tokens, CHANNELS), in [-1, 1]; zero where nothing is given.

    Each part's values are followed by a flag, which is 1 where the part is given. Phases are cosine and sine,
    times their confidence; the melody is one-hot by pitch class and octave, with a flag for a note.
    """
    columns: list[Floats] = []
    for name, values in _parts(plan).items():
        assert values.shape == (len(plan), PARTS[name])
        flag = np.ones((len(plan), 1), np.float32)
        columns += [c if name in plan.given else np.zeros_like(c) for c in (values, flag)]
    return np.concatenate(columns, axis=1)


def _parts(plan: Plan) -> dict[str, Floats]:
    turn = 2 * np.pi * np.stack([plan.beat_phase, plan.bar_phase], axis=1)
    sure = np.stack([plan.beat_confidence, plan.bar_confidence], axis=1)
    metre = np.concatenate([np.cos(turn) * sure, np.sin(turn) * sure, sure], axis=1).astype(np.float32)
    return {
        "harmony": np.concatenate([plan.upper_chroma, plan.lower_chroma], axis=1),
        "melody": _melody_channels(plan.melody),
        "onsets": plan.onsets,
        "metre": metre,
        "loudness": plan.loudness[:, None],
        "sections": np.eye(SECTIONS, dtype=np.float32)[plan.section],
    }


def _melody_channels(melody: NDArray[np.int16]) -> Floats:
    voiced = (melody != UNVOICED)[:, None].astype(np.float32)
    octave = np.clip(melody // 12 - _LOWEST_OCTAVE, 0, _OCTAVES - 1)
    classes = np.eye(12, dtype=np.float32)[melody % 12]
    octaves = np.eye(_OCTAVES, dtype=np.float32)[octave]
    return np.concatenate([classes * voiced, octaves * voiced, voiced], axis=1)


def open_parts(values: NDArray[np.floating], names: Sequence[str]) -> None:
    """Leaves parts of some plans open, in place.

    Args:
        values: (..., CHANNELS) of `channels`.
        names: Of the parts.
    """
    first = 0
    for name, width in PARTS.items():
        if name in names:
            values[..., first : first + width + 1] = 0
        first += width + 1
