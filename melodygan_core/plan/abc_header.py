"""The fields of ABC notation before a tune: metre, unit length, tempo and key."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction

from melodygan_core.config import require

_MODES = {"maj": 0, "ion": 0, "mix": 1, "dor": 2, "m": 3, "min": 3, "aeo": 3, "phr": 4, "loc": 5, "lyd": -1}
_SHARPS = "FCGDAEB"
_FIFTHS = {letter: k - 1 for k, letter in enumerate(_SHARPS)}
_KEY = re.compile(r"([A-G])([#b]?)\s*([A-Za-z]*)")


@dataclass
class Header:
    """What the fields before a tune say.

    Attributes:
        unit: Length of a note without one, in whole notes.
        beats: Beats of a bar.
        beat: Length of a beat, in whole notes.
        tempo_bpm: Beats per minute.
        signature: Letter to semitones.
    """

    unit: Fraction = Fraction(0)
    beats: int = 4
    beat: Fraction = Fraction(1, 4)
    tempo_bpm: float = 120.0
    signature: dict[str, int] = field(default_factory=dict)


def read_field(tune: Header, name: str, value: str) -> None:
    """Takes a field into a header; fields that say nothing of notes are left out.

    Raises:
        InputError: a value that is not ABC.
    """
    if name == "M":
        tune.beats, tune.beat = _metre(value)
    elif name == "L":
        tune.unit = _fraction(value, "L")
    elif name == "Q":
        tune.tempo_bpm = _tempo(value, tune)
    elif name == "K":
        tune.signature = _signature(value)


def _metre(value: str) -> tuple[int, Fraction]:
    """Beats of a bar and their length; of 6/8, 9/8 and 12/8 three eighths are a beat."""
    common = {"C": "4/4", "C|": "2/2", "none": "4/4", "": "4/4"}
    match = re.fullmatch(r"(\d{1,2})/(1|2|4|8|16|32)", common.get(value, value))
    require(match is not None, "melody", f"M:{value}", "in a metre such as M:4/4, M:6/8 or M:C")
    assert match is not None
    count, unit = int(match[1]), Fraction(1, int(match[2]))
    if count > 3 and count % 3 == 0 and unit <= Fraction(1, 8):
        count, unit = count // 3, 3 * unit
    require(1 <= count <= 16, "melody", f"M:{value}", "in a metre of 1 to 16 beats")
    return count, unit


def _fraction(value: str, name: str) -> Fraction:
    match = re.fullmatch(r"(\d{1,2})/(\d{1,3})", value)
    good = match is not None and int(match[1]) > 0 and int(match[2]) > 0
    require(good, "melody", f"{name}:{value}", f"in ABC notation with a fraction such as {name}:1/8")
    assert match is not None
    return Fraction(int(match[1]), int(match[2]))


def _tempo(value: str, tune: Header) -> float:
    """Beats per minute of `1/4=120` or `120`."""
    plain = re.sub(r'"[^"]*"', "", value).strip()
    match = re.fullmatch(r"(?:(\d{1,2}/\d{1,3})\s*=\s*)?(\d{1,3}(?:\.\d{1,3})?)", plain)
    require(match is not None, "melody", f"Q:{value}", "in ABC notation with a tempo such as Q:1/4=120")
    assert match is not None
    unit = _fraction(match[1], "Q") if match[1] else tune.beat
    return float(match[2]) * float(unit / tune.beat)


def _signature(value: str) -> dict[str, int]:
    """Letter to semitones of a key such as `Am`, `D mixolydian` or `none`."""
    if value.split(" ", maxsplit=1)[0] in ("", "none", "HP"):
        return {}
    match = _KEY.match(value)
    mode = (match[3].lower()[:3] if match and match[3] else "maj") if match else ""
    mode = "maj" if "=" in value or mode.startswith(("cl", "tr", "ba")) else mode
    require(mode in _MODES, "melody", f"K:{value}", "in a key such as K:C, K:Am or K:D dorian")
    assert match is not None
    sharps = _FIFTHS[match[1]] + 7 * {"": 0, "#": 1, "b": -1}[match[2]] - _MODES[mode]
    require(-7 <= sharps <= 7, "melody", f"K:{value}", "in a key of at most seven sharps or flats")
    if sharps >= 0:
        return dict.fromkeys(_SHARPS[:sharps], 1)
    return dict.fromkeys(_SHARPS[::-1][:-sharps], -1)
