"""A check reports every kind of damage to a store, and nothing in a good one."""

from __future__ import annotations

from pathlib import Path

import pytest

from melodygan_core.errors import InputError
from melodygan_core.maintenance.check import check_store, older_models
from melodygan_core.maintenance.doctor import verify
from melodygan_core.maintenance.repair import repair_store
from melodygan_core.storage import Store, dump_json
from melodygan_core.storage.kinds import UNKNOWN, parse
from tests.core.damages import (
    DAMAGES,
    RAW,
    STEMS,
    flip,
    found_kinds,
    one,
    root_of,
    truncate,
)
from tests.core.made import assemble, put_features, put_tracks, track


def times(store: Store) -> dict[Path, int]:
    """Every file and folder, without scratch, to when it was last written."""
    return {p: p.stat().st_mtime_ns for p in root_of(store).rglob("*") if "work" not in p.parts}


def test_good_store_has_no_findings_and_is_not_touched(complete_store: Store) -> None:
    before = times(complete_store)
    report = check_store(complete_store)
    assert report.findings == ()
    assert report.good
    assert report.files == len([p for p in before if p.is_file()])
    assert report.bytes == sum(p.stat().st_size for p in before if p.is_file())
    assert repair_store(complete_store, report) == []
    assert times(complete_store) == before


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_reported(complete_store: Store, name: str) -> None:
    damage, path, kind, _ = DAMAGES[name]
    damage(complete_store)
    report = check_store(complete_store)
    assert [f for f in report.findings if Path(f.path).match(path) and f.kind == kind], report.findings
    assert all(f.sentence for f in report.findings)
    assert report.good == (kind in ("orphaned", "stale"))


def test_locked_artifact_is_neither_reported_nor_touched(complete_store: Store) -> None:
    one(complete_store, "models/dense/gan/*/artifact.json").unlink()
    uri = f"models/dense/gan/{one(complete_store, 'models/dense/gan/*').name}"
    report = check_store(complete_store)
    assert not report.good
    with complete_store.lock(uri):
        busy = check_store(complete_store)
        assert busy.busy == 1
        assert uri not in {f.path for f in busy.findings}
        repair_store(complete_store, report)
        assert complete_store.at(uri).exists()
    assert uri in repair_store(complete_store, report)


def test_quick_check_finds_missing_but_not_changed_files(complete_store: Store) -> None:
    flip(one(complete_store, RAW))
    assert found_kinds(complete_store, hashes=False) == {}
    assert found_kinds(complete_store) == {RAW: "mismatch"}
    truncate(one(complete_store, f"{STEMS}/vocals.wav"))
    assert found_kinds(complete_store, hashes=False) == {f"{STEMS}/vocals.wav": "mismatch"}


def test_older_version_of_the_dataset_is_superseded_and_kept(store: Store) -> None:
    put_tracks(store, [f"t{i}" for i in range(8)])
    first = assemble(store)
    store.write_record(first)
    put_features(store, "t8")
    from melodygan_core.catalogue.tracks import save

    save(store, [track(f"t{i}") for i in range(9)])
    second = assemble(store)
    store.write_record(second)
    assert found_kinds(store)[first.uri] == "superseded"
    assert second.uri not in found_kinds(store)
    repair_store(store, check_store(store))
    assert (store.at(first.uri) / "artifact.json").exists()


def test_every_file_of_a_store_has_a_declared_kind(complete_store: Store) -> None:
    root = root_of(complete_store)
    uris = [p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()]
    assert len(uris) > 100
    assert [uri for uri in uris if parse(uri).kind is UNKNOWN] == []


def test_missing_store_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"store must be an existing folder.*/nowhere'"):
        check_store(Store(str(tmp_path / "nowhere")))
    with pytest.raises(InputError, match="store must be an existing folder"):
        verify(str(tmp_path / "nowhere"), quick=True, repair=False)
    assert list(tmp_path.iterdir()) == []


# Models of version 0.1.


def put_artifact(store: Store, uri: str, config: dict[str, str] | None = None, **inputs: str) -> None:
    """An artifact folder; models have a config.json."""

    def build(folder: Path) -> dict[str, str]:
        dump_json(folder / "config.json", config or {})
        return {}

    store.get_or_build("x/y", store.at(uri), build, config={}, inputs=inputs)


def test_models_of_version_01_are_reported_in_one_sentence_and_kept(store: Store) -> None:
    for family in ("dense", "temporal"):
        put_artifact(store, f"models/{family}/autoencoder/v", {"family": family})
        put_artifact(store, f"releases/{family}/v")
    put_artifact(store, "models/dense/gan/v", {"family": "dense"})
    put_artifact(
        store, "gallery/v", None, **{"dense/generated_samples": "v", "temporal/generated_samples": "v"}
    )
    before = sorted(root_of(store).rglob("*.json"))
    assert older_models(store) == (
        "3 models, 2 releases, 1 gallery of version 0.1 (families dense, temporal): "
        "train again, or use the releases with `melodygan generate`"
    )
    lines, good = verify(store.root, quick=False, repair=True)
    assert f"superseded: {older_models(store)}" in lines
    assert good
    assert sorted(root_of(store).rglob("*.json")) == before


def test_advice_names_releases_only_where_there_are_some(store: Store) -> None:
    put_artifact(store, "models/temporal/gan/v", {"family": "temporal"})
    assert older_models(store) == "1 model of version 0.1 (family temporal): train again"


def test_later_models_and_vocoders_are_not_reported_as_old(store: Store) -> None:
    put_artifact(store, "models/dense/autoencoder/v", {"codec": "dense"})
    put_artifact(store, "models/dense/latents/v")
    put_artifact(store, "models/vocoder/vocoder/v")
    put_artifact(store, "samples/dense_gan/v")
    put_artifact(store, "releases/dense_gan/v")
    put_artifact(store, "gallery/v", None, **{"dense_gan/generated_samples": "v"})
    (store.base / "models/temporal/gan/v").mkdir(parents=True)
    (store.base / "models/temporal/gan/v/config.json").write_text("{", "utf-8")
    assert older_models(store) == ""
