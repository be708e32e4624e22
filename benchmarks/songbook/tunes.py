"""Tunes in the public domain, read from music21's corpus, as plain notes.

Three collections: chorales of J. S. Bach, O'Neill's Music of Ireland (1903) and Ryan's Mammoth Collection
(1883). The music is in the public domain; volunteers encoded it, and music21 distributes the encodings. The
Essen songs are not used, because their licence excludes commercial use.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from melodygan_core.errors import InputError

# Share of each collection among the tunes that are drawn, as long as it has any left.
SHARES = {"chorale": 0.3, "oneill": 0.35, "ryan": 0.35}
_SHORTEST_NOTES, _LONGEST_QUARTERS = 16, 400.0
_MINOR = {"minor", "dorian", "aeolian", "phrygian", "locrian"}
# Tunes with this share of their patterns of seven notes in common are variants of one tune. Among 56 tunes,
# five pairs have 0.26 to 0.77, all others at most 0.13.
_PATTERN, VARIANT_OVERLAP = 6, 0.2


class TuneNote(NamedTuple):
    """A note of a score: onset and duration in quarter notes, MIDI pitch."""

    onset: float
    duration: float
    pitch: int


@dataclass(frozen=True)
class Tune:
    """A score as notes.

    Attributes:
        tune_id: Collection and number, the same for every arrangement.
        title: Of the score.
        collection: A key of SHARES.
        tonic: Pitch class of the tonic, 0 for C.
        mode: `major` or `minor`.
        sharps: Of the key signature; negative for flats.
        bar: Quarter notes per bar.
        beat: Quarter notes per beat: 1.5 in compound metres.
        pickup: Quarter notes before the first full bar.
        length: Quarter notes, up to the end of the last note or rest.
        melody: In order of their onsets, one at a time.
        inner: Alto and tenor of a chorale; otherwise empty.
        bass: Bass of a chorale; otherwise empty.
    """

    tune_id: str
    title: str
    collection: str
    tonic: int
    mode: str
    sharps: int
    bar: float
    beat: float
    pickup: float
    length: float
    melody: tuple[TuneNote, ...]
    inner: tuple[TuneNote, ...] = ()
    bass: tuple[TuneNote, ...] = ()


class TuneRef(NamedTuple):
    """Where a tune lies: collection, path below the corpus, and its number `X:` in that file or -1."""

    collection: str
    path: str
    number: int

    @property
    def tune_id(self) -> str:
        """A file name that depends on the collection and the number or the name of the file alone."""
        name = f"{self.number:04d}" if self.collection == "oneill" else Path(self.path).stem
        return f"{self.collection}-{re.sub(r'[^A-Za-z0-9]+', '-', name)}"


def corpus_folder() -> Path:
    """Returns the folder of music21's corpus.

    Raises:
        InputError: music21 is not installed.
    """
    found = importlib.util.find_spec("music21")
    if found is None or found.origin is None:
        raise InputError("music21 is not installed: uv pip install --group songbook")
    return Path(found.origin).parent / "corpus"


def tune_refs(root: Path) -> list[TuneRef]:
    """Returns all tunes of the three collections, in a fixed order."""
    refs = [TuneRef("chorale", f"bach/{p.name}", -1) for p in sorted((root / "bach").glob("bwv*.mxl"))]
    for path in sorted((root / "oneills1850").glob("*.abc")):
        numbers = re.findall(r"^X:\s*(\d+)", path.read_text("latin-1"), re.MULTILINE)
        refs += [TuneRef("oneill", f"oneills1850/{path.name}", int(n)) for n in dict.fromkeys(numbers)]
    refs += [
        TuneRef("ryan", f"ryansMammoth/{p.name}", -1) for p in sorted((root / "ryansMammoth").glob("*.abc"))
    ]
    return list({r.tune_id: r for r in refs}.values())


def shuffled(refs: Sequence[TuneRef], seed: int) -> list[TuneRef]:
    """Returns the tunes in an order that a seed decides, the collections mixed by SHARES."""
    rng = np.random.default_rng((20_260_114, seed))
    left = {
        name: [refs[i] for i in rng.permutation(len(refs)) if refs[i].collection == name] for name in SHARES
    }
    ordered: list[TuneRef] = []
    while any(left.values()):
        names = [name for name, rest in left.items() if rest]
        shares = np.array([SHARES[name] for name in names])
        ordered.append(left[str(rng.choice(names, p=shares / shares.sum()))].pop())
    return ordered


def read_tune(root: Path, ref: TuneRef) -> Tune:
    """Reads one tune with its repeats played.

    Raises:
        InputError: the score has no usable melody: too short, changing metre, incomplete bars, or damaged.
    """
    from music21 import converter
    from music21.exceptions21 import Music21Exception

    path = root / ref.path
    try:
        if path.suffix == ".abc":
            score: Any = converter.parse(_abc_text(path, ref.number), format="abc")
        else:
            score = converter.parse(path, forceSource=True)
        return from_score(score, ref)
    except InputError:
        raise
    except (Music21Exception, ValueError, IndexError, KeyError, AttributeError, TypeError) as error:
        # A malformed encoding makes the parser raise any kind of error.
        raise InputError(f"{ref.tune_id} must be readable by music21, got {error!r}") from error


def from_score(score: Any, ref: TuneRef) -> Tune:
    """Returns a tune of a music21 score, with its repeats played; raises as `read_tune` does."""
    parts = list(score.parts)
    wanted = 4 if ref.collection == "chorale" else 1
    _require(len(parts) == wanted, ref, f"have {wanted} parts", len(parts))
    parts = [_expanded(part) for part in parts]
    signatures = {(s.numerator, s.denominator) for s in parts[0].recurse().getElementsByClass("TimeSignature")}
    _require(len(signatures) == 1, ref, "have one metre", sorted(signatures))
    numerator, denominator = next(iter(signatures))
    bar = numerator * 4 / denominator
    beat = 1.5 if denominator == 8 and numerator % 3 == 0 else 1.0
    _require(1.5 <= bar <= 6 and (bar / beat) % 1 == 0, ref, "have a bar of whole beats", signatures)
    voices = [_notes(part) for part in parts]
    melody = voices[0]
    _require(len(melody) >= _SHORTEST_NOTES, ref, f"have {_SHORTEST_NOTES} notes or more", len(melody))
    length = float(parts[0].duration.quarterLength)
    _require(length <= _LONGEST_QUARTERS, ref, f"last at most {_LONGEST_QUARTERS:g} quarters", length)
    measures = list(parts[0].getElementsByClass("Measure"))
    first = float(measures[0].duration.quarterLength) if measures else bar
    pickup = first if first < bar else 0.0
    rest = (length - pickup) % bar
    # The last bar may lack what the pickup brings.
    full = any(abs(rest - r) < 1e-6 for r in (0.0, bar, bar - pickup))
    _require(full, ref, "have complete bars", f"{rest:g} of {bar:g} quarters left over")
    tonic, mode, sharps = _key(score, melody)
    return Tune(
        tune_id=ref.tune_id,
        title=_title(score, ref),
        collection=ref.collection,
        tonic=tonic,
        mode=mode,
        sharps=sharps,
        bar=bar,
        beat=beat,
        pickup=pickup,
        length=length,
        melody=tuple(melody),
        inner=tuple(sorted(n for voice in voices[1:-1] for n in voice)),
        bass=tuple(voices[-1]) if len(voices) > 1 else (),
    )


def _require(ok: bool, ref: TuneRef, allowed: str, value: object) -> None:
    if not ok:
        raise InputError(f"{ref.tune_id} must {allowed}, got {value}")


def _abc_text(path: Path, number: int) -> str:
    text = path.read_text("latin-1")
    if number < 0:
        return text
    for tune in re.split(r"^(?=X:)", text, flags=re.MULTILINE):
        if re.match(rf"X:\s*{number}\s*$", tune, re.MULTILINE):
            return tune
    raise InputError(f"number must be one of {path.name}, got {number}")


def _expanded(part: Any) -> Any:
    from music21.repeat import ExpanderException

    try:
        return part.expandRepeats()
    except ExpanderException:
        # Badly formed repeat signs are common in the encodings; the tune is then played as it is written.
        return part


def _notes(part: Any) -> list[TuneNote]:
    """One voice: grace notes left out, tied notes joined, of simultaneous notes the highest."""
    highest: dict[float, TuneNote] = {}
    for element in part.flatten().stripTies().notes:
        duration, onset = float(element.duration.quarterLength), float(element.offset)
        if duration <= 0 or not element.pitches:
            continue
        note = TuneNote(onset, duration, max(int(p.midi) for p in element.pitches))
        if onset not in highest or note.pitch > highest[onset].pitch:
            highest[onset] = note
    ordered = [highest[onset] for onset in sorted(highest)]
    ends = [n.onset for n in ordered[1:]] + [float("inf")]
    return [n._replace(duration=min(n.duration, e - n.onset)) for n, e in zip(ordered, ends, strict=True)]


def _key(score: Any, melody: Sequence[TuneNote]) -> tuple[int, str, int]:
    found = score.recurse().getElementsByClass("KeySignature").first()
    sharps = int(found.sharps) if found is not None else 0
    # A file may have a signature without a tonic: the last note of most tunes is the tonic of the signature or
    # of its relative minor.
    tonic = getattr(found, "tonic", None)
    if tonic is not None and score.metadata is not None and getattr(found, "mode", None):
        return int(tonic.pitchClass), "minor" if found.mode in _MINOR else "major", sharps
    major = sharps * 7 % 12
    minor = (major + 9) % 12
    return (minor, "minor", sharps) if melody[-1].pitch % 12 == minor else (major, "major", sharps)


def _title(score: Any, ref: TuneRef) -> str:
    title = score.metadata.title if score.metadata is not None else None
    return " ".join(str(title or Path(ref.path).stem).split())


def variants(melodies: dict[str, Sequence[int]]) -> dict[str, str]:
    """Returns the tune group of each tune: tunes that share many patterns of seven notes are one group.

    Both collections of dances hold some tunes twice, and Bach harmonised some hymns several times. The
    comparison ignores the key.

    Args:
        melodies: Tune id to the pitches of its melody.

    Returns:
        Tune id to the smallest tune id of its group.
    """
    patterns = {tune_id: _patterns(pitches) for tune_id, pitches in sorted(melodies.items())}
    holders: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for tune_id, found in patterns.items():
        for pattern in found:
            holders[pattern].append(tune_id)
    shared: Counter[tuple[str, str]] = Counter()
    for tune_ids in holders.values():
        # What half of all tunes have tells none apart, and would cost a quadratic number of pairs.
        if 1 < len(tune_ids) <= 100:
            shared.update((a, b) for i, a in enumerate(tune_ids) for b in tune_ids[i + 1 :])
    group = {tune_id: tune_id for tune_id in patterns}
    for (first, second), count in sorted(shared.items()):
        if count >= VARIANT_OVERLAP * min(len(patterns[first]), len(patterns[second])):
            old, new = sorted((group[first], group[second]), reverse=True)
            group = {t: new if g == old else g for t, g in group.items()}
    return group


def _patterns(pitches: Iterable[int]) -> set[tuple[int, ...]]:
    intervals = np.diff(np.fromiter(pitches, int))
    windows = (tuple(int(v) for v in intervals[i : i + _PATTERN]) for i in range(len(intervals) - _PATTERN + 1))
    return {w for w in windows if any(w)}


def version_hash(*parts: object) -> str:
    """Returns eight digits that change when any part does."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:8]
