"""Each way in which a store can be damaged is found, named and mended; a whole one is left alone."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from melodygan_core.config import DatasetConfig
from melodygan_core.maintenance import inspection
from melodygan_core.maintenance.inspection import listing
from melodygan_core.storage.store import Store
from tests.core.made import FEATURE, SEPARATION, Family, assemble, put_features, put_tracks, track

MODEL = SEPARATION.model_id


def old(path: Path) -> Path:
    """As if it was written two hours ago."""
    for part in [path, *path.rglob("*")]:
        os.utime(part, (time.time() - 7200,) * 2)
    return path


def flip(path: Path, at: int = -100) -> None:
    """Changes one byte, not the size."""
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


def root_of(store: Store) -> Path:
    return Path(store.root)


@pytest.fixture
def whole(own_family: Family) -> Store:
    """A store with everything from raw wavs to the evaluation, all recorded."""
    store = own_family.store
    for made in (
        own_family.dataset,
        own_family.vocoder,
        own_family.autoencoder,
        own_family.latents,
        own_family.gan,
    ):
        store.write_record(made)
    store.write_record(own_family.samples)
    store.write_record(own_family.evaluation)
    return store


def kinds(store: Store, *, hashes: bool = True) -> dict[str, str]:
    return {f.path: f.kind for f in inspection.inspect(store, hashes=hashes).findings}


def features_of(store: Store, track_id: str) -> Path:
    return next(root_of(store).glob(f"features/*/{track_id}.parquet"))


def one(store: Store, pattern: str) -> Path:
    return next(root_of(store).glob(pattern))


def test_a_whole_store_has_no_finding_and_is_not_touched(whole: Store) -> None:
    before = {p: p.stat().st_mtime_ns for p in root_of(whole).rglob("*") if "work" not in p.parts}
    report = inspection.inspect(whole)
    assert report.findings == ()
    assert report.good
    assert report.files == len([p for p in before if p.is_file()])
    assert report.bytes == sum(p.stat().st_size for p in before if p.is_file())
    assert inspection.repair(whole, report) == []
    assert before == {p: p.stat().st_mtime_ns for p in root_of(whole).rglob("*") if "work" not in p.parts}


Damage = Callable[[Store], object]
RAW, STEMS = "raw/made-00.wav", f"stems/{MODEL}/made-00"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


# What is done to a store; the finding that must come of it (path pattern, kind); what mending must take away.
DAMAGES: dict[str, tuple[Damage, str, str, tuple[str, ...]]] = {
    "json without wav": (lambda s: one(s, RAW).unlink(), "raw/made-00.json", "torn", ("raw/made-00.json",)),
    "wav without json": (lambda s: one(s, "raw/made-00.json").unlink(), RAW, "torn", (RAW,)),
    "bit rot in a wav": (lambda s: flip(one(s, RAW)), RAW, "mismatch", (RAW, "raw/made-00.json")),
    "no JSON": (lambda s: truncate(one(s, "raw/made-00.json")), "raw/made-00.json", "damaged", (RAW,)),
    "error of a good track": (
        lambda s: s.write_json(s.raw_error("made-00"), {"reason": "404"}),
        "raw/made-00.error.json",
        "orphaned",
        ("raw/made-00.error.json",),
    ),
    "error that is no JSON": (
        lambda s: (root_of(s) / "raw/gone.error.json").write_text("{", "utf-8"),
        "raw/gone.error.json",
        "damaged",
        ("raw/gone.error.json",),
    ),
    "no stems.json": (lambda s: one(s, f"{STEMS}/stems.json").unlink(), STEMS, "torn", (STEMS,)),
    "a stem is gone": (lambda s: one(s, f"{STEMS}/vocals.wav").unlink(), STEMS, "torn", (STEMS,)),
    "bit rot in a stem": (
        lambda s: flip(one(s, f"{STEMS}/vocals.wav")),
        f"{STEMS}/vocals.wav",
        "mismatch",
        (STEMS,),
    ),
    "half a stem": (
        lambda s: truncate(one(s, f"{STEMS}/vocals.wav")),
        f"{STEMS}/vocals.wav",
        "mismatch",
        (STEMS,),
    ),
    "half a feature table": (
        lambda s: truncate(features_of(s, "made-00")),
        "features/*/made-00.parquet",
        "damaged",
        ("features/*/made-00.parquet",),
    ),
    "features of another config": (
        lambda s: shutil.copytree(features_of(s, "made-00").parent, root_of(s) / "features" / "other"),
        "features/other/made-00.parquet",
        "mismatch",
        ("features/other/made-00.parquet",),
    ),
    "half an index": (
        lambda s: truncate(one(s, "dataset/shards/*/index.parquet")),
        "dataset/shards/*/index.parquet",
        "damaged",
        ("dataset/shards/*/index.parquet",),
    ),
    "a shard is gone": (
        lambda s: one(s, "dataset/shards/*/*.arrow").unlink(),
        "dataset/shards/*/*.arrow",
        "missing",
        ("dataset/shards/*/index.parquet", "dataset/*/tracks.parquet", "records/feature_table.json"),
    ),
    "bit rot in a shard": (
        lambda s: flip(
            one(s, "dataset/shards/*/*.arrow"), at=one(s, "dataset/shards/*/*.arrow").stat().st_size // 2
        ),
        "dataset/shards/*/*.arrow",
        "damaged",
        ("dataset/shards/*/*.arrow", "dataset/*/tracks.parquet"),
    ),
    "half a shard": (
        lambda s: truncate(one(s, "dataset/shards/*/*.arrow")),
        "dataset/shards/*/*.arrow",
        "damaged",
        ("dataset/shards/*/*.arrow",),
    ),
    "a shard that nobody names": (
        lambda s: shutil.copy2(old(one(s, "dataset/shards/*/*.arrow")), one(s, "dataset/shards/*") / "0.arrow"),
        "dataset/shards/*/0.arrow",
        "orphaned",
        ("dataset/shards/*/0.arrow",),
    ),
    "splits that are no JSON": (
        lambda s: truncate(one(s, "dataset/splits.json")),
        "dataset/splits.json",
        "damaged",
        (),
    ),
    "bit rot in weights": (
        lambda s: flip(one(s, "models/dense/gan/*/weights.safetensors")),
        "models/dense/gan/*/weights.safetensors",
        "mismatch",
        ("models/dense/gan/*", "records/dense.gan_checkpoint.json"),
    ),
    "bit rot in the vocoder": (
        lambda s: flip(one(s, "models/vocoder/vocoder/*/weights.safetensors")),
        "models/vocoder/vocoder/*/weights.safetensors",
        "mismatch",
        ("models/vocoder/vocoder/*", "records/vocoder_checkpoint.json"),
    ),
    "a model without its artifact.json": (
        lambda s: one(s, "models/dense/gan/*/artifact.json").unlink(),
        "models/dense/gan/*",
        "torn",
        ("models/dense/gan/*", "records/dense.gan_checkpoint.json"),
    ),
    "a file of a model is gone": (
        lambda s: one(s, "models/dense/gan/*/config.json").unlink(),
        "models/dense/gan/*",
        "torn",
        ("models/dense/gan/*",),
    ),
    "a file too many": (
        lambda s: (one(s, "samples/dense/*") / "mine.txt").write_text("x", "utf-8"),
        "samples/dense/*/mine.txt",
        "orphaned",
        (),
    ),
    "a model under another name": (
        lambda s: one(s, "models/dense/gan/*").rename(root_of(s) / "models/dense/gan/other"),
        "models/dense/gan/other",
        "mismatch",
        ("models/dense/gan/other", "records/dense.gan_checkpoint.json"),
    ),
    "a record of nothing": (
        lambda s: shutil.rmtree(one(s, "evaluations/dense/*")),
        "records/dense.evaluation.json",
        "missing",
        ("records/dense.evaluation.json",),
    ),
    "a record that says otherwise": (
        lambda s: s.write_json(
            s.record_path("dense/evaluation"), s.read_json(s.record_path("dense/evaluation")) | {"bytes": 1}
        ),
        "records/dense.evaluation.json",
        "mismatch",
        ("records/dense.evaluation.json",),
    ),
    "half a catalogue": (lambda s: truncate(one(s, "catalogue.parquet")), "catalogue.parquet", "damaged", ()),
    "a picture of what is gone": (
        lambda s: (s.write_json(s.picture("features/f/x"), {}), old(root_of(s) / "pictures"))[0],
        "pictures/features/f/x.png",
        "orphaned",
        ("pictures/features/f/x.png",),
    ),
    "a killed writer's file": (
        lambda s: old_text(root_of(s) / "raw" / ".0123abcd-made-00.wav"),
        "raw/.0123abcd-made-00.wav",
        "orphaned",
        ("raw/.0123abcd-made-00.wav",),
    ),
    "a killed writer's folder": (
        lambda s: old_text(root_of(s) / "models/dense/gan/.0123abcd-v/weights.safetensors", up=1),
        "models/dense/gan/.0123abcd-v",
        "orphaned",
        ("models/dense/gan/.0123abcd-v",),
    ),
    "a killed download's scratch": (
        lambda s: old_text(s.work("scratch") / "made-00.x7" / "attempt-1" / "song.mp3", up=2),
        "work/scratch/made-00.x7",
        "orphaned",
        ("work/scratch/made-00.x7",),
    ),
    "state of a training that is done": (
        lambda s: (s.work(f"dense.gan.{one(s, 'models/dense/gan/*').name}") / "state.pt").write_text(
            "x", "utf-8"
        ),
        "work/dense.gan.*",
        "orphaned",
        ("work/dense.gan.*",),
    ),
    "sound that a vocoder learned from": (
        lambda s: (s.work(f"vocoder.vocoder.{one(s, 'models/vocoder/vocoder/*').name}") / "x.i16").write_text(
            "x", "utf-8"
        ),
        "work/vocoder.vocoder.*",
        "orphaned",
        ("work/vocoder.vocoder.*",),
    ),
}


def old_text(path: Path, up: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x", "utf-8")
    old([path, *path.parents][up])


@pytest.mark.parametrize("name", DAMAGES)
def test_each_damage_is_named_and_mended(whole: Store, name: str) -> None:
    damage, path, kind, taken = DAMAGES[name]
    damage(whole)
    report = inspection.inspect(whole)
    found = [f for f in report.findings if Path(f.path).match(path) and f.kind == kind]
    assert found, report.findings
    assert all(f.sentence for f in report.findings)
    assert report.good == (kind in ("orphaned", "stale"))
    removed = inspection.repair(whole, report)
    for pattern in taken:
        top = [p for p in root_of(whole).glob(pattern) if not listing.TEMPORARY.match(p.name)]
        # The dataset's versions other than the one that was damaged, and the like, do not exist here.
        assert top == [], (pattern, removed)
    if not taken:
        assert removed == []
    else:
        after = inspection.inspect(whole)
        assert after.good, after.findings
        assert inspection.repair(whole, after) == []


def test_what_was_mended_is_made_again(whole: Store) -> None:
    first = whole.record("feature_table")
    assert first is not None
    one(whole, "dataset/shards/*/*.arrow").unlink()
    truncate(features_of(whole, "made-00"))
    inspection.repair(whole, inspection.inspect(whole))
    from melodygan_core import features

    report = features.extract([f"made-{i:02d}" for i in range(9)], whole, FEATURE, SEPARATION)
    assert [o.track_id for o in report.computed] == ["made-00"]
    again = assemble(whole, feature=FEATURE)
    assert again.version == first.version
    whole.write_record(again)
    assert [f for f in inspection.inspect(whole).findings if f.kind != "orphaned"] == []


def test_stems_of_a_wav_that_changed_are_stale_and_so_are_their_features(whole: Store) -> None:
    made = whole.read_json(whole.raw_json("made-01"))
    wav = Path(str(whole.raw_wav("made-01")))
    flip(wav)
    from melodygan_core.storage.store import sha256_of

    whole.write_json(whole.raw_json("made-01"), made | {"sha256": sha256_of(wav)})
    report = inspection.inspect(whole)
    assert {f.path: f.kind for f in report.findings} == {f"stems/{MODEL}/made-01": "stale"}
    assert report.good
    assert inspection.repair(whole, report) == [f"stems/{MODEL}/made-01"]
    # Features stay until there are other stems: what they are of is gone, not changed.
    assert list(kinds(whole).values()) == ["orphaned"]


def test_a_holder_of_the_lock_is_neither_reported_nor_touched(whole: Store) -> None:
    one(whole, "models/dense/gan/*/artifact.json").unlink()
    uri = whole.uri(whole.base / "models/dense/gan" / one(whole, "models/dense/gan/*").name)
    report = inspection.inspect(whole)
    assert not report.good
    with whole.lock(uri):
        busy = inspection.inspect(whole)
        assert busy.busy == 1
        assert uri not in {f.path for f in busy.findings}
        inspection.repair(whole, report)
        assert whole.at(uri).exists()
    assert uri in inspection.repair(whole, report)


def test_temporaries_stay_while_young_or_while_their_writer_may_be_alive(whole: Store) -> None:
    young = root_of(whole) / "raw" / ".0123abcd-made-00.wav"
    young.write_text("x", "utf-8")
    hours = root_of(whole) / "models/dense/gan/.0123abcd-v2"
    hours.mkdir()
    old(hours)
    with whole.lock("models/dense/gan/v2"):
        report = inspection.inspect(whole)
        assert report.findings == ()
        assert inspection.repair(whole, report) == []
    assert young.exists()
    report = inspection.inspect(whole)
    assert [f.path for f in report.findings] == ["models/dense/gan/.0123abcd-v2"]
    assert inspection.repair(whole, report) == ["models/dense/gan/.0123abcd-v2"]
    assert young.exists()


def test_the_state_of_a_killed_training_is_kept(whole: Store) -> None:
    state = whole.work("dense.gan.0123456789ab") / "state.pt"
    state.write_text("x", "utf-8")
    old(state.parent)
    report = inspection.inspect(whole)
    assert report.findings == ()
    inspection.repair(whole, report)
    assert state.exists()


def test_quick_sees_what_is_missing_and_not_what_has_changed(whole: Store) -> None:
    flip(one(whole, RAW))
    assert kinds(whole, hashes=False) == {}
    assert kinds(whole) == {RAW: "mismatch"}
    truncate(one(whole, f"{STEMS}/vocals.wav"))
    assert kinds(whole, hashes=False) == {f"{STEMS}/vocals.wav": "mismatch"}


def test_an_older_version_of_the_dataset_is_superseded_and_kept(store: Store) -> None:
    put_tracks(store, [f"t{i}" for i in range(8)])
    first = assemble(store)
    store.write_record(first)
    put_features(store, "t8")
    from melodygan_core.catalogue.tracks import save

    save(store, [track(f"t{i}") for i in range(9)])
    second = assemble(store)
    store.write_record(second)
    assert kinds(store)[first.uri] == "superseded"
    assert second.uri not in kinds(store)
    inspection.repair(store, inspection.inspect(store))
    assert (store.at(first.uri) / "artifact.json").exists()


def test_an_object_store_is_inspected_and_mended(whole: Store) -> None:
    remote = Store("memory://inspected")
    remote.base.fs.put(str(root_of(whole)) + "/", remote.base.path, recursive=True)
    try:
        assert inspection.inspect(remote).findings == ()
        remote.raw_wav("made-00").unlink()
        (remote.stems(MODEL, "made-01") / "stems.json").unlink()
        report = inspection.inspect(remote)
        assert {f.path: f.kind for f in report.of("torn")} == {
            "raw/made-00.json": "torn",
            f"stems/{MODEL}/made-01": "torn",
        }
        inspection.repair(remote, report)
        assert not remote.raw_json("made-00").exists()
        assert not remote.stems(MODEL, "made-01").exists()
        assert inspection.inspect(remote).good
    finally:
        remote.base.fs.rm(remote.base.path, recursive=True)
        shutil.rmtree(remote.work_base, ignore_errors=True)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    store = Store(str(tmp_path_factory.mktemp("small") / "store"))
    put_tracks(store, [f"t{i}" for i in range(6)])
    store.write_record(assemble(store, DatasetConfig()))
    yield root_of(store)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_bytes_a_file_holds_the_inspection_ends_and_mending_settles(
    small: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("copy") / "store"
    shutil.copytree(small, root)
    store = Store(str(root))
    paths = sorted(p for p in root.rglob("*") if p.is_file() and "work" not in p.parts)
    path = data.draw(st.sampled_from(paths))
    path.write_bytes(data.draw(st.one_of(st.binary(max_size=64), st.just(path.read_bytes()[:-9]))))
    report = inspection.inspect(store)
    inspection.repair(store, report)
    # What is mended once needs no second time.
    assert inspection.repair(store, inspection.inspect(store)) == []


@pytest.mark.parametrize(
    ("uri", "lock"),
    [
        ("raw/a.wav", "raw/a"),
        ("raw/.0123abcd-a.error.json", "raw/a"),
        ("stems/m/a/vocals.wav", "stems/m/a"),
        ("stems/m/.0123abcd-a/vocals.wav", "stems/m/a"),
        ("features/f/a.parquet", "features/f/a.parquet"),
        ("dataset/shards/d/x.arrow", "dataset"),
        ("dataset/splits.json", "dataset"),
        ("dataset/v/tracks.parquet", "dataset/v"),
        ("models/dense/gan/.0123abcd-v/weights.safetensors", "models/dense/gan/v"),
        ("releases/dense/v/gan/config.json", "releases/dense/v"),
        ("gallery/v/index.html", "gallery/v"),
        ("catalogue.parquet", "catalogue"),
        ("forgotten.json", "catalogue"),
    ],
)
def test_the_lock_of_a_path_is_the_one_that_its_stage_takes(uri: str, lock: str) -> None:
    assert listing.lock_name(uri) == lock
