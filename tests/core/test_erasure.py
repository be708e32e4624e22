"""`forget` leaves nothing of a track in a store, changes no other track, and keeps sources from listing it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from melodygan_core import catalogue, dataset, download
from melodygan_core.catalogue.tracks import save
from melodygan_core.config import CatalogueConfig, DatasetConfig, DownloadConfig, replace
from melodygan_core.dataset import Dataset
from melodygan_core.errors import InputError, TransientError
from melodygan_core.maintenance import erasure
from melodygan_core.maintenance.check import check_store
from melodygan_core.maintenance.erasure import removal
from melodygan_core.maintenance.repair import repair_store
from melodygan_core.maintenance.tracks import resolve, retry
from melodygan_core.storage.store import Artifact, Store
from tests.contents import root_of, traces
from tests.core.made import (
    TINY,
    assemble,
    put_features,
    put_tracks,
    track,
)

# By equal files only: these tests have no wavs to compare by ear.
EQUAL = DatasetConfig(near_duplicates=False)
NAMES = [f"t{i}" for i in range(9)]


def rows_of(store: Store, made: Artifact) -> dict[str, Any]:
    """Track to its split, log-mels and MFCCs in a dataset."""
    data = Dataset(store, made)
    found = {}
    for split in ("train", "validation", "test"):
        rows = data.rows(split, ("vocals", "instrumental", "mix"))
        for number in np.unique(rows.track):
            own = rows.take(np.flatnonzero(rows.track == number))
            found[data.tracks[number]["track_id"]] = (
                split,
                data.column(own, "log_mel"),
                data.column(own, "log_bands"),
            )
    return found


def equal_rows(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        a[0] == b[0] and np.array_equal(a[1], b[1]) and np.array_equal(a[2], b[2])
        for a, b in ((one[t], other[t]) for t in one)
    )


def put(store: Store, names: list[str] = NAMES, **config: Any) -> Artifact:
    put_tracks(store, names)
    made = assemble(store, replace(EQUAL, **config))
    store.write_record(made)
    return made


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_dataset_is_as_if_the_track_had_never_existed(store: Store, split: str) -> None:
    before = rows_of(store, put(store))
    gone = next(t for t, (s, *_) in before.items() if s == split)
    splits = store.read_json(store.splits())
    made = erasure.forget(store, [gone])
    assert made.track_ids == [gone]
    assert traces(store, gone) == []
    assert store.record("feature_table") is None
    after = assemble(store, EQUAL)
    rows = rows_of(store, after)
    assert rows.keys() == before.keys() - {gone}
    # The other tracks keep their values; only the split of the removed one may be refilled from training.
    moved = {t for t in rows if rows[t][0] != before[t][0]}
    assert len(moved) == (0 if split == "train" else 1)
    assert all(before[t][0] == "train" and rows[t][0] == split for t in moved)
    assert equal_rows({t: (0, *v[1:]) for t, v in rows.items()}, {t: (0, *before[t][1:]) for t in rows})
    remaining = store.read_json(store.splits())
    assert len(remaining) == len(splits) - 1
    assert all(remaining[g] == splits[g] or splits[g] == "train" for g in remaining)
    assert dataset.describe(store, after).tracks_read == 0
    store.write_record(after)
    assert check_store(store).of("missing", "damaged", "mismatch", "orphaned", "superseded") == [
        f for f in check_store(store).findings if f.path.startswith("features/")
    ]


def test_shards_with_the_track_are_removed_or_rewritten(store: Store) -> None:
    put(store, shard_tracks=4)
    folder = next(root_of(store).glob("dataset/shards/*"))
    before = {p.name: p.read_bytes() for p in folder.glob("*.arrow")}
    erasure.forget(store, ["t0"])
    after = {p.name: p.read_bytes() for p in folder.glob("*.arrow")}
    unchanged = before.keys() & after.keys()
    assert (len(before), len(after), len(unchanged)) == (3, 3, 2)
    assert all(before[n] == after[n] for n in unchanged)
    # The float16 values themselves, not only the name.
    secret = put_features(Store(str(root_of(store).parent / "twin")), "t0")
    needle = secret.columns["log_mel"][secret.usable][0].tobytes()
    assert any(needle in content for content in before.values())
    assert not any(needle in p.read_bytes() for p in root_of(store).rglob("*") if p.is_file())


def test_damaged_index_does_not_prevent_erasure(store: Store) -> None:
    before = rows_of(store, put(store))
    splits = store.read_json(store.splits())
    next(root_of(store).glob("dataset/shards/*/index.parquet")).write_bytes(b"x")
    gone = next(t for t, (split, *_) in before.items() if split == "train")
    erasure.forget(store, [gone])
    assert traces(store, gone) == []
    assert not list(root_of(store).glob("dataset/shards/*/*.arrow"))
    assert store.read_json(store.splits()) == splits
    after = rows_of(store, assemble(store, EQUAL))
    assert equal_rows(after, {t: v for t, v in before.items() if t != gone})


def test_all_feature_ids_and_old_versions_are_searched(store: Store) -> None:
    other = replace(TINY, n_mels=5)
    first = put(store)
    for name in NAMES:
        put_features(store, name, other)
    second = assemble(store, EQUAL, other)
    put_features(store, "t1", seed=7)
    third = assemble(store, EQUAL)
    assert len({first.version, second.version, third.version}) == 3
    erasure.forget(store, ["t1"])
    assert traces(store, "t1") == []
    assert not any(store.at(a.uri).exists() for a in (first, second, third))


def test_other_tracks_with_the_same_sound_keep_group_and_split(store: Store) -> None:
    for name in NAMES:
        put_features(store, name, audio="one" if name in ("t1", "t2") else "")
    save(store, [track(n) for n in NAMES])
    before = rows_of(store, assemble(store, EQUAL))
    splits = store.read_json(store.splits())
    stands = next(t for t in ("t1", "t2") if t in before)
    heir = "t2" if stands == "t1" else "t1"
    erasure.forget(store, [stands])
    assert store.read_json(store.splits()) == splits
    after = rows_of(store, assemble(store, EQUAL))
    assert after[heir][0] == before[stands][0]
    assert {t: v[0] for t, v in after.items() if t != heir} == {
        t: v[0] for t, v in before.items() if t != stands
    }


def test_forget_resumes_after_a_kill_at_any_removal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class KilledError(BaseException):
        pass

    template = Store(str(tmp_path / "template"))
    put(template)
    template.write_json(template.picture("features/f/t3"), {})
    template.write_json(template.fingerprint("t3"), {"fingerprint": "x"})
    (template.work("scratch") / "t3.abc").mkdir()
    calm = Store(str(tmp_path / "calm"))
    shutil.copytree(template.root, calm.root)
    erasure.forget(calm, ["t3"])
    expected = rows_of(calm, assemble(calm, EQUAL))
    real = {"unlink": Path.unlink, "replace": Path.replace, "rmtree": shutil.rmtree}
    at = 0
    while True:
        store = Store(str(tmp_path / f"killed-{at}"))
        shutil.copytree(template.root, store.root)
        left = [at]

        def dying(function: Any, left: list[int] = left) -> Any:
            def call(*arguments: Any, **named: Any) -> Any:
                left[0] -= 1
                if left[0] < 0:
                    raise KilledError
                return function(*arguments, **named)

            return call

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", dying(real["replace"]))
            patch.setattr(shutil, "rmtree", dying(real["rmtree"]))
            try:
                erasure.forget(store, ["t3"])
                killed = False
            except KilledError:
                killed = True
        if not killed:
            break
        erasure.forget(store, ["t3"])
        assert traces(store, "t3") == []
        assert equal_rows(rows_of(store, assemble(store, EQUAL)), expected)
        at += 1
    assert at >= 6


def test_source_does_not_list_a_forgotten_track_until_undo(store: Store, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.wav").write_bytes(b"x")
    sources = tmp_path / "sources.txt"
    sources.write_text("a.wav\nb.wav\n", "utf-8")
    first = catalogue.expand(sources, store, CatalogueConfig())
    gone, stays = first.new
    assert erasure.forget(store, [(tmp_path / "a.wav").as_uri()]).track_ids == [gone]
    assert [t.track_id for t in catalogue.load(store)] == [stays]
    again = catalogue.expand(sources, store, CatalogueConfig())
    assert ([t.track_id for t in again.tracks], again.new, again.forgotten) == ([stays], [], 1)
    # The URL itself is not kept.
    assert "a.wav" not in store.forgotten().read_text("utf-8")
    assert erasure.undo(store, [gone]) == [gone]
    with pytest.raises(InputError, match="that were forgotten"):
        erasure.undo(store, [stays])
    back = catalogue.expand(sources, store, CatalogueConfig())
    assert (back.new, back.forgotten) == ([gone], 0)


def test_damaged_list_of_forgotten_tracks_stops_the_catalogue(store: Store, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"x")
    (tmp_path / "s.txt").write_text("a.wav\n", "utf-8")
    erasure.forget(store, [catalogue.expand(tmp_path / "s.txt", store, CatalogueConfig()).new[0]])
    store.forgotten().write_text("{", "utf-8")
    with pytest.raises(InputError, match="damaged"):
        catalogue.expand(tmp_path / "s.txt", store, CatalogueConfig())
    assert [f.path for f in check_store(store).of("damaged")] == ["forgotten.json"]


def test_run_that_started_before_does_not_fetch_the_track(
    store: Store, tmp_path: Path, tone: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.wav").write_bytes(tone)
    (tmp_path / "s.txt").write_text("a.wav\n", "utf-8")
    tracks = catalogue.expand(tmp_path / "s.txt", store, CatalogueConfig()).tracks
    gone = tracks[0].track_id
    erasure.forget(store, [gone])
    with monkeypatch.context() as patch:
        patch.setattr(catalogue, "load", lambda store: tracks)
        (outcome,) = download.fetch([gone], store, DownloadConfig()).outcomes
    assert "was forgotten" in outcome.error
    assert traces(store, gone) == []


def test_raised_limits_fetch_a_failed_track(store: Store, tmp_path: Path, tone: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(tone)
    (tmp_path / "s.txt").write_text("a.wav\n", "utf-8")
    (track_id,) = catalogue.expand(tmp_path / "s.txt", store, CatalogueConfig()).new
    short = DownloadConfig(max_duration_s=1.5)
    assert "must last 1 to 1.5 s, got " in download.fetch([track_id], store, short).outcomes[0].error
    reason = store.read_json(store.raw_error(track_id))["reason"]
    store.write_json(store.raw_error(track_id), store.read_json(store.raw_error(track_id)) | {"reason": "then"})
    assert download.fetch([track_id], store, short).outcomes[0].error == "then" != reason
    assert download.fetch([track_id], store, DownloadConfig()).outcomes[0].error == ""
    assert not store.raw_error(track_id).exists()


def test_unknown_name_is_refused_before_anything_is_removed(store: Store) -> None:
    put(store)
    before = sorted(root_of(store).rglob("*"))
    for name in ("t99", "../t1", "", "models", "https://music.example/none", "*"):
        with pytest.raises(InputError, match="the track_id or url of one of 9 tracks"):
            erasure.forget(store, ["t1", name])
    assert [p for p in before if not p.exists()] == []


def test_url_stands_for_its_track(store: Store) -> None:
    put(store)
    assert resolve(store, ["HTTPS://music.example:443/t1", "t1", "t2"]) == ["t1", "t2"]


def test_the_title_may_stand_before_the_track_id(store: Store) -> None:
    put(store)
    assert resolve(store, ["Title of t1 t1", " t2"]) == ["t1", "t2"]
    with pytest.raises(InputError, match="got 't1 '"):
        resolve(store, ["t1 "])


def test_files_of_a_forgotten_track_that_appear_later_are_repaired(store: Store) -> None:
    put(store)
    erasure.forget(store, ["t1"])
    put_features(store, "t1")
    late = {f.path for f in check_store(store).of("orphaned") if "forgotten" in f.sentence}
    assert {p.rsplit("/", 1)[-1] for p in late} == {"t1.parquet", "t1.wav"}
    repair_store(store, check_store(store))
    assert traces(store, "t1") == []


def test_measured_figures_of_the_track_are_removed(store: Store) -> None:
    put(store)
    made = store.record("feature_table")
    assert made is not None
    dataset.describe(store, made)
    path = next(root_of(store).glob("dataset/health/*.json"))
    before = json.loads(path.read_text("utf-8"))
    assert "t1" in before["tracks"]
    erasure.forget(store, ["t1"])
    assert traces(store, "t1") == []
    after = json.loads(path.read_text("utf-8"))
    assert after["tracks"] == {t: facts for t, facts in before["tracks"].items() if t != "t1"}


def test_sentences_say_what_is_gone_for_good_and_what_undo_restores(store: Store) -> None:
    put(store)
    question = erasure.confirmation(store, ["t1", "t2"])
    assert question.startswith(f"Remove t1, t2 from {store.root}? Gone for good: raw wavs, stems")
    undo = "`melodygan forget --undo` restores no file: it only lets the next run fetch them again"
    assert undo in question
    report = erasure.forget(store, ["t1", "t2"])
    first, *rest = erasure.describe(report)
    assert first == f"forgotten: t1, t2; gone for good: {len(report.removed)} files and folders"
    assert {f"  {uri}" for uri in report.removed} <= set(rest)
    assert any(line.startswith(undo) for line in rest)
    (line,) = erasure.undone(erasure.undo(store, ["t1"]))
    assert line == "t1 may be listed and fetched again by the next run; its files stay removed"


def test_retry_removes_permanent_failures_only(store: Store) -> None:
    put(store)
    for name in ("t1", "t2"):
        store.write_json(store.raw_error(name), {"reason": "404"})
    with pytest.raises(InputError, match=r"one of the 2 that failed for good.*'t3'"):
        retry(store, ["t1", "t3"])
    assert retry(store, []) == ["t2"]
    assert not store.raw_error("t2").exists()
    assert retry(store, []) == []


def test_object_store_forgets(store: Store) -> None:
    put(store)
    remote = Store("memory://forgetting")
    remote.base.fs.put(str(root_of(store)) + "/", remote.base.path, recursive=True)
    try:
        Dataset(remote, assemble(remote, EQUAL))
        copies = list((remote.work_base / "shards").iterdir())
        assert len(copies) == 1
        erasure.forget(remote, ["t4"])
        held = {p: remote.base.fs.cat(p) for p in remote.base.fs.find(remote.base.path)}
        named = [p for p, content in held.items() if "t4" in p or b"t4" in content]
        assert {str(p).removeprefix(remote.base.path + "/").split("/")[0] for p in named} == {
            "forgotten.json",
            "marks",
        }
        assert not copies[0].exists()
        assert len(rows_of(remote, assemble(remote, EQUAL))) == 8
    finally:
        remote.base.fs.rm(remote.base.path, recursive=True)
        shutil.rmtree(remote.work_base, ignore_errors=True)


def test_forget_waits_for_stages(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store)
    monkeypatch.setattr(removal, "WAIT_S", 0.0)
    with store.lock("raw/t1"), pytest.raises(TransientError, match="another run has held 'raw/t1'"):
        erasure.forget(store, ["t1"])
    erasure.forget(store, ["t1"])
    assert traces(store, "t1") == []
