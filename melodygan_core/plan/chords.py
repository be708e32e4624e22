"""Chord symbols and keys: `Am F C G`, `C | Dm7 G7 | C`, `F# minor`."""

from __future__ import annotations

import re

import numpy as np

from melodygan_core.config import require
from melodygan_core.metrics.music.harmony import key_correlations
from melodygan_core.plan.score import Score, ScoreChord, pitch_profile, transposed

NATURALS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_QUALITIES = {
    (0, 4, 7): ("", "maj", "M"),
    (0, 3, 7): ("m", "min", "-"),
    (0, 4, 7, 10): ("7", "dom7"),
    (0, 4, 7, 11): ("maj7", "M7", "Δ"),
    (0, 3, 7, 10): ("m7", "min7", "-7"),
    (0, 3, 7, 11): ("mM7", "mmaj7"),
    (0, 3, 6): ("dim", "o", "°"),
    (0, 3, 6, 9): ("dim7", "o7", "°7"),
    (0, 3, 6, 10): ("m7b5", "ø"),
    (0, 4, 8): ("aug", "+"),
    (0, 2, 7): ("sus2",),
    (0, 5, 7): ("sus4", "sus"),
    (0, 5, 7, 10): ("7sus4", "7sus"),
    (0, 4, 7, 9): ("6", "maj6"),
    (0, 3, 7, 9): ("m6", "min6"),
    (0, 2, 4, 7): ("add9", "add2"),
    (0, 2, 4, 7, 10): ("9",),
    (0, 2, 3, 7, 10): ("m9",),
    (0, 2, 4, 7, 11): ("maj9",),
    (0, 7): ("5",),
}
QUALITIES = {name: steps for steps, names in _QUALITIES.items() for name in names}
_SYMBOL = re.compile(r"([A-G])([#b♯♭]?)([^/]*)(?:/([A-G])([#b♯♭]?))?")
_SHIFT = {"": 0, "#": 1, "♯": 1, "b": -1, "♭": -1}
_KEY = re.compile(r"([A-G])([#b♯♭]?)\s*(m|min|minor|maj|major)?", re.IGNORECASE)
_PAUSES, _AGAIN = ("N", "NC", "N.C."), "%"
_MOST_CHORDS = 2000
# What a key plays of which nothing else is said: degrees of the scale and whether they are minor.
_PROGRESSIONS = {
    "major": ((0, False), (9, True), (5, False), (7, False)),
    "minor": ((0, True), (8, False), (3, False), (10, False)),
}


def pitch_class(letter: str, accidental: str) -> int:
    """Returns the pitch class of a name, 0 for C."""
    return (NATURALS[letter.upper()] + _SHIFT[accidental]) % 12


def chord(symbol: str) -> tuple[tuple[int, ...], int]:
    """Returns the pitch classes of a chord symbol, ascending, and that of its bass; none for `N.C.`.

    Raises:
        InputError: not a chord symbol that is known.
    """
    if symbol in _PAUSES:
        return (), 0
    match = _SYMBOL.fullmatch(symbol)
    known = ", ".join(name for name in QUALITIES if name and name.isascii())
    allowed = f"a letter A to G, # or b, one of {known} or nothing, and /BASS where it is another note"
    require(match is not None and match[3] in QUALITIES, "chords", symbol, allowed)
    assert match is not None
    root = pitch_class(match[1], match[2])
    bass = pitch_class(match[4], match[5]) if match[4] else root
    return tuple(sorted({(root + step) % 12 for step in QUALITIES[match[3]]} | {bass})), bass


def progression(text: str, beats: int) -> tuple[ScoreChord, ...]:
    """Returns the chords of a text: one per bar, or those between two `|` in equal parts of a bar.

    Args:
        text: Symbols with spaces between them, `%` for the one before.
        beats: Of a bar.

    Raises:
        InputError: an unknown symbol, none at all, or too many.
    """
    separated = "|" in text
    groups = [g.split() for g in text.split("|")] if separated else [[symbol] for symbol in text.split()]
    groups = [g for g in groups if g]
    count = sum(map(len, groups))
    require(0 < count <= _MOST_CHORDS, "chords", text, f"1 to {_MOST_CHORDS} chord symbols, such as Am F C G")
    found: list[ScoreChord] = []
    for bar, symbols in enumerate(groups):
        size = beats / len(symbols)
        for k, symbol in enumerate(symbols):
            require(symbol != _AGAIN or bool(found), "chords", symbol, "a chord symbol in the first place")
            made = (found[-1].classes, found[-1].bass) if symbol == _AGAIN else chord(symbol)
            found.append(ScoreChord(bar * beats + k * size, size, *made))
    return tuple(found)


def parse_key(text: str) -> tuple[int, str]:
    """Returns the tonic's pitch class and `major` or `minor` of a key such as `C`, `Am` or `F# minor`.

    Raises:
        InputError: not a key.
    """
    match = _KEY.fullmatch(text.strip())
    require(match is not None, "key", text, "a letter A to G, # or b, and major or minor, such as F# minor")
    assert match is not None
    mode = match[3] or ""
    # `M` is no short form: without regard to case it would be minor.
    minor = mode == "m" or mode.lower() in ("min", "minor")
    return pitch_class(match[1], match[2]), "minor" if minor else "major"


def in_key(score: Score, key: str) -> Score:
    """Returns a score transposed to a key, by at most six semitones.

    Its own tonic is the one that fits best of all keys of that mode (Krumhansl).

    Args:
        score: With notes or chords.
        key: As for `parse_key`.
    """
    tonic, mode = parse_key(key)
    correlations = key_correlations(pitch_profile(score))
    fits = correlations[:12] if mode == "major" else correlations[12:]
    steps = (tonic - int(np.argmax(fits))) % 12
    return transposed(score, steps - 12 if steps > 6 else steps)


def key_progression(key: str, beats: int) -> tuple[ScoreChord, ...]:
    """Returns the chords of a key without any: I vi IV V, in minor i VI III VII, a bar each."""
    tonic, mode = parse_key(key)
    found = []
    for bar, (degree, minor) in enumerate(_PROGRESSIONS[mode]):
        root = (tonic + degree) % 12
        classes = tuple(sorted((root + step) % 12 for step in QUALITIES["m" if minor else ""]))
        found.append(ScoreChord(float(bar * beats), float(beats), classes, root))
    return tuple(found)
