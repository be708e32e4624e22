from __future__ import annotations

import dataclasses
import errno
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from melodygan_core import catalogue, dataset, features
from melodygan_core.catalogue.tracks import save
from melodygan_core.config import STEMS, DatasetConfig, replace
from melodygan_core.dataset import Batches, Dataset, Statistics, to_vectors
from melodygan_core.dataset.vectors import MIN_STD
from melodygan_core.errors import DamagedError, InputError
from melodygan_core.storage import Artifact, Store
from tests.core.made import SEPARATION, TINY, assemble, put_features, put_tracks, track

NAMES = [f"t{i}" for i in range(8)]


def splits(store: Store, made: Artifact) -> dict[str, str]:
    return {t["track_id"]: t["split"] for t in Dataset(store, made).tracks}


# Content.


def test_rows_equal_the_feature_files_and_only_usable_ones_are_there(store: Store) -> None:
    written = {
        name: put_features(store, name, segments=3, unusable=[("vocals", 1), ("mix", 2)] if i % 2 else [])
        for i, name in enumerate(NAMES)
    }
    save(store, [track(n) for n in NAMES])
    data = Dataset(store, assemble(store, DatasetConfig(shard_tracks=3)))
    assert len(data._tables) == 3
    seen = 0
    for split in ("train", "validation", "test"):
        rows = data.rows(split, STEMS)
        columns, index = data.columns(rows, list(TINY.columns)), data.start(rows)
        for i in range(len(rows)):
            name, stem = data.tracks[rows.track[i]]["track_id"], STEMS[rows.stem[i]]
            source = written[name]
            (k,) = [k for k, s in enumerate(source.stem) if s == stem and source.index[k] == index[i]]
            assert source.usable[k]
            for name, values in columns.items():
                assert np.array_equal(values[i].numpy(), source.columns[name][k].astype(np.float32))
        assert {data.tracks[t]["split"] for t in rows.track} == {split}
        seen += len(rows)
    assert seen == sum(int(w.usable.sum()) for w in written.values()) == 8 * 9 - 4 * 2


def test_rows_are_of_the_requested_stems(store: Store) -> None:
    put_tracks(store, NAMES)
    data = Dataset(store, assemble(store))
    rows = data.rows("train", ["vocals", "mix"])
    assert {STEMS[s] for s in rows.stem} == {"vocals", "mix"}
    assert len(rows) == 2 * len(data.rows("train", ["instrumental"]))


def test_statistics_equal_numpy_over_the_training_frames(store: Store) -> None:
    written = {n: put_features(store, n, unusable=[("mix", 0)]) for n in NAMES}
    save(store, [track(n) for n in NAMES])
    made = assemble(store)
    of = splits(store, made)
    for stems in (["mix"], ["vocals", "mix"]):
        statistics = Dataset(store, made).statistics(stems)
        assert list(statistics.mean) == list(statistics.std) == ["log_mel", "mfcc", "log_bands"]
        for name, width in TINY.columns.items():
            parts = [
                w.columns[name][w.usable & np.isin(w.stem, stems)].reshape(-1, width).astype(np.float64)
                for n, w in written.items()
                if of[n] == "train"
            ]
            frames = np.concatenate(parts)
            np.testing.assert_allclose(statistics.mean[name], frames.mean(axis=0), rtol=1e-6)
            np.testing.assert_allclose(statistics.std[name], frames.std(axis=0), rtol=1e-6)


def test_metrics_count_tracks_groups_and_segments(store: Store) -> None:
    put_tracks(store, NAMES)
    made = assemble(store)
    figures = made.metrics
    described = dataset.describe(store, made)
    assert (figures["tracks"], described.excluded, described.tracks_read) == (8, [], 8)
    assert [figures[f"{s}/tracks"] for s in ("train", "validation", "test")] == [4, 2, 2]
    assert figures["train/segments"] == 4 * 3 * 4
    assert figures["test/duration_s"] == round(2 * 4 * TINY.segment_s, 1)
    assert described.health.leaks == []
    assert [row["groups"] for row in described.splits] == [4, 2, 2]


# Increments.


def test_only_new_and_changed_tracks_are_read(store: Store) -> None:
    put_tracks(store, NAMES)
    first = assemble(store)
    shards = store.shards(store.read_json(store.at(first.uri) / "manifest.json")["shards"].rsplit("/", 1)[1])
    before = {p.name: p.stat().st_mtime_ns for p in shards.glob("*.arrow")}
    assert assemble(store) == first
    assert dataset.describe(store, first).tracks_read == 0
    put_features(store, "new")
    save(store, [track(n) for n in [*NAMES, "new"]])
    second = assemble(store)
    assert dataset.describe(store, second).tracks_read == 1
    assert second.version != first.version
    put_features(store, "t3", seed=1)
    third = assemble(store)
    assert dataset.describe(store, third).tracks_read == 1
    assert third.version != second.version
    after = {p.name: p.stat().st_mtime_ns for p in shards.glob("*.arrow")}
    assert before.items() <= after.items()
    assert len(after) == 3
    # Old versions stay readable: their shards were not touched.
    assert len(Dataset(store, first).rows("train", ["mix"])) == 16


def test_a_file_that_was_only_touched_makes_no_new_version(store: Store) -> None:
    put_tracks(store, NAMES)
    first = assemble(store)
    (folder,) = store.features("x", "y").parent.parent.iterdir()
    os.utime(str(folder / "t1.parquet"), (1, 1))
    assert assemble(store).version == first.version


def test_without_its_index_the_same_version_is_made(store: Store) -> None:
    put_tracks(store, NAMES)
    first = assemble(store)
    (store.at(store.read_json(store.at(first.uri) / "manifest.json")["shards"]) / "index.parquet").unlink()
    assert assemble(store) == first


def test_a_validation_track_that_changed_makes_a_new_version(store: Store) -> None:
    put_tracks(store, NAMES)
    first = assemble(store)
    name = next(n for n, s in splits(store, first).items() if s == "validation")
    put_features(store, name, seed=1)
    assert assemble(store).version != first.version


def test_a_half_written_feature_file_is_not_a_track(store: Store) -> None:
    put_tracks(store, NAMES)
    first = assemble(store)
    (folder,) = store.features("x", "y").parent.parent.iterdir()
    (folder / ".1234-t9.parquet").write_bytes(b"half")
    assert assemble(store) == first


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(range(12)), st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_a_track_keeps_its_split_as_others_arrive(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], arrivals: list[int]
) -> None:
    store = Store(str(tmp_path_factory.mktemp("grow") / "store"))
    names = [f"t{i}" for i in order]
    for name in names:
        put_features(store, name, segments=1)
    have, known = 6, {}
    for more in [0, *arrivals]:
        have = min(12, have + more)
        save(store, [track(n) for n in names[:have]])
        made = assemble(store)
        now = splits(store, made)
        assert set(now) == set(names[:have])
        assert known.items() <= now.items()
        assert min(list(now.values()).count(s) for s in ("train", "validation", "test")) >= 2
        known = now


def test_the_version_does_not_depend_on_the_order_of_the_catalogue(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    made = []
    for names in (NAMES, NAMES[::-1]):
        store = Store(str(tmp_path_factory.mktemp("order") / "store"))
        put_tracks(store, names)
        made.append(assemble(store))
    assert made[0].version == made[1].version


def test_too_few_different_tracks_are_counted_in_the_error(store: Store) -> None:
    for i in range(8):
        put_features(store, f"t{i}", audio=f"record {i % 5}")
    save(store, [track(n) for n in NAMES])
    with pytest.raises(InputError, match=r"train has 1 groups of tracks, of 5 .* at least 6 different tracks"):
        assemble(store)


def test_too_few_tracks_at_first_do_not_fix_a_split(store: Store) -> None:
    put_tracks(store, NAMES[:3])
    with pytest.raises(InputError):
        assemble(store)
    put_tracks(store, NAMES)
    late = splits(store, assemble(store))
    other = Store(store.root + "-other")
    put_tracks(other, NAMES)
    assert late == splits(other, assemble(other))


# Exclusions.


def test_unknown_rights_are_excluded_with_the_reason(store: Store) -> None:
    put_tracks(store, NAMES)
    save(store, [track(n, rights="unknown" if n == "t0" else "open") for n in NAMES] + [track("later")])
    made = assemble(store)
    assert "t0" not in splits(store, made)
    assert dataset.describe(store, made).excluded == [
        {
            "track": "later",
            "title": "Title of later",
            "reason": "no features (not downloaded, not separated, or failed)",
        },
        {"track": "t0", "title": "Title of t0", "reason": "rights unknown"},
    ]
    with_it = assemble(store, DatasetConfig(train_on_unknown=True))
    assert splits(store, with_it).keys() == set(NAMES)
    assert with_it.version != made.version


def test_a_track_without_features_changes_no_version(store: Store) -> None:
    put_tracks(store, NAMES)
    first = assemble(store)
    save(store, [track(n) for n in [*NAMES, "later"]])
    assert assemble(store).version == first.version


def test_a_damaged_feature_file_excludes_its_own_track_only(store: Store) -> None:
    put_tracks(store, [*NAMES, "bad"])
    (folder,) = store.features("x", "y").parent.parent.iterdir()
    (folder / "bad.parquet").write_bytes(b"PAR1 not really PAR1")
    made = assemble(store)
    assert splits(store, made).keys() == set(NAMES)
    (excluded,) = dataset.describe(store, made).excluded
    assert excluded["track"] == "bad"
    assert excluded["reason"].startswith("its features cannot be read: Arrow")
    assert dataset.describe(store, made).reasons == [{"reason": "its features cannot be read", "tracks": 1}]


def test_splits_outlive_the_index_and_other_features(store: Store) -> None:
    for count in (6, 9, 13):
        put_tracks(store, [f"t{i}" for i in range(count)])
        made = assemble(store)
    before = splits(store, made)
    (store.at(store.read_json(store.at(made.uri) / "manifest.json")["shards"]) / "index.parquet").unlink()
    assert splits(store, assemble(store)) == before


def test_a_track_without_a_usable_segment_is_excluded(store: Store) -> None:
    put_tracks(store, NAMES)
    put_features(store, "t5", segments=1, unusable=[(s, 0) for s in STEMS])
    made = assemble(store)
    assert dataset.describe(store, made).excluded == [
        {"track": "t5", "title": "Title of t5", "reason": "no usable segment"}
    ]
    assert "t5" not in splits(store, made)


def test_without_eligible_tracks_the_error_says_why_and_what_to_set(store: Store) -> None:
    with pytest.raises(InputError, match=r"none of 0 tracks .* the catalogue is empty"):
        assemble(store)
    put_tracks(store, NAMES, rights="unknown")
    with pytest.raises(InputError, match=r"none of 8 tracks .* rights unknown.*train_on_unknown"):
        assemble(store)


def test_a_forgotten_track_disappears(store: Store) -> None:
    put_tracks(store, NAMES)
    before = splits(store, assemble(store))
    gone = next(n for n in NAMES if before[n] == "train")
    save(store, [t for t in catalogue.load(store) if t.track_id != gone])
    made = assemble(store)
    assert splits(store, made) == {n: s for n, s in before.items() if n != gone}
    assert made.metrics["train/segments"] == 3 * 12


def test_another_feature_config_never_mixes(store: Store) -> None:
    put_tracks(store, NAMES)
    wider = replace(TINY, n_mels=4)
    first = assemble(store)
    with pytest.raises(InputError, match="no features"):
        assemble(store, feature=wider)
    for name in NAMES:
        put_features(store, name, wider)
    second = assemble(store, feature=wider)
    rows = Dataset(store, second).rows("train", ["mix"])
    assert Dataset(store, second).column(rows, "log_mel").shape[2] == 4
    assert Dataset(store, first).column(rows, "log_mel").shape[2] == 3
    assert assemble(store) == first
    put_features(store, "t2", made_by="somebody else")
    with pytest.raises(InputError, match=r"feature_id of t2 must be .*, got 'somebody else'"):
        assemble(store)


def test_hostile_titles_and_licences_stay_unchanged(store: Store) -> None:
    put_tracks(store, NAMES, title="<b>\n|", licence="", tags=("a", "b"))
    made = assemble(store)
    assert {(t["title"], t["licence"], tuple(t["tags"])) for t in Dataset(store, made).tracks} == {
        ("<b>\n|", "", ("a", "b"))
    }


def test_a_split_without_the_stem_is_an_error(store: Store) -> None:
    for name in NAMES:
        put_features(store, name, unusable=[("vocals", i) for i in range(4)])
    save(store, [track(n) for n in NAMES])
    data = Dataset(store, assemble(store))
    with pytest.raises(InputError, match="train has no usable segment of vocals"):
        data.rows("train", ["vocals"])
    with pytest.raises(InputError, match="train has no usable segment of vocals"):
        data.statistics(["vocals"])


# Windows.


def test_windows_are_consecutive_segments_of_one_track(store: Store) -> None:
    for name in NAMES:
        put_features(store, name, segments=9, unusable=[("mix", 3), ("mix", 8)])
    save(store, [track(n) for n in NAMES])
    data = Dataset(store, assemble(store))
    rows, length = data.windows("train", "mix", 2 * TINY.segment_s, 1000)
    # Usable are 0 1 2 . 4 5 6 7 .: the windows 0-1, 4-5, 6-7 of each of four tracks.
    assert length == 2
    assert data.start(rows).tolist() == [0, 1, 4, 5, 6, 7] * 4
    assert all(rows.track[::2] == rows.track[1::2])
    assert {STEMS[s] for s in rows.stem} == {"mix"}
    assert data.windows("train", "mix", 2 * TINY.segment_s + 1e-9, 1000)[1] == 2
    assert data.windows("train", "mix", 2.1 * TINY.segment_s, 1000)[1] == 3
    few, _ = data.windows("train", "mix", 2 * TINY.segment_s, 5)
    assert len(few) == 10
    assert set(few.track) == set(rows.track)
    with pytest.raises(InputError, match=r"train has no .* s of consecutive usable mix segments"):
        data.windows("train", "mix", 5 * TINY.segment_s, 1000)


# Vectors and batches.


def identity(n_mels: int, n_mfcc: int) -> Statistics:
    zeros = [np.zeros(n, np.float32) for n in (n_mels, n_mfcc)]
    mean = dict(zip(("log_mel", "mfcc"), zeros, strict=True))
    return Statistics(mean, {name: zero + 1 for name, zero in mean.items()})


def test_a_constant_segment_is_a_constant_vector() -> None:
    statistics = dataclasses.replace(
        identity(2, 1),
        mean={"log_mel": np.array([1, 2], np.float32), "mfcc": np.zeros(1, np.float32)},
        std={"log_mel": np.array([2, 4], np.float32), "mfcc": np.ones(1, np.float32)},
    )
    log_mel = np.broadcast_to(np.array([5.0, 4.0], np.float32), (1, 8, 2))
    vector = to_vectors(log_mel, np.full((1, 8, 1), 7, np.float32), statistics, 4)
    assert vector.tolist() == [[2.0, 0.5] * 4 + [7.0] * 4]


def test_a_ramp_is_binned_exactly() -> None:
    ramp = np.arange(8, dtype=np.float32)
    log_mel = np.stack([ramp, 10 * ramp], axis=1)[None]
    vector = to_vectors(log_mel, -ramp[None, :, None], identity(2, 1), 4)
    assert vector.tolist() == [[0.5, 5, 2.5, 25, 4.5, 45, 6.5, 65, -0.5, -2.5, -4.5, -6.5]]
    every = to_vectors(log_mel, -ramp[None, :, None], identity(2, 1), 8)
    assert every[0, :16].reshape(8, 2).tolist() == log_mel[0].tolist()


def test_one_bin_is_the_plain_mean() -> None:
    rng = np.random.default_rng(0)
    log_mel, mfcc = (rng.normal(size=(3, 8, w)).astype(np.float32) for w in (3, 2))
    vector = to_vectors(log_mel, mfcc, identity(3, 2), 1)
    np.testing.assert_allclose(
        vector, np.concatenate([log_mel.mean(1), mfcc.mean(1)], axis=1), rtol=1e-6, atol=1e-7
    )


def test_bins_that_do_not_divide_the_frames_are_refused() -> None:
    with pytest.raises(InputError, match=r"(?=.*time_bins)(?=.*\b3\b)(?=.*a divisor of segment_frames = 8)"):
        to_vectors(np.zeros((1, 8, 2), np.float32), np.zeros((1, 8, 1), np.float32), identity(2, 1), 3)


def test_a_constant_band_does_not_divide_by_zero(store: Store) -> None:
    put_tracks(store, NAMES)
    data = Dataset(store, assemble(store))
    data._statistics["mix"] = [4.0, *[1.0, 2.0, 4.0], *[0.25, 1.0, 4.0], 0.0, 0.0, 4.0, 16.0, *[2.0] * 10]
    statistics = data.statistics(["mix"])
    assert statistics.mean["log_mel"].tolist() == [0.25, 0.5, 1.0]
    assert statistics.std["log_mel"].tolist() == [np.float32(MIN_STD)] * 3
    assert statistics.mean["mfcc"].tolist() == [0.0, 0.0]
    assert statistics.std["mfcc"].tolist() == [1.0, 2.0]


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 5))
def test_an_epoch_is_a_permutation_and_resumes_anywhere(count: int, size: int, seed: int) -> None:
    per_epoch = count // min(size, count)
    stream = Batches(count, size, seed)
    first = [stream[step] for step in range(3 * per_epoch)]
    for epoch in range(3):
        seen = np.concatenate(first[epoch * per_epoch : (epoch + 1) * per_epoch])
        assert len(np.unique(seen)) == len(seen) == per_epoch * min(size, count)
        assert 0 <= seen.min() <= seen.max() < count
    for k in (0, 1, per_epoch, 2 * per_epoch - 1, 2 * per_epoch):
        assert Batches(count, size, seed)[k].tolist() == first[k].tolist()


def test_epochs_and_seeds_have_their_own_order() -> None:
    stream = Batches(64, 64, 0)
    one, two = stream[0].tolist(), stream[1].tolist()
    assert sorted(one) == sorted(two) == list(range(64))
    assert one != two
    assert stream[0].tolist() == one
    assert Batches(64, 64, 1)[0].tolist() != one


def test_the_dataset_records_the_separation_of_its_stems(store: Store) -> None:
    put_tracks(store, NAMES)
    data = Dataset(store, assemble(store))
    assert data.separation_id == SEPARATION.model_id
    assert data.feature == TINY


def test_a_disk_error_excludes_no_track(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put_tracks(store, NAMES)

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(features, "read", broken)
        with pytest.raises(OSError, match="Input/output"):
            assemble(store)
    assert set(splits(store, assemble(store))) == set(NAMES)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b"PAR1", b"ARROW1"])
@pytest.mark.parametrize(
    "pattern",
    [
        "catalogue.parquet", "dataset/shards/*/index.parquet", "dataset/*/tracks.parquet",
        "dataset/*/manifest.json", "dataset/shards/*/*.arrow", "records/feature_table.json",
    ],
)  # fmt: skip
def test_a_damaged_file_is_one_sentence_that_names_it(store: Store, pattern: str, content: bytes) -> None:
    put_tracks(store, NAMES)
    made = assemble(store)
    store.write_record(made)
    path = next(Path(store.root).glob(pattern))
    path.write_bytes(content)
    with pytest.raises(DamagedError, match=f"{path.name} is damaged .*: run `melodygan doctor`") as caught:
        if path.suffix == ".json" and path.parent.name == "records":
            store.record("feature_table")
        elif ("shards" in pattern and path.suffix == ".parquet") or path.name == "catalogue.parquet":
            assemble(store)
        else:
            Dataset(store, made)
    assert len(str(caught.value)) < 500 and "\n" not in str(caught.value)
