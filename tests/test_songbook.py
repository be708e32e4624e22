"""The songbook: harmony, arrangements and tune groups; parsing and rendering where its group is installed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import measures as figures
from benchmarks.songbook import __main__ as command
from benchmarks.songbook import sound, tunes
from benchmarks.songbook.arrange import Arrangement, arrange
from benchmarks.songbook.harmony import harmonise
from benchmarks.songbook.parts import LEAD_IN_S, LONGEST_S, SHORTEST_S
from benchmarks.songbook.tunes import Tune, TuneNote, TuneRef, shuffled, variants
from melodygan_core import audio
from melodygan_core.catalogue.sources import read_sources
from melodygan_core.errors import InputError
from melodygan_core.metrics.music import Note

GROUP = ("music21", "tinysoundfont", "pretty_midi", "mido")
needs_group = pytest.mark.skipif(
    not all(importlib.util.find_spec(n) for n in GROUP), reason="the dependency group songbook is not installed"
)
# Two bars of the tonic, one of the subdominant and one of the dominant, twice.
BARS = ((60, 64, 67, 64), (67, 64, 60, 64), (65, 69, 72, 69), (67, 71, 74, 71), (60, 64, 67, 72))
ABC = """X:7
T:A Tune
M:6/8
L:1/8
K:Dm
A|:dfa agf|edc d2A|dfa agf|edc d3:|
"""


def tune(tune_id: str = "ryan-Example", bars: tuple[tuple[int, ...], ...] = BARS, **changes: Any) -> Tune:
    notes = [TuneNote(float(k), 1.0, pitch) for k, pitch in enumerate(p for bar in bars for p in bar)]
    values: dict[str, Any] = {
        "tune_id": tune_id,
        "title": "Example",
        "collection": "ryan",
        "tonic": 0,
        "mode": "major",
        "sharps": 0,
        "bar": 4.0,
        "beat": 1.0,
        "pickup": 0.0,
        "length": float(len(notes)),
        "melody": tuple(notes),
    }
    return Tune(**(values | changes))


def test_the_harmony_is_that_of_the_notes() -> None:
    chords = harmonise(tune())
    assert sum(c.duration for c in chords) == 20
    assert [c.name for c in chords] == ["C"] * 4 + ["F"] * 2 + ["G"] * 2 + ["C"] * 2


@pytest.mark.parametrize("number", range(6))
def test_an_arrangement_is_a_function_of_tune_seed_and_number(number: int) -> None:
    first, again = arrange(tune(), 3, number), arrange(tune(), 3, number)
    assert first == again
    assert first != arrange(tune(), 4, number) and first != arrange(tune(), 3, number + 1)
    assert SHORTEST_S <= first.duration_s <= LONGEST_S + 10
    assert {"melody", "accompaniment", "bass"} <= set(first.stems)
    assert first.tags[0] == "ryan" and first.tags[1] == "major"
    for stem in first.stems.values():
        assert stem.notes == tuple(sorted(stem.notes))
        assert all(0 <= n.start_s < n.end_s < first.duration_s and 20 < n.pitch < 109 for n in stem.notes)
        assert all(0 <= n.channel < len(stem.pans) for n in stem.notes)
    assert json.loads(json.dumps(first.facts())) == first.facts() | {
        "tune": json.loads(json.dumps(first.facts()["tune"]))
    }


def test_the_melody_is_the_tune_in_another_key_and_tempo() -> None:
    made = arrange(tune(), 0, 0)
    written = [n.pitch for n in tune().melody]
    played = [n.pitch for n in made.stems["melody"].notes]
    shift = played[0] - written[0]
    assert (shift - made.transposed) % 12 == 0
    assert played[: len(written)] == [p + shift for p in written]
    # Each note begins on its beat, up to a human's error.
    beat_s = 60 / made.tempo_bpm
    for k, note in enumerate(made.stems["melody"].notes[:20]):
        assert note.start_s == pytest.approx(LEAD_IN_S + k * beat_s, abs=0.04)
        assert made.beats_s[k] == pytest.approx(LEAD_IN_S + k * beat_s, abs=1e-3)
    assert made.bars_s[1] == pytest.approx(made.beats_s[4])
    assert (
        made.chords[0][2] == harmonise(tune(tonic=made.tonic, bars=((60 + made.transposed,) * 4,) * 4))[0].name
    )


def test_variants_of_a_tune_are_one_group_in_any_key() -> None:
    rng = np.random.default_rng(0)
    one, other = (list(rng.integers(55, 80, 60)) for _ in range(2))
    varied = [p + 5 for p in one[:40]] + list(rng.integers(55, 80, 20))
    found = variants({"b": one, "a": varied, "c": other})
    assert found == {"a": "a", "b": "a", "c": "c"}


def test_the_order_of_tunes_mixes_the_collections() -> None:
    refs = [TuneRef(name, f"{name}/{k}", -1) for name in tunes.SHARES for k in range(100)]
    ordered = shuffled(refs, 0)
    assert sorted(ordered) == sorted(refs) and ordered == shuffled(refs, 0) != shuffled(refs, 1)
    first = [r.collection for r in ordered[:60]]
    assert min(first.count(name) for name in tunes.SHARES) >= 10


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sound.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs music21, tinysoundfont, .*--group songbook"):
        command.make(tmp_path, 1.0, 0)
    with pytest.raises(InputError, match="--hours must be above 0 and at most 50, got 0"):
        command.make(tmp_path, 0.0, 0)


def test_notes_are_matched_one_to_one() -> None:
    true = [Note(0.0, 0.5, 60), Note(0.5, 1.0, 62), Note(1.0, 1.5, 64)]
    assert figures.note_matches(true, true) == 3
    late = [n._replace(start_s=n.start_s + 0.04) for n in true]
    assert figures.note_matches(late, true) == 3
    assert figures.note_matches([n._replace(start_s=n.start_s + 0.06) for n in true], true) == 0
    assert figures.note_matches([true[0], true[0], true[0]], true) == 1
    octave = [n._replace(pitch=n.pitch + 12) for n in true]
    assert (figures.note_matches(octave, true), figures.note_matches(octave, true, octaves=True)) == (0, 3)
    assert figures.scores(2, 4, 3) == (0.5, pytest.approx(2 / 3), pytest.approx(4 / 7))
    assert figures.onset_times([*true, Note(0.51, 0.6, 70)]) == [0.0, 0.5, 1.0]


def short(made: Arrangement) -> Arrangement:
    """The first two seconds of an arrangement."""
    stems = {
        name: stem.__class__(**vars(stem) | {"notes": tuple(n for n in stem.notes if n.end_s < 2)})
        for name, stem in made.stems.items()
    }
    return made.__class__(**vars(made) | {"duration_s": 2.0, "stems": stems})


@needs_group
def test_stems_add_up_to_the_mix_and_are_the_same_every_time(tmp_path: Path) -> None:
    made = short(arrange(tune(), 0, 1))
    font = sound.default_sound_font()
    wavs, again = sound.render(made, font), sound.render(made, font)
    assert all(np.array_equal(wavs[name], again[name]) for name in wavs)
    assert set(wavs) == {"mix", *made.stems} and wavs["mix"].shape == (2, 88_200)
    total = np.sum([wavs[name] for name in made.stems], axis=0)
    np.testing.assert_allclose(total, wavs["mix"], atol=1e-6)
    assert np.abs(wavs["mix"]).max() == pytest.approx(0.8)
    # The known levels are those of the stems, relative to each other.
    rms = {name: 20 * np.log10(np.sqrt(np.square(wavs[name]).mean())) for name in made.stems}
    wanted = made.stems["melody"].level_db - made.stems["bass"].level_db
    assert rms["melody"] - rms["bass"] == pytest.approx(wanted, abs=0.1)
    with pytest.raises(InputError, match="the sound font must be an SF2 file"):
        bad = tmp_path / "bad.sf2"
        bad.write_bytes(b"RIFF" + bytes(100))
        sound.render(made, bad)


@needs_group
def test_the_midi_file_has_the_notes(tmp_path: Path) -> None:
    import mido

    made = arrange(tune(), 0, 2)
    sound.write_midi(made, tmp_path / "a.mid")
    file = mido.MidiFile(tmp_path / "a.mid")
    at, starts = 0.0, []
    for message in file:
        at += message.time
        if message.type == "note_on" and message.velocity and message.channel == 0:
            starts.append((round(at, 2), message.note))
    assert len(starts) == len(made.stems["melody"].notes)
    np.testing.assert_allclose(
        [s for s, _ in starts], [n.start_s for n in made.stems["melody"].notes], atol=0.01
    )


@pytest.mark.slow  # music21 takes 5 s to import
@needs_group
def test_a_score_becomes_notes_with_its_repeats(tmp_path: Path) -> None:
    path = tmp_path / "example.abc"
    path.write_text("X:6\nT:Other\nM:4/4\nL:1/4\nK:C\nCDEF|CDEF|\n\n" + ABC, "latin-1")
    found = tunes.read_tune(tmp_path, TuneRef("ryan", "example.abc", 7))
    assert (found.title, found.tonic, found.mode, found.bar, found.beat) == ("A Tune", 2, "minor", 3.0, 1.5)
    assert found.pickup == 0.5
    assert [n.pitch for n in found.melody[:5]] == [69, 74, 77, 81, 81]
    # Four bars, played twice; 21 notes after the pickup.
    assert len(found.melody) == 1 + 2 * 21
    with pytest.raises(InputError, match=r"number must be one of example\.abc, got 9"):
        tunes.read_tune(tmp_path, TuneRef("ryan", "example.abc", 9))
    # Without a bar line music21 makes no measures, and raises.
    with pytest.raises(InputError, match="ryan-no-bars must be readable by music21, got StreamException"):
        (tmp_path / "no-bars.abc").write_text("X:6\nT:Other\nM:4/4\nL:1/4\nK:C\nCDEF\n", "latin-1")
        tunes.read_tune(tmp_path, TuneRef("ryan", "no-bars.abc", 6))
    with pytest.raises(InputError, match="ryan-example must have 16 notes or more, got 8"):
        tunes.read_tune(tmp_path, TuneRef("ryan", "example.abc", 6))


@needs_group
def test_a_songbook_is_resumed_and_its_sources_are_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "read_tune", lambda root, ref: tune(ref.tune_id))
    monkeypatch.setattr(command, "arrange", lambda *args: short(arrange(*args)))
    for folder in ("tracks", "stems", "notes"):
        (tmp_path / folder).mkdir()
    ref, font = TuneRef("ryan", "Example.abc", -1), sound.default_sound_font()
    first = command.make_tracks(tmp_path, ref, tmp_path, 0, 2, font)
    assert first == {"tracks": [("ryan-Example-0", 2.0, True), ("ryan-Example-1", 2.0, True)]}
    wav, rate = audio.read_wav(tmp_path / "tracks" / "ryan-Example-0.flac")
    assert (wav.shape, rate) == ((2, 88_200), 44_100)
    written = (tmp_path / "tracks" / "ryan-Example-0.flac").stat().st_mtime_ns
    again = command.make_tracks(tmp_path, ref, tmp_path, 0, 2, font)
    assert [new for _, _, new in again["tracks"]] == [False, False]
    assert (tmp_path / "tracks" / "ryan-Example-0.flac").stat().st_mtime_ns == written
    # Another seed makes them again.
    assert command.make_tracks(tmp_path, ref, tmp_path, 1, 2, font)["tracks"][0][2]
    facts = command._write_sources(tmp_path, ["ryan-Example-0", "ryan-Example-1"])
    assert (facts["tunes"], facts["tune_groups"]) == (1, 1)
    listed = read_sources(tmp_path / "sources.yaml")
    assert [s.path for s in listed] == ["tracks/ryan-Example-0.flac", "tracks/ryan-Example-1.flac"]
    assert {s.licence for s in listed} == {"public domain tune, rendered with TimGM6mb.sf2"}
    assert all(s.rights == "open" and s.tags[0] == "album:ryan-Example" for s in listed)
    assert not list(tmp_path.rglob("*.tmp*"))
