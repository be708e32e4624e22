"""Duplicate recordings: one track of each group is trained on, and no recording is in two splits."""

from __future__ import annotations

import base64
import errno
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from melodygan_core import dataset
from melodygan_core.audio import fingerprint, write_wav
from melodygan_core.audio.fingerprint import Print
from melodygan_core.catalogue.tracks import Track, load, save
from melodygan_core.config import DatasetConfig, feature_id
from melodygan_core.dataset import Dataset
from melodygan_core.dataset.index import sound_of
from melodygan_core.demo import songs
from melodygan_core.errors import MelodyGANError, StorageError
from melodygan_core.storage import Artifact, Store, sha256_of
from tests.core.made import SEPARATION, TINY, assemble, put_features, put_provenance, put_tracks, track

NAMES = [f"t{i}" for i in range(8)]


def splits(store: Store, made: Artifact) -> dict[str, str]:
    return {t["track_id"]: t["split"] for t in Dataset(store, made).tracks}


def reasons(store: Store, made: Artifact) -> dict[str, str]:
    return {row["track"]: row["reason"] for row in dataset.describe(store, made).excluded}


def sound(store: Store, name: str) -> str:
    return sound_of(store.read_json(store.raw_json(name)))


def put_print(store: Store, name: str, values: Print) -> Print:
    """Saves a fingerprint of a track as if it were of its wav."""
    text = base64.b64encode(values.astype("<u4").tobytes()).decode()
    stored = {"version": fingerprint.VERSION, "sound": sound(store, name), "fingerprint": text}
    store.write_json(store.fingerprint(name), stored)
    return values


def noise(seed: int, length: int = 150) -> Print:
    return np.random.default_rng(seed).integers(0, 2**32, length, dtype=np.uint32)


def add(store: Store, name: str, values: Print | None = None, *, days: int = 1, audio: str = "") -> None:
    """Adds a track that is first seen some days after the others."""
    put_features(store, name, audio=audio)
    seen = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=days)
    save(store, [*load(store), track(name, first_seen=seen)])
    if values is not None:
        put_print(store, name, values)


@pytest.fixture
def known(store: Store) -> dict[str, str]:
    """The splits of eight different tracks with fingerprints."""
    put_tracks(store, NAMES)
    for i, name in enumerate(NAMES):
        put_print(store, name, noise(i))
    return splits(store, assemble(store))


def of_split(known: dict[str, str], split: str) -> str:
    return next(n for n, s in known.items() if s == split)


# Equal files.


def test_of_equal_files_the_first_is_trained_on(store: Store) -> None:
    for i, name in enumerate(NAMES):
        put_features(store, name, audio=f"record {i % 6}")
    early = datetime(2025, 1, 1, tzinfo=UTC)
    rows = [track(n, first_seen=early) if n == "t7" else track(n) for n in NAMES]
    save(store, rows)
    made = assemble(store)
    of = splits(store, made)
    # t0 before t6 by name, t7 before t1 by when it was seen.
    assert set(of) == {"t0", "t7", "t2", "t3", "t4", "t5"}
    assert reasons(store, made) == {
        "t6": f"same sound as t0 ({of['t0']})",
        "t1": f"same sound as t7 ({of['t7']})",
    }
    assert sum(made.metrics[f"{s}/groups"] for s in ("train", "validation", "test")) == 6
    # A later copy is excluded as well, and the version stays the same.
    add(store, "late", audio="record 2")
    again = assemble(store)
    assert again.version == made.version
    assert reasons(store, again)["late"] == f"same sound as t2 ({of['t2']})"


def test_the_representative_of_a_group_stays_until_it_is_removed(store: Store) -> None:
    put_tracks(store, NAMES)
    add(store, "copy", audio="t3")
    store.features(feature_id(TINY, SEPARATION), "t3").unlink()
    first = splits(store, assemble(store))
    assert "copy" in first and "t3" not in first
    put_features(store, "t3")
    made = assemble(store)
    assert splits(store, made) == first
    assert reasons(store, made) == {"t3": f"same sound as copy ({first['copy']})"}


# Near-duplicates.


def test_near_duplicates_are_excluded_with_the_reason(store: Store, known: dict[str, str]) -> None:
    before = assemble(store)
    for split in ("train", "validation", "test"):
        original = of_split(known, split)
        put = noise(int(original[1:])).copy()
        put[::10] ^= np.uint32(0xFF)
        add(store, f"near-{split}", np.concatenate([noise(99, 7), put[20:]]))
    made = assemble(store)
    assert made.version == before.version and splits(store, made) == known
    assert reasons(store, made) == {
        f"near-{s}": f"nearly the same sound as {of_split(known, s)} ({s})"
        for s in ("train", "validation", "test")
    }
    described = dataset.describe(store, made)
    assert described.reasons == [{"reason": "nearly the same sound as another track", "tracks": 3}]
    [row] = [d for d in described.health.duplicates if d["track"] == "near-test"]
    assert (row["of"], row["split"], row["title"]) == (of_split(known, "test"), "test", "Title of near-test")
    # Eight bits of each tenth value, and a few under the padding.
    assert row["bit_error"] == pytest.approx(0.1 * 8 / 32 + 7 / 137 / 2, abs=0.005)
    assert described.health.leaks == []


def test_nothing_is_compared_twice(
    store: Store, known: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, "near", noise(3))
    made = assemble(store)
    groups = store.read_json(store.groups())
    monkeypatch.setattr(fingerprint, "of_track", lambda *_: pytest.fail("a fingerprint was read"))
    monkeypatch.setattr(fingerprint, "pairs", lambda *_: pytest.fail("sounds were compared"))
    assert assemble(store) == made
    assert store.read_json(store.groups()) == groups


def test_a_mixture_of_two_splits_is_excluded_and_moves_no_track(store: Store, known: dict[str, str]) -> None:
    one, other = of_split(known, "train"), of_split(known, "test")
    add(store, "medley", np.concatenate([noise(int(one[1:])), noise(int(other[1:]))]))
    made = assemble(store)
    assert splits(store, made) == known
    assert reasons(store, made)["medley"] in {
        f"nearly the same sound as {n} ({known[n]})" for n in (one, other)
    }


def test_a_copy_of_a_forgotten_track_replaces_it_in_its_split(store: Store, known: dict[str, str]) -> None:
    for split in ("test", "train"):
        name = of_split(known, split)
        for k in (1, 2):
            add(store, f"{split}-copy-{k}", noise(int(name[1:])), days=k)
    assemble(store)
    gone = {of_split(known, s) for s in ("test", "train")}
    save(store, [t for t in load(store) if t.track_id not in gone])
    made = assemble(store)
    now = splits(store, made)
    assert now == {n: s for n, s in known.items() if n not in gone} | {
        "test-copy-1": "test",
        "train-copy-1": "train",
    }
    assert reasons(store, made)["test-copy-2"] == "nearly the same sound as test-copy-1 (test)"
    # A near-duplicate of the remaining tracks is not a new recording.
    add(store, "test-copy-3", noise(int(of_split(known, "test")[1:])), days=3)
    made = assemble(store)
    assert splits(store, made) == now
    assert reasons(store, made)["test-copy-3"] == "nearly the same sound as test-copy-1 (test)"
    # The returning track does not replace the present representative.
    save(store, [*load(store), *(track(n) for n in gone)])
    assert splits(store, assemble(store)) == now


def test_an_older_store_without_fingerprints_reports_its_leaks_and_repairs_them(store: Store) -> None:
    names = [f"t{i:02d}" for i in range(12)]
    put_tracks(store, names)
    before = assemble(store)
    of = splits(store, before)
    described = dataset.describe(store, before)
    assert [row["track"] for row in described.health.not_compared] == names
    assert {row["reason"] for row in described.health.not_compared} == {"its raw wav is not in the store"}
    # The later one of the two is excluded, whatever its split.
    one, other = sorted((of_split(of, "train"), [n for n, s in of.items() if s == "validation"][-1]))
    for i, name in enumerate(names):
        put_print(store, name, noise(0 if name in (one, other) else 100 + i))
    [leak] = dataset.describe(store, before).health.leaks
    assert {leak["track"], leak["other"]} == {one, other}
    assert {leak["split"], leak["other_split"]} == {"train", "validation"}
    assert leak["what"] == "nearly the same sound (bit error 0.000)"
    third = [f"more-{i}" for i in range(3)]
    for i, name in enumerate(third):
        add(store, name, noise(200 + i))
    made = assemble(store)
    now = splits(store, made)
    assert other not in now and {n: s for n, s in of.items() if n != other}.items() <= now.items()
    assert dataset.describe(store, made).health.leaks == []
    assert dataset.describe(store, made).health.not_compared == []


def test_equal_sound_in_two_splits_is_reported(store: Store, known: dict[str, str]) -> None:
    made = assemble(store)
    one, other = of_split(known, "train"), of_split(known, "test")
    same = store.read_json(store.raw_json(one))["sha256"]
    store.write_json(store.raw_json(other), store.read_json(store.raw_json(other)) | {"sha256": same})
    [leak] = dataset.describe(store, made).health.leaks
    assert {leak["track"], leak["other"]} == {one, other}
    assert leak["what"] == "the same sound"


def test_near_duplicates_can_all_be_kept(store: Store, known: dict[str, str]) -> None:
    add(store, "near", noise(3))
    assert "near" not in splits(store, assemble(store))
    assert "near" in splits(store, assemble(store, DatasetConfig(near_duplicates=False)))


def test_without_a_suitable_ffmpeg_the_error_says_what_to_do(
    store: Store, known: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> Path:
        raise MelodyGANError("no ffmpeg with the chromaprint muxer")

    monkeypatch.setattr(fingerprint, "require_ffmpeg", none)
    assert splits(store, assemble(store)) == known
    add(store, "new")
    with pytest.raises(MelodyGANError, match="no ffmpeg with the chromaprint muxer"):
        assemble(store)
    assert "new" in splits(store, assemble(store, DatasetConfig(near_duplicates=False)))


def test_missing_fingerprints_are_computed_from_the_wavs(store: Store) -> None:
    names = [f"song-{i}" for i in range(7)]
    catalogue: list[Track] = []
    for i, name in enumerate(names):
        wav = songs.render(i % 6, duration_s=9.0).mix
        with store.writing(store.raw_wav(name)) as path:
            # The last one is the first at half level, hence another file.
            write_wav(path, wav * (0.5 if i == 6 else 1.0), 44_100)
            digest = sha256_of(path)
        put_features(store, name)
        put_provenance(store, name, digest, 9.0)
        catalogue.append(track(name))
    save(store, catalogue)
    made = assemble(store)
    of = splits(store, made)
    assert reasons(store, made) == {"song-6": f"nearly the same sound as song-0 ({of['song-0']})"}
    assert all(store.fingerprint(n).exists() for n in names)


def test_a_disk_error_is_no_reason_to_leave_a_track_uncompared(
    store: Store, known: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its near-duplicates would get splits of their own, which are kept for ever."""
    add(store, "near", noise(3))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(fingerprint, "of_track", full)
        with pytest.raises(StorageError, match="the disk is full"):
            assemble(store)
    assert "near" not in store.read_json(store.splits())
    assert splits(store, assemble(store)) == known
