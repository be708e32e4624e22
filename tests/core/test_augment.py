"""Augmentation of labelled sets: labels and lengths stay, and a killed run resumes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from melodygan_core import audio
from melodygan_core.config import AugmentConfig, AugmentSoundConfig, replace
from melodygan_core.errors import InputError
from melodygan_core.progress import ProgressEvent
from melodygan_core.release import Release
from melodygan_core.services.augment import STATE, augment
from melodygan_core.services.augment_sound import augment_sound
from melodygan_core.services.labelled import Labelled, read_labelled
from melodygan_core.storage import Store
from tests.core.made_temporal import RATE, put, tone

pytestmark = pytest.mark.slow

CONFIG = AugmentConfig(copies=2, strength=0.5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two sounds of one label and one of another, of different lengths; one has another rate and is stereo."""
    root = tmp_path / "set"
    put(root / "piano" / "a.wav", tone(1.3, (220.0, 330.0)))
    put(root / "piano" / "b.wav", tone(1.1, (262.0, 196.0), bright=0.8))
    put(root / "flute" / "a.flac", np.stack([tone(0.9, (440.0, 392.0, 523.0), rate=44_100)] * 2), 44_100)
    return root


def contents(out: Path) -> dict[str, bytes]:
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def rows_of(out: Path) -> list[dict[str, Any]]:
    with (out / "metadata.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_variation_keeps_label_length_and_notes(temporal: Release, folder: Path, tmp_path: Path) -> None:
    made = augment(temporal, folder, tmp_path / "out", CONFIG)
    rows = rows_of(tmp_path / "out")
    assert [r["file_name"] for r in rows] == [
        f"data/{name}.{k:02d}.wav" for name in ("flute/a", "piano/a", "piano/b") for k in (1, 2)
    ]
    assert list(rows[0]) == [
        "file_name",
        "label",
        "source_file",
        "copy",
        "seed",
        "strength",
        "release",
        "licence",
        "rights",
        "chroma_correlation",
        "onset_correlation",
    ]
    assert (made.made, made.failed) == (6, {})
    lengths = {"piano/a.wav": 1.3, "piano/b.wav": 1.1, "flute/a.flac": 0.9}
    for row in rows:
        wav, rate = audio.read_wav(tmp_path / "out" / row["file_name"])
        assert (wav.shape, rate) == ((2, round(lengths[row["source_file"]] * RATE)), RATE)
        assert row["label"] == row["source_file"].split("/")[0]
        assert float(row["chroma_correlation"]) > 0.7
        assert float(row["onset_correlation"]) > 0.7
        assert row["release"] == temporal.version
        assert (row["licence"], row["rights"]) == ("unknown", "unknown")
    assert len({(tmp_path / "out" / r["file_name"]).read_bytes() for r in rows}) == 6


def test_a_killed_run_resumes_to_the_same_bytes(
    temporal: Release, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    augment(temporal, folder, tmp_path / "whole", CONFIG)
    write, count = audio.write_wav, [0]

    def fails(path: Path, *arguments: Any) -> None:
        count[0] += 1
        if count[0] == 4:
            path.write_bytes(b"half of a wav")
            raise KeyboardInterrupt
        write(path, *arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(audio, "write_wav", fails)
        augment(temporal, folder, tmp_path / "out", CONFIG)
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.wav")}
    assert len(times) == 3
    assert not (tmp_path / "out" / "metadata.csv").exists()
    (tmp_path / "out" / "data" / "piano" / ".491a6961-a.02.wav").write_bytes(b"left by a kill -9")
    result = augment(temporal, folder, tmp_path / "out", CONFIG)
    assert result.made == 3
    assert {p: p.stat().st_mtime_ns for p in times} == times
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    again = augment(temporal, folder, tmp_path / "out", CONFIG)
    assert (again.made, again.rows) == (0, result.rows)


def test_more_copies_keep_the_first_and_another_seed_is_refused(
    temporal: Release, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    augment(temporal, folder, out, AugmentConfig(copies=1))
    first = contents(out / "data")
    more = augment(temporal, folder, out, AugmentConfig(copies=2))
    assert (more.made, len(more.rows)) == (3, 6)
    assert first.items() <= contents(out / "data").items()
    message = r"^out must be a new folder or .*'seed': 1.*, got .*, made with .*'seed': 0"
    with pytest.raises(InputError, match=message):
        augment(temporal, folder, out, AugmentConfig(seed=1))


def test_a_folder_that_another_call_fills_is_refused(temporal: Release, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    augment(temporal, folder, out, AugmentConfig(copies=1))
    half = out / "data" / "piano" / ".491a6961-a.02.wav"
    half.write_bytes(b"what the other one is writing")
    with (
        FileLock(out / STATE / "lock"),
        pytest.raises(InputError, match=r"^out must be a folder that no other call is filling"),
    ):
        augment(temporal, folder, out, CONFIG)
    assert half.exists()
    assert augment(temporal, folder, out, CONFIG).made == 3


def test_a_changed_sound_is_varied_again(temporal: Release, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    augment(temporal, folder, out, AugmentConfig(copies=1))
    put(folder / "flute" / "a.flac", tone(0.7, (550.0,)))
    assert augment(temporal, folder, out, AugmentConfig(copies=1)).made == 1
    wav, _ = audio.read_wav(out / "data" / "flute" / "a.01.wav")
    assert wav.shape == (2, round(0.7 * RATE))


def test_strength_0_returns_the_sound(temporal: Release, folder: Path, tmp_path: Path) -> None:
    augment(temporal, folder, tmp_path / "out", AugmentConfig(copies=1, strength=0.0))
    source, made = (
        audio.read_wav(p)[0] for p in (folder / "piano/a.wav", tmp_path / "out/data/piano/a.01.wav")
    )
    # It was decoded at another rate in between, which rings at the ends.
    assert np.allclose(source[:, 200:-200], made[:, 200:-200], atol=1e-3)


def test_a_sound_that_cannot_be_varied_is_reported_and_the_rest_continue(
    temporal: Release, folder: Path, tmp_path: Path
) -> None:
    (folder / "flute" / "bad.mp3").write_bytes(b"no sound")
    put(folder / "piano" / "silent.wav", np.zeros(RATE, dtype=np.float32))
    result = augment(temporal, folder, tmp_path / "out", CONFIG)
    assert {k: v.split(":")[-1] for k, v in result.failed.items()}.keys() == {
        "flute/bad.mp3",
        "piano/silent.wav",
    }
    assert "must be audible" in result.failed["piano/silent.wav"]
    assert len(result.rows) == 6


def test_every_copy_has_metadata_and_licence_of_its_source(temporal: Release, tmp_path: Path) -> None:
    root = tmp_path / "set"
    put(root / "x.wav", tone(0.8, (220.0,)))
    put(root / "y.wav", tone(0.8, (330.0,)))
    table = 'file_name,mood,seed,license\nx.wav,"calm, <b>",7,CC-BY-4.0\ny.wav,wild,8,\n'
    (root / "metadata.csv").write_text(table, "utf-8")
    config = AugmentConfig(copies=1, licence="| [x](y)", rights="own")
    augment(temporal, root, tmp_path / "out", config)
    first, second = rows_of(tmp_path / "out")
    assert (first["mood"], first["source_seed"], first["seed"]) == ("calm, <b>", "7", "0")
    assert (first["licence"], second["licence"], second["rights"]) == ("CC-BY-4.0", "| [x](y)", "own")
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert "| CC\\-BY\\-4.0 | 1 |" in card
    assert "[x](y)" not in card
    assert temporal.version in card


# Reading sets.


def named(items: list[Labelled]) -> dict[str, tuple[dict[str, str], tuple[str, ...]]]:
    return {i.name: (i.labels, i.group) for i in items}


def test_folders_are_labels_unless_they_name_a_split(folder: Path) -> None:
    put(folder / "data" / "test" / "piano" / "c.wav", tone(0.6, (220.0,)))
    put(folder / "train" / "d.wav", tone(0.6, (220.0,)))
    (folder / ".hidden").mkdir()
    put(folder / ".hidden" / "e.wav", tone(0.6, (220.0,)))
    (folder / "link.wav").symlink_to(folder / "piano" / "a.wav")
    assert named(read_labelled(folder)) == {
        "flute/a.flac": ({"label": "flute"}, ("", "flute")),
        "piano/a.wav": ({"label": "piano"}, ("", "piano")),
        "piano/b.wav": ({"label": "piano"}, ("", "piano")),
        "test/piano/c.wav": ({"label": "piano"}, ("test", "piano")),
        "train/d.wav": ({}, ("train", "")),
    }


def test_metadata_may_be_json_lines(folder: Path) -> None:
    lines = [{"file_name": "piano/a.wav", "label": 3, "tags": ["x"]}, {"file_name": "piano/b.wav", "label": 3}]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    assert named(read_labelled(folder)) == {
        "piano/a.wav": ({"label": "3", "tags": '["x"]'}, ("", "3")),
        "piano/b.wav": ({"label": "3"}, ("", "3")),
    }


def test_a_store_has_its_tracks_labelled_by_their_tags(temporal_store: Store) -> None:
    items = read_labelled(Path(temporal_store.root))
    assert len(items) == 9
    assert {i.labels["tags"] for i in items} == {"fast", "minor; slow"}
    assert {(i.licence, i.rights) for i in items} == {("CC0-1.0", "open")}
    assert all(i.group == (i.labels["split"], i.labels["tags"]) for i in items)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            "file_name,label\n../secret.wav,x\n",
            r"line 2: file_name must be a file in .*, got '\.\./secret\.wav'",
        ),
        ("file_name,label\n/etc/passwd,x\n", r"line 2: file_name must be .*, got '/etc/passwd'"),
        ("file_name,label\nnone.wav,x\n", r"line 2: file_name must be .*, got 'none\.wav'"),
        ("name,label\npiano/a.wav,x\n", r"line 2: file_name must be .*, got ''"),
        (
            "file_name,label\npiano/a.wav,x\npiano/a.wav,y\n",
            r"line 3: file_name must differ from those before, got 'piano/a\.wav'",
        ),
        ("file_name,label\npiano/a.wav\n", "line 2 must have one value per column"),
        ("file_name,label\n", r"must have a sound .*, got none"),
    ],
)
def test_damaged_metadata_is_refused_by_its_line(folder: Path, table: str, message: str) -> None:
    (folder.parent / "secret.wav").write_bytes(b"x")
    (folder / "metadata.csv").write_text(table, "utf-8")
    with pytest.raises(InputError, match=message):
        read_labelled(folder)


def test_the_output_must_be_a_new_folder_outside_of_the_set(
    temporal: Release, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"^out must be a folder outside of"):
        augment(temporal, folder, folder / "out", CONFIG)
    with pytest.raises(InputError, match=r"^out must be a new or empty folder"):
        augment(temporal, folder, put(tmp_path / "x" / "a.wav", tone(1.0, (9.0,))).parent, CONFIG)
    with pytest.raises(InputError, match="dataset must be a folder of sounds or a store"):
        augment(temporal, tmp_path / "none", tmp_path / "out", CONFIG)


def test_one_sound_is_varied_as_a_set_is(temporal: Release, folder: Path, tmp_path: Path) -> None:
    config = AugmentSoundConfig(sound=str(folder / "piano" / "a.wav"), count=2, seed=3, strength=0.5)
    events: list[ProgressEvent] = []
    made = augment_sound(temporal, config, tmp_path / "out", progress=events.append)
    assert [s.file for s in made.sounds] == ["a-augmented-00.wav", "a-augmented-01.wav"]
    assert all(s.duration_s == pytest.approx(1.3, abs=1e-3) for s in made.sounds)
    assert all(s.figures["chroma_correlation"] > 0.8 for s in made.sounds)
    first, second = (audio.read_wav(tmp_path / "out" / s.file)[0] for s in made.sounds)
    assert np.abs(first - second).max() > 1e-3
    assert [(e.done, e.total) for e in events] == [(0, 2), (1, 2), (2, 2)]
    # Variation k of a seed is variation 0 of the k-th seed after it, so that each can be made again alone.
    alone = replace(config, count=1, seed=4)
    augment_sound(temporal, alone, tmp_path / "alone")
    assert np.array_equal(audio.read_wav(tmp_path / "alone" / "a-augmented-00.wav")[0], second)
    note = json.loads((tmp_path / "out" / "a-augmented-01.json").read_text("utf-8"))
    assert (note["service"], note["method"], note["inputs"][0]["file"]) == ("augment", "eq", "a.wav")
    assert note["settings"]["seed"] == 3 and "sound" not in note["settings"]


def test_one_sound_of_strength_0_stays(temporal: Release, folder: Path, tmp_path: Path) -> None:
    sound = folder / "piano" / "a.wav"
    augment_sound(temporal, AugmentSoundConfig(sound=str(sound), count=1, strength=0), tmp_path / "out")
    made, _ = audio.read_wav(tmp_path / "out" / "a-augmented-00.wav")
    given, _ = audio.read_wav(sound)
    # A filter has no window at both ends.
    assert np.abs(made - given)[:, RATE // 10 : -RATE // 10].max() < 1e-3


def test_a_method_that_a_release_has_not_is_refused(temporal: Release, folder: Path, tmp_path: Path) -> None:
    config = AugmentSoundConfig(sound=str(folder / "piano" / "a.wav"), method="flow")
    with pytest.raises(InputError, match="vary"):
        augment_sound(temporal, config, tmp_path / "out")
    assert not (tmp_path / "out").exists()
