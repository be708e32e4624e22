"""Scores and the plans that are written from them: exact values; chords, keys, forms, ABC and MIDI."""

from __future__ import annotations

from pathlib import Path

import mido
import numpy as np
import pytest

from melodygan_core import plan
from melodygan_core.errors import InputError
from melodygan_core.plan.abc import read_abc
from melodygan_core.plan.chords import chord, in_key, key_progression, parse_key, progression
from melodygan_core.plan.grid import Grid
from melodygan_core.plan.midi import melody_notes, plan_tempo, read_midi, write_midi
from melodygan_core.plan.score import Score, ScoreChord, ScoreNote, with_form
from melodygan_core.plan.writer import write

# Eight tokens per second, so that a beat at 120 is four tokens.
GRID = Grid(0.125)
C, F, G_MAJOR, AM = (0, 4, 7), (0, 5, 9), (2, 7, 11), (0, 4, 9)


def score_of(text: str, **changes: object) -> Score:
    chords = progression(text, 4)
    length = chords[-1].start + chords[-1].length
    return Score(120.0, 4, length, chords=chords, **changes)  # type: ignore[arg-type]


# Chords and keys.


@pytest.mark.parametrize(
    ("symbol", "classes", "bass"),
    [
        ("C", C, 0),
        ("Am", AM, 9),
        ("F#m7", (1, 4, 6, 9), 6),
        ("Bb", (2, 5, 10), 10),
        ("Cmaj7", (0, 4, 7, 11), 0),
        ("CM7", (0, 4, 7, 11), 0),
        ("G7", (2, 5, 7, 11), 7),
        ("Bdim", (2, 5, 11), 11),
        ("Dsus4", (2, 7, 9), 2),
        ("C/E", C, 4),
        ("Am/F#", (0, 4, 6, 9), 6),
        ("N.C.", (), 0),
    ],
)
def test_a_chord_symbol_is_its_pitch_classes(symbol: str, classes: tuple[int, ...], bass: int) -> None:
    assert chord(symbol) == (classes, bass)


@pytest.mark.parametrize("symbol", ["H", "Cmoll", "c", "C/", "C//E", "<b>", "Am F"])
def test_what_is_no_chord_is_named(symbol: str) -> None:
    with pytest.raises(InputError, match=r"chords must be a letter A to G, .*, got "):
        chord(symbol)


def test_chords_are_bars_or_parts_of_bars() -> None:
    assert progression("Am F C G", 4) == (
        ScoreChord(0, 4, AM, 9),
        ScoreChord(4, 4, F, 5),
        ScoreChord(8, 4, C, 0),
        ScoreChord(12, 4, G_MAJOR, 7),
    )
    halves = progression("| C | F G | % |", 4)
    assert [(c.start, c.length, c.bass) for c in halves] == [(0, 4, 0), (4, 2, 5), (6, 2, 7), (8, 4, 7)]
    for text in ("", " | | ", "C " * 2001):
        with pytest.raises(InputError, match="chords must be 1 to 2000 chord symbols"):
            progression(text, 4)
    with pytest.raises(InputError, match="chords must be a chord symbol in the first place, got '%'"):
        progression("% C", 4)


@pytest.mark.parametrize(
    ("text", "key"),
    [("C", (0, "major")), ("Am", (9, "minor")), ("F# minor", (6, "minor")), ("Bb MAJOR", (10, "major"))],
)
def test_a_key_is_a_tonic_and_a_mode(text: str, key: tuple[int, str]) -> None:
    assert parse_key(text) == key


@pytest.mark.parametrize("text", ["", "H", "C dorian", "C C"])
def test_what_is_no_key_is_named(text: str) -> None:
    with pytest.raises(InputError, match="key must be a letter A to G"):
        parse_key(text)


def test_a_key_transposes_by_the_nearest_way() -> None:
    score = score_of("C F G C")
    moved = in_key(score, "D")
    assert [c.bass for c in moved.chords] == [2, 7, 9, 2]
    assert in_key(moved, "C") == score
    tune = Score(120, 4, 8, tuple(ScoreNote(k, 1, 60 + s) for k, s in enumerate((0, 2, 4, 5, 7, 4, 0, 0))))
    assert [n.pitch for n in in_key(tune, "Bb").notes][:3] == [58, 60, 62]
    assert [c.bass for c in key_progression("C", 4)] == [0, 9, 5, 7]
    assert [c.classes for c in key_progression("Am", 4)] == [AM, F, C, G_MAJOR]
    with pytest.raises(InputError, match="key must be of a melody or of chords"):
        in_key(Score(120, 4, 4), "C")


# Form.


def test_a_form_copies_its_parts() -> None:
    score = score_of("C F G Am")
    made = with_form(score, "AABA")
    assert [c.bass for c in made.chords] == [0, 5, 0, 5, 7, 9, 0, 5]
    assert made.sections == ((0, 0), (8, 0), (16, 1), (24, 0)) and made.length == 32
    # Letters stand for parts in the order in which they first occur.
    assert [c.bass for c in with_form(score, "BAB").chords] == [0, 5, 7, 9, 0, 5]


def test_notes_over_the_border_of_a_part_are_cut() -> None:
    score = Score(120, 4, 8, (ScoreNote(3, 2, 60), ScoreNote(6, 1, 62)))
    made = with_form(score, "AB")
    assert made.notes == (ScoreNote(3, 1, 60), ScoreNote(4, 1, 60), ScoreNote(6, 1, 62))


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("AXB", "form must be 1 to 64 letters of A to F, such as AABA, got 'AXB'"),
        ("", "form must be 1 to 64 letters"),
        ("ABC", "form must be of at most 2 letters that differ, one per bar of melody and chords, got 'ABC'"),
    ],
)
def test_a_wrong_form_is_named(form: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        with_form(score_of("C G"), form)


# The writer.


def test_metre_has_the_tempo_exactly() -> None:
    made = write(Score(120, 4, 4), GRID, 32)
    assert made.given == {"metre"}
    # The middle of the first token is an eighth of a beat after the beat.
    np.testing.assert_allclose(made.beat_phase, (np.arange(32) / 4 + 0.125) % 1, atol=1e-6)
    np.testing.assert_allclose(made.bar_phase, (np.arange(32) / 16 + 1 / 32) % 1, atol=1e-6)
    assert (made.beat_confidence == 1).all() and (made.bar_confidence == 1).all()
    assert plan_tempo(made) == pytest.approx(120, rel=1e-4)
    assert plan_tempo(write(Score(97, 3, 3), GRID, 64)) == pytest.approx(97, rel=1e-3)


def test_chords_have_their_pitch_classes_and_overtones() -> None:
    made = write(score_of("C Am"), GRID, 40)
    assert made.given == {"harmony", "metre"}
    # C2 and its overtones below 250 Hz: C, C, G.
    lower = np.zeros(12)
    lower[[0, 7]] = 1 + 0.5**0.7, (1 / 3) ** 0.7
    # Third partials are two cents sharp, and share a little with the next pitch class.
    np.testing.assert_allclose(made.lower_chroma[0], lower / lower.max(), atol=0.02)
    assert set(np.flatnonzero(made.upper_chroma[0] > 0.5)) == set(C)
    assert set(np.flatnonzero(made.upper_chroma[16] > 0.5)) == set(AM)
    np.testing.assert_array_equal(made.upper_chroma[:16], np.tile(made.upper_chroma[0], (16, 1)))
    # The score begins again.
    np.testing.assert_array_equal(made.upper_chroma[32:], made.upper_chroma[:8])
    silent = write(score_of("N.C. C"), GRID, 16)
    assert not silent.upper_chroma.any() and not silent.lower_chroma.any()


def test_notes_and_their_onsets_lie_where_they_are_written() -> None:
    score = Score(120, 4, 4, (ScoreNote(0.0, 1.0, 72), ScoreNote(1.0, 0.75, 72), ScoreNote(2.125, 1.0, 76)))
    made = write(score, GRID, 32)
    assert made.given == {"melody", "onsets", "metre"}
    assert made.melody[:16].tolist() == [72] * 7 + [0] + [76] * 4 + [0] * 4
    assert made.melody[16:].tolist() == made.melody[:16].tolist()
    parts = made.onsets.reshape(-1)
    # A beat is 32 parts; every beat has an onset, that of a note counts more.
    expected = dict.fromkeys((0, 32), 1.0) | dict.fromkeys((64, 96), 0.5) | {68: 1.0}
    assert {int(k): float(parts[k]) for k in np.flatnonzero(parts[:128])} == expected
    np.testing.assert_array_equal(parts[128:], parts[:128])


def test_a_hummed_line_has_no_beats() -> None:
    made = write(Score(120, 4, 2.5, (ScoreNote(0.5, 1, 60),), has_metre=False), GRID, 10)
    assert made.given == {"melody", "onsets"}
    assert np.flatnonzero(made.onsets).tolist() == [16]


def test_sections_are_labelled() -> None:
    made = write(with_form(score_of("C G"), "ABA"), GRID, 50)
    assert made.given == {"harmony", "metre", "sections"}
    assert made.section.tolist() == [0] * 16 + [1] * 16 + [0] * 16 + [0] * 2


def test_a_written_plan_sounds_like_its_own_notes() -> None:
    """What is written for a note is near to what is extracted from its sound."""
    t = np.arange(3 * 22_050) / 22_050
    wav = 0.2 * np.sum([np.sin(2 * np.pi * 440 * k * t) / k for k in range(1, 5)], axis=0)
    heard = plan.extract(wav, 22_050, GRID)
    chords = (ScoreChord(0, 8, (), 0),)
    written = write(Score(120, 4, 8, (ScoreNote(0, 8, 69),), chords), GRID, len(heard))
    np.testing.assert_allclose(heard.upper_chroma[3:-3], written.upper_chroma[3:-3], atol=0.1)
    assert (heard.melody[3:-3] == written.melody[3:-3]).all()


# ABC.

TUNE = """X:1
T:A tune
M:4/4
L:1/8
Q:1/4=100
K:G
|: "G"G2 B2 "D7"d2 F2 | "C"e>c (3cde [G,B]4 |1 "G"G8 :|2 G4 z2 ^G-G |]
"""


def test_abc_is_read_with_its_repeats() -> None:
    score = read_abc(TUNE)
    assert (score.tempo_bpm, score.beats, score.length) == (100, 4, 24)
    pitches = [67, 71, 74, 66, 76, 72, 72, 74, 76, 71, 67]
    again = [*pitches[:-1], 67, 68]
    assert [n.pitch for n in score.notes] == pitches + again
    starts = [n.start for n in score.notes[:10]]
    np.testing.assert_allclose(starts, [0, 1, 2, 3, 4, 4.75, 5, 5 + 1 / 3, 5 + 2 / 3, 6])
    # A tie joins the two halves.
    assert score.notes[-1] == ScoreNote(23.0, 1.0, 68)
    assert [(c.start, c.bass) for c in score.chords] == [
        *((0, 7), (2, 2), (4, 0), (8, 7)),
        *((12, 7), (14, 2), (16, 0)),
    ]


@pytest.mark.parametrize(
    ("fields", "notes", "expected"),
    [
        ("M:6/8\nK:D", "FAc", [(0, 66), (1 / 3, 69), (2 / 3, 73)]),
        ("M:3/4\nL:1/4\nK:Dm", "B^B=B|B", [(0, 70), (1, 72), (2, 71), (3, 70)]),
        ("L:1/4\nK:A dorian", "F,f'c", [(0, 54), (1, 90), (2, 72)]),
        ("L:1/4\nK:C", "C/D3/2z/ E", [(0, 60), (0.5, 62), (2.5, 64)]),
        ("L:1/4\nK:C", "{g}C !trill! ~D (E F) % rest\nG", [(0, 60), (1, 62), (2, 64), (3, 65), (4, 67)]),
    ],
)
def test_abc_s_details(fields: str, notes: str, expected: list[tuple[float, int]]) -> None:
    score = read_abc(f"X:1\n{fields}\n{notes}\n\nX:2\nK:C\nCCCC\n")
    np.testing.assert_allclose([(n.start, n.pitch) for n in score.notes], expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "melody must be ABC notation with a field K: for its key"),
        ("hello", "melody must be ABC notation with a field K:"),
        ("K:C\n|| z4 |]", "melody must be a tune with notes"),
        ("K:C\nCD[K:G]EF", r"melody must be ABC notation of notes, bars and chord symbols, got '\[K:G\]EF'"),
        ("K:C\nCD\nM:3/4\nEF", "melody must keep its key, metre and voice, got 'M:3/4' within a tune"),
        ("K:X\nC", "melody must be in a key such as K:C, K:Am or K:D dorian, got 'K:X'"),
        ("M:99/7\nK:C\nC", "melody must be in a metre such as M:4/4"),
        ("L:1/0\nK:C\nC", "melody must be in ABC notation with a fraction such as L:1/8"),
        ("K:C\nC999999999", "melody must be notes with lengths such as 2"),
        ("K:C\nC,,,,,,,,", "melody must be notes of MIDI's range"),
        ("K:C\n>C", "melody must be ABC notation with a note before > or <"),
        ('K:C\n"Fine"C', "chords must be a letter A to G"),
        ("K:C\n" + "C" * 100_000, "melody must be at most 100000, got '100004 characters'"),
        ("K:C\nC\0D", "melody must be ABC notation of notes"),
    ],
)
def test_what_is_no_abc_is_named(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_abc(text)


# MIDI.


def midi_of(path: Path, notes: list[tuple[int, int, int, int]], tempo: int = 500_000) -> Path:
    """Writes notes of (tick, length, pitch, channel)."""
    file = mido.MidiFile(ticks_per_beat=480)
    events = [(t, "note_on", p, c) for t, _, p, c in notes] + [
        (t + n, "note_off", p, c) for t, n, p, c in notes
    ]
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=tempo)])
    track.append(mido.MetaMessage("time_signature", numerator=3, denominator=4))
    before = 0
    for tick, kind, pitch, channel in sorted(events):
        track.append(mido.Message(kind, note=pitch, velocity=64, channel=channel, time=tick - before))
        before = tick
    file.tracks.append(track)
    file.save(path)
    return path


def test_the_melody_of_a_midi_file_is_its_highest_line(tmp_path: Path) -> None:
    notes = [(480 * k, 400, 72 + k, 0) for k in range(4)]
    bass, drums = [(0, 1900, 40, 1)], [(240 * k, 100, 90, 9) for k in range(8)]
    score = read_midi(midi_of(tmp_path / "a.mid", [*notes, *bass, *drums], tempo=600_000))
    assert (score.tempo_bpm, score.beats, score.length) == (pytest.approx(100), 3, 6)
    assert [n.pitch for n in score.notes] == [72, 73, 74, 75]
    np.testing.assert_allclose([n.start for n in score.notes], range(4), atol=1e-6)


@pytest.mark.parametrize(
    "data", [b"", b"MThd", b"RIFF....", b"MThd\0\0\0\x06\0\1\0\1\1\xe0MTrk\0\0\0\x04\0\xff\x51"]
)
def test_what_is_no_midi_is_named(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mid"
    path.write_bytes(data)
    with pytest.raises(InputError, match="melody must be a MIDI file"):
        read_midi(path)


def test_midi_without_notes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"melody must be a MIDI file with notes, got 'a\.mid'"):
        read_midi(midi_of(tmp_path / "a.mid", [(0, 480, 60, 9)]))


def test_a_plan_s_midi_has_its_notes(tmp_path: Path) -> None:
    chords = progression("C G", 4)
    notes = (ScoreNote(0, 1, 72), ScoreNote(1, 1, 72), ScoreNote(2, 2, 76), ScoreNote(5, 3, 74))
    made = write(Score(96, 4, 8, notes, chords), Grid(60 / 96 / 8), 64)
    again = melody_notes(made)
    assert [n.pitch for n in again] == [72, 72, 76, 74], "a note that begins again is a note of its own"
    np.testing.assert_allclose([n.start_s * 96 / 60 for n in again], [0, 1, 2, 5], atol=1e-6)
    write_midi(tmp_path / "a.mid", made)
    file = mido.MidiFile(tmp_path / "a.mid")
    assert [track.name for track in file.tracks[1:]] == ["melody", "chords", "bass"]
    score = read_midi(tmp_path / "a.mid")
    assert score.tempo_bpm == pytest.approx(96, rel=1e-3)
    assert [n.pitch for n in score.notes] == [72, 72, 76, 74]
    played = {m.note for m in file.tracks[3] if m.type == "note_on"}
    assert played == {36, 43}
    write_midi(tmp_path / "b.mid", plan.empty(GRID, 10))
    assert len(mido.MidiFile(tmp_path / "b.mid").tracks) == 1
