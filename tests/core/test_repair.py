"""A repair removes what is damaged or not needed, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from melodygan_core.config import DatasetConfig
from melodygan_core.maintenance.check import check_store
from melodygan_core.maintenance.repair import repair_store
from melodygan_core.storage import Store
from melodygan_core.storage.kinds import TEMPORARY
from tests.core.damages import (
    DAMAGES,
    MODEL,
    features_of,
    flip,
    found_kinds,
    old,
    one,
    root_of,
    truncate,
)
from tests.core.made import FEATURE, SEPARATION, assemble, put_tracks

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_repaired(complete_store: Store, name: str) -> None:
    damage, _, _, taken = DAMAGES[name]
    damage(complete_store)
    removed = repair_store(complete_store, check_store(complete_store))
    for pattern in taken:
        left = [p for p in root_of(complete_store).glob(pattern) if not TEMPORARY.match(p.name)]
        assert left == [], (pattern, removed)
    if not taken:
        assert removed == []
    else:
        after = check_store(complete_store)
        assert after.good, after.findings
        assert repair_store(complete_store, after) == []


def test_next_run_makes_again_what_repair_removed(complete_store: Store) -> None:
    first = complete_store.record("feature_table")
    assert first is not None
    one(complete_store, "dataset/shards/*/*.arrow").unlink()
    truncate(features_of(complete_store, "made-00"))
    repair_store(complete_store, check_store(complete_store))
    from melodygan_core import features

    report = features.extract([f"made-{i:02d}" for i in range(9)], complete_store, FEATURE, SEPARATION)
    assert [o.track_id for o in report.computed] == ["made-00"]
    again = assemble(complete_store, feature=FEATURE)
    assert again.version == first.version
    complete_store.write_record(again)
    assert [f for f in check_store(complete_store).findings if f.kind != "orphaned"] == []


def test_stems_of_a_changed_wav_are_stale(complete_store: Store) -> None:
    made = complete_store.read_json(complete_store.raw_json("made-01"))
    wav = Path(str(complete_store.raw_wav("made-01")))
    flip(wav)
    from melodygan_core.storage.store import sha256_of

    complete_store.write_json(complete_store.raw_json("made-01"), made | {"sha256": sha256_of(wav)})
    report = check_store(complete_store)
    assert {f.path: f.kind for f in report.findings} == {f"stems/{MODEL}/made-01": "stale"}
    assert report.good
    assert repair_store(complete_store, report) == [f"stems/{MODEL}/made-01"]
    # Features stay until there are other stems: their stems are missing, not changed.
    assert list(found_kinds(complete_store).values()) == ["orphaned"]


def test_unfinished_files_stay_while_recent_or_locked(complete_store: Store) -> None:
    young = root_of(complete_store) / "raw" / ".0123abcd-made-00.wav"
    young.write_text("x", "utf-8")
    hours = root_of(complete_store) / "models/dense/gan/.0123abcd-v2"
    hours.mkdir()
    old(hours)
    with complete_store.lock("models/dense/gan/v2"):
        report = check_store(complete_store)
        assert report.findings == ()
        assert repair_store(complete_store, report) == []
    assert young.exists()
    report = check_store(complete_store)
    assert [f.path for f in report.findings] == ["models/dense/gan/.0123abcd-v2"]
    assert repair_store(complete_store, report) == ["models/dense/gan/.0123abcd-v2"]
    assert young.exists()


@pytest.mark.parametrize("name", ["training/dense/gan/0123456789ab", "dense.gan.0123456789ab"])
def test_state_of_an_unfinished_training_is_kept(complete_store: Store, name: str) -> None:
    state = complete_store.work(name) / "state.pt"
    state.write_text("x", "utf-8")
    old(state.parent)
    report = check_store(complete_store)
    assert report.findings == ()
    repair_store(complete_store, report)
    assert state.exists()


def test_object_store_is_checked_and_repaired(complete_store: Store) -> None:
    remote = Store("memory://checked")
    remote.base.fs.put(str(root_of(complete_store)) + "/", remote.base.path, recursive=True)
    try:
        assert check_store(remote).findings == ()
        remote.raw_wav("made-00").unlink()
        (remote.stems(MODEL, "made-01") / "stems.json").unlink()
        report = check_store(remote)
        assert {f.path: f.kind for f in report.of("incomplete")} == {
            "raw/made-00.json": "incomplete",
            f"stems/{MODEL}/made-01": "incomplete",
        }
        repair_store(remote, report)
        assert not remote.raw_json("made-00").exists()
        assert not remote.stems(MODEL, "made-01").exists()
        assert check_store(remote).good
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
def test_check_and_repair_survive_arbitrary_bytes_in_a_file(
    small: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("copy") / "store"
    shutil.copytree(small, root)
    store = Store(str(root))
    paths = sorted(p for p in root.rglob("*") if p.is_file() and "work" not in p.parts)
    path = data.draw(st.sampled_from(paths))
    path.write_bytes(data.draw(st.one_of(st.binary(max_size=64), st.just(path.read_bytes()[:-9]))))
    report = check_store(store)
    repair_store(store, report)
    # A second repair finds nothing to do.
    assert repair_store(store, check_store(store)) == []
