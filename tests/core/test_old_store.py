"""A store of version 0.1: its tracks, features and dataset are used as they are, and its releases generate."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from melodygan_core import catalogue, dataset, download, features, separation
from melodygan_core.cli import main
from melodygan_core.config import (
    SPLITS,
    STEMS,
    DatasetConfig,
    DownloadConfig,
    SeparationConfig,
    feature_id,
    from_dict,
    stored_features,
)
from melodygan_core.dataset import Dataset
from melodygan_core.errors import InputError
from melodygan_core.maintenance import erasure
from melodygan_core.maintenance.check import check_store
from melodygan_core.parallel import Report
from melodygan_core.storage import Artifact, Store
from tests.contents import traces

DATA = Path(__file__).parents[1] / "data"
CONFIGS: dict[str, dict[str, Any]] = json.loads((DATA / "store-0.1-configs.json").read_text("utf-8"))
DOWNLOAD = from_dict(DownloadConfig, CONFIGS["download"])
SEPARATION = from_dict(SeparationConfig, CONFIGS["separation"])
# Of version 0.1, which had no log bands.
FEATURES = stored_features(CONFIGS["features"])
DATASET = from_dict(DatasetConfig, CONFIGS["dataset"])
TUNES = {
    "generic-tune-0-097f7aa5b8f6",
    "generic-tune-1-27a26c446d71",
    "generic-tune-2-fc6d436f95b7",
    "generic-tune-3-b8ebe4bbdac6",
    "generic-tune-4-bc3484d28306",
    "generic-tune-5-c62c11256071",
}
TOO_SHORT, FORGOTTEN = "generic-short-5166ae19cf0e", "generic-tune-6-bc8ac4feabd8"
# A run writes these again: how many files were read, and the time of each feature file.
REWRITTEN = {"dataset/report.json", "dataset/shards/3ef397c7446b/index.parquet"}


@pytest.fixture
def old(tmp_path: Path) -> Store:
    """A copy of the store, with new times of modification, as after a checkout."""
    root = shutil.copytree(DATA / "store-0.1", tmp_path / "store", copy_function=shutil.copyfile)
    return Store(str(root))


def hashes(store: Store) -> dict[str, str]:
    """URI to hash of every file but scratch."""
    root = Path(store.root)
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    return {
        uri: hashlib.sha256(path.read_bytes()).hexdigest()
        for uri, path in files.items()
        if not uri.startswith("work/")
    }


def record(store: Store, name: str) -> Artifact:
    found = store.record(name)
    assert found is not None
    return found


def test_ids_are_those_of_version_0_1(old: Store) -> None:
    assert {t.track_id for t in catalogue.load(old)} == {*TUNES, TOO_SHORT}
    assert set(catalogue.forgotten(old)) == {FORGOTTEN}
    assert SEPARATION.model_id == "centre-fe61a3"
    assert feature_id(FEATURES, SEPARATION) == "1ec7a1d00f4e"
    assert record(old, "feature_table").version == "63425c516331"


def test_no_stage_computes_a_track_again(old: Store) -> None:
    before = hashes(old)
    ids = [t.track_id for t in catalogue.load(old)]
    fetched = download.fetch(ids, old, DOWNLOAD)
    assert [(o.track_id, o.permanent) for o in fetched.failed] == [(TOO_SHORT, True)]
    found = [o.track_id for o in fetched.good]

    def all_found(report: Report) -> bool:
        return {o.track_id for o in report.good if o.skipped} == TUNES and not report.computed

    assert all_found(fetched)
    assert all_found(separation.separate(found, old, SEPARATION))
    assert all_found(features.extract(found, old, FEATURES, SEPARATION))
    assert hashes(old) == before


def test_the_dataset_is_the_same_version_of_the_same_shards(old: Store) -> None:
    before, in_use = hashes(old), record(old, "feature_table")
    assert dataset.assemble(old, DATASET, FEATURES, SEPARATION) == in_use
    after = hashes(old)
    assert after.keys() == before.keys()
    assert {uri for uri in before if after[uri] != before[uri]} <= REWRITTEN
    opened = Dataset(old, in_use)
    rows = {split: len(opened.rows(split, ("mix",))) for split in SPLITS}
    assert rows == {split: in_use.metrics[f"{split}/segments"] // len(STEMS) for split in SPLITS}


def test_doctor_finds_nothing_wrong_and_names_the_older_models_in_one_sentence(old: Store) -> None:
    result = CliRunner().invoke(main, ["doctor", "--store", old.root])
    assert result.exit_code == 0, result.output
    assert "nothing incomplete or damaged" in result.output
    [line] = [line for line in result.stdout.splitlines() if "0.1" in line]
    assert line == (
        "superseded: 4 models, 1 release, 2 evaluations, 2 sets of samples of version 0.1 (families dense, "
        "temporal): train again, or use the releases with `melodygan generate`"
    )


def test_repair_removes_nothing(old: Store) -> None:
    before = hashes(old)
    result = CliRunner().invoke(main, ["doctor", "--store", old.root, "--repair"])
    assert result.exit_code == 0, result.output
    assert hashes(old) == before


@pytest.mark.parametrize("vocoder", ["neural", "griffin_lim"])
def test_its_release_generates(old: Store, tmp_path: Path, vocoder: str) -> None:
    folder, out = old.at(record(old, "temporal/release").uri), tmp_path / "out"
    options = ["--count", "1", "--seconds", "0.5", "--vocoder", vocoder, "--out", str(out)]
    result = CliRunner().invoke(main, ["generate", str(folder), *options])
    assert result.exit_code == 0, result.output
    stored = json.loads((out / "sample-000.json").read_text("utf-8"))
    assert stored["pipeline"] == "temporal_gan" and stored["release"] == "f178c37e0c3f"
    assert (out / "sample-000.wav").stat().st_size > 2 * 0.5 * FEATURES.sample_rate


def test_a_track_is_erased_from_it(old: Store, tmp_path: Path) -> None:
    track_id = "generic-tune-0-097f7aa5b8f6"
    report = erasure.forget(old, [track_id])
    assert report.track_ids == [track_id]
    assert traces(old, track_id) == []
    assert not check_store(old).of("damaged", "incomplete", "mismatch", "missing")
    # Weights may hold what was learned: every model that was trained on it is kept and listed.
    assert {mark.name for mark in report.marks} == {
        "vocoder_checkpoint",
        *(
            f"{family}/{name}"
            for family in ("dense", "temporal")
            for name in ("autoencoder_checkpoint", "gan_checkpoint", "generated_samples", "evaluation")
        ),
        "temporal/release",
    }
    folder, out = old.at(record(old, "temporal/release").uri), tmp_path / "out"
    options = ["--count", "1", "--seconds", "0.5", "--out", str(out)]
    result = CliRunner().invoke(main, ["generate", str(folder), *options])
    assert result.exit_code == 0 and f"trained on {track_id}, forgotten since" in result.output
    # The other five are found, and are one too few.
    with pytest.raises(InputError, match="of 5 that may be trained on"):
        dataset.assemble(old, DATASET, FEATURES, SEPARATION)
