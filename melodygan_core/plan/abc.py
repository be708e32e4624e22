"""A tune in ABC notation (standard 2.1) to a score: the subset that folk tunes are written in.

Read are the fields X, T, M, L, Q and K, notes with accidentals, octaves and lengths, rests, ties, bars, repeats
with first and second endings, tuplets, broken rhythm, and chord symbols in quotes. Of notes in brackets the
highest counts. Grace notes, slurs, decorations and words are left out. Several voices, and changes of key,
metre or length within a tune, are refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction

from melodygan_core.config import require
from melodygan_core.errors import InputError
from melodygan_core.plan.abc_header import Header, read_field
from melodygan_core.plan.chords import chord, pitch_class
from melodygan_core.plan.score import Score, ScoreChord, ScoreNote, bars

_MOST_CHARACTERS = 100_000
_MOST_BARS = 4000
_FIELD = re.compile(r"([A-Za-z+]):(.*)")
_MIDDLE_C = 60
_TOKEN = re.compile(
    r'"(?P<chord>[^"]*)"'
    r"|\{[^}]*\}|![^!\n]*!|\+[a-z]+\+"
    r"|(?P<inline>\[[A-Za-z]:[^\]]*\])"
    r"|(?P<bar>:*\|+[\]:|]*|::|\[\|)\s*(?P<ending>[12](?![0-9]))?"
    r"|\[(?P<other>[12])"
    r"|\[(?P<stack>[^\]]*)\](?P<stacked>[0-9]*/*[0-9]*)"
    r"|\((?P<tuplet>[2-9])(?::(?P<q>[0-9]?))?(?::(?P<r>[0-9]?))?"
    r"|(?P<note>(?:\^\^|\^|__|_|=)?[A-Ga-g][,']*)(?P<length>[0-9]*/*[0-9]*)"
    r"|(?P<rest>[zxZ])(?P<rested>[0-9]*/*[0-9]*)"
    r"|(?P<broken>[<>]+)|(?P<tie>-)"
    r"|[\s()~.`HLMOPSTuvyJR\\]",
)
_PITCH = re.compile(r"(\^\^|\^|__|_|=)?([A-Ga-g])([,']*)")
_ACCIDENTALS = {"^^": 2, "^": 1, "=": 0, "_": -1, "__": -2}
# (p in the time of q: simple metres.
_TUPLETS = {2: 3, 3: 2, 4: 3, 5: 2, 6: 2, 7: 2, 8: 3, 9: 2}


@dataclass
class _Event:
    """A note, rest (pitch 0) or chord symbol, before repeats: length in whole notes."""

    length: Fraction
    pitch: int = 0
    tied: bool = False
    chord: str = ""


def read_abc(text: str) -> Score:
    """Returns the first tune of a text.

    Raises:
        InputError: not ABC, without notes, or something that this subset leaves out; the message names it.
    """
    require(len(text) <= _MOST_CHARACTERS, "melody", f"{len(text)} characters", f"at most {_MOST_CHARACTERS}")
    tune, body = _header(text)
    played = _written_out(_Body(tune, body).read())
    notes, chords, end = _timed(tune, played)
    require(bool(notes), "melody", text[:60], "a tune with notes")
    return Score(tune.tempo_bpm, tune.beats, bars(end, tune.beats), tuple(notes), tuple(chords))


def _header(text: str) -> tuple[Header, str]:
    tune, keyed, lines = Header(), False, []
    for raw in text.splitlines():
        line = raw.split("%")[0].rstrip()
        found = _FIELD.fullmatch(line)
        if keyed and not line and lines:
            break
        if found is None:
            if keyed and line:
                lines.append(line)
        elif not keyed:
            read_field(tune, found[1], found[2].strip())
            keyed = found[1] == "K"
        elif found[1] in "KMLVPQ":
            raise InputError(f"melody must keep its key, metre and voice, got {line[:60]!r} within a tune")
        elif found[1] == "X":
            break
    require(keyed, "melody", text[:60], "ABC notation with a field K: for its key")
    if not tune.unit:
        tune.unit = Fraction(1, 8) if tune.beats * tune.beat >= Fraction(3, 4) else Fraction(1, 16)
    return tune, "\n".join(lines)


@dataclass
class _Bar:
    """A bar and what its bar lines say."""

    events: list[_Event] = field(default_factory=list)
    opens: bool = False
    closes: bool = False
    ending: int = 0


class _Body:
    """Reads the notes of a tune, bar by bar.

    Args:
        tune: Its header.
        text: After the header.
    """

    def __init__(self, tune: Header, text: str) -> None:
        self._tune, self._text = tune, text
        self._bars = [_Bar()]
        self._accidentals: dict[str, int] = {}
        # Notes that are left of a tuplet, and the factor of their lengths.
        self._left, self._factor = 0, Fraction(1)
        self._broken = Fraction(1)

    def read(self) -> list[_Bar]:
        """Returns the bars as they are written."""
        position = 0
        while position < len(self._text):
            match = _TOKEN.match(self._text, position)
            if match is None or match["inline"]:
                found = self._text[position : position + 20].split("\n")[0]
                raise InputError(f"melody must be ABC notation of notes, bars and chord symbols, got {found!r}")
            self._take(match)
            position = match.end()
        return [bar for bar in self._bars if bar.events or bar.opens or bar.closes]

    def _take(self, match: re.Match[str]) -> None:
        events = self._bars[-1].events
        if match["chord"] is not None:
            # Other texts in quotes are remarks.
            symbol = match["chord"].strip()
            if symbol[:1] and symbol[0] in "ABCDEFGN":
                events.append(_Event(Fraction(0), chord=symbol))
        elif match["bar"]:
            self._bar(match["bar"], match["ending"])
        elif match["other"]:
            self._bars[-1].ending = int(match["other"])
        elif match["tuplet"]:
            p = int(match["tuplet"])
            self._factor, self._left = Fraction(int(match["q"] or _TUPLETS[p]), p), int(match["r"] or p)
        elif match["note"]:
            self._add(self._pitch(match["note"]), match["length"])
        elif match["stack"]:
            pitches = [self._pitch(found[0]) for found in _PITCH.finditer(match["stack"])]
            require(bool(pitches), "melody", match[0], "ABC notation with notes in brackets")
            inner = re.search(r"[A-Ga-g][,']*([0-9]*/*[0-9]*)", match["stack"])
            assert inner is not None
            self._add(max(pitches), match["stacked"] or inner[1])
        elif match["rest"]:
            full_bar = match["rest"] == "Z"
            length = match["rested"]
            self._add(0, length, self._tune.beats * self._tune.beat if full_bar else self._tune.unit)
        elif match["broken"]:
            self._break(match["broken"])
        elif match["tie"] and events:
            events[-1].tied = True

    def _bar(self, line: str, ending: str | None) -> None:
        self._accidentals = {}
        current = self._bars[-1]
        repeats = line == "::"
        current.closes = current.closes or line.startswith(":") or repeats
        self._bars.append(_Bar(opens=line.endswith(":") or repeats, ending=int(ending or 0)))
        require(len(self._bars) <= _MOST_BARS, "melody", f"{len(self._bars)} bars", f"at most {_MOST_BARS}")

    def _pitch(self, note: str) -> int:
        match = _PITCH.fullmatch(note)
        assert match is not None
        accidental, letter, octaves = match.groups()
        name = letter.upper() + octaves + ("'" if letter.islower() else "")
        if accidental:
            self._accidentals[name] = _ACCIDENTALS[accidental]
        shift = self._accidentals.get(name, self._tune.signature.get(letter.upper(), 0))
        octave = letter.islower() + octaves.count("'") - octaves.count(",")
        pitch = _MIDDLE_C + pitch_class(letter, "") + 12 * octave + shift
        require(1 <= pitch <= 127, "melody", note, "notes of MIDI's range")
        return pitch

    def _add(self, pitch: int, length: str, unit: Fraction | None = None) -> None:
        size = (self._tune.unit if unit is None else unit) * _length(length) * self._broken
        self._broken = Fraction(1)
        if self._left:
            size, self._left = size * self._factor, self._left - 1
        self._bars[-1].events.append(_Event(size, pitch))

    def _break(self, marks: str) -> None:
        before = [e for e in self._bars[-1].events if e.length]
        require(bool(before), "melody", marks, "ABC notation with a note before > or <")
        short = Fraction(1, 2 ** len(marks))
        longer, shorter = 2 - short, short
        first, self._broken = (longer, shorter) if marks[0] == ">" else (shorter, longer)
        before[-1].length *= first


def _length(text: str) -> Fraction:
    """A multiplier such as `2`, `/2`, `3/2`, `//`."""
    match = re.fullmatch(r"(\d*)(/*)(\d*)", text)
    assert match is not None
    above, slashes, under = match.groups()
    divisor = int(under) if under else 2 ** len(slashes)
    good = len(text) <= 8 and divisor > 0 and (not above or int(above) > 0)
    require(good, "melody", text, "notes with lengths such as 2, /2 or 3/2")
    return Fraction(int(above or 1), divisor)


def _written_out(bars_read: list[_Bar]) -> list[list[_Event]]:
    """Returns the bars in the order in which they are played."""
    played: list[list[_Event]] = []
    first, k, ending, repeated = 0, 0, 0, False
    while k < len(bars_read):
        bar = bars_read[k]
        if bar.opens and not repeated:
            first, ending = k, 0
        ending = bar.ending or ending
        # The first ending is left out the second time, up to its end.
        skip = repeated and ending == 1
        if not skip:
            played.append(bar.events)
        require(len(played) <= _MOST_BARS, "melody", "more bars", f"at most {_MOST_BARS} bars with repeats")
        if bar.closes and not repeated:
            repeated, k, ending = True, first, 0
            continue
        if bar.closes:
            repeated, first, ending = False, k + 1, 0 if ending != 1 else 2
        k += 1
    return played


def _timed(tune: Header, played: list[list[_Event]]) -> tuple[list[ScoreNote], list[ScoreChord], float]:
    """Returns notes and chords in beats, and the end."""
    notes: list[ScoreNote] = []
    symbols: list[tuple[float, str]] = []
    time, tied = Fraction(0), False
    for event in (e for bar in played for e in bar):
        start, length = float(time / tune.beat), float(event.length / tune.beat)
        if event.chord:
            symbols.append((start, event.chord))
            continue
        if event.pitch and tied and notes and notes[-1].pitch == event.pitch:
            notes[-1] = notes[-1]._replace(length=notes[-1].length + length)
        elif event.pitch:
            notes.append(ScoreNote(start, length, event.pitch))
        tied = event.tied
        time += event.length
    end = float(time / tune.beat)
    # Each lasts until the next one.
    ends = [*(start for start, _ in symbols[1:]), bars(end, tune.beats)][: len(symbols)]
    chords = [
        ScoreChord(start, stop - start, *chord(symbol))
        for (start, symbol), stop in zip(symbols, ends, strict=True)
        if stop > start
    ]
    return notes, chords, end
