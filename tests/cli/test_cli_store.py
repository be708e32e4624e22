"""`melodygan doctor`, `forget` and `retry` as a user meets them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from melodygan_core.config import DatasetConfig
from melodygan_core.maintenance import machine
from melodygan_core.storage import Store
from melodygan_dagster.deployment import Deployment
from melodygan_dagster.partitions import TRACKS
from tests.cli.conftest import Melodygan
from tests.core.made import assemble, put_tracks


@pytest.fixture
def filled(store: Store) -> Store:
    """A store with a dataset of nine tracks without sound: their provenance has no wav beside it."""
    put_tracks(store, [f"t{i}" for i in range(9)])
    store.write_record(assemble(store, DatasetConfig(near_duplicates=False)))
    for i in range(9):
        store.raw_json(f"t{i}").unlink()
    return store


def test_doctor_reports_what_is_incomplete_and_repairs_it(filled: Store, melodygan: Melodygan) -> None:
    root = ("doctor", "--store", filled.root)
    good = melodygan(*root)
    assert good.exit_code == 0, good.output
    assert "verified, nothing incomplete or damaged, 9 orphaned" in good.output
    filled.write_json(filled.raw_json("t1"), {})
    (Path(filled.root) / "dataset" / "report.json").write_text("{", "utf-8")
    incomplete = melodygan(*root, "--quick")
    assert incomplete.exit_code == 1
    assert "raw/t1.json: " in incomplete.output
    assert "checked without hashes, 1 damaged, 1 incomplete, 9 orphaned" in incomplete.output
    repaired = melodygan(*root, "--repair")
    assert repaired.exit_code == 0, repaired.output
    assert "removed: 2" in repaired.output
    assert melodygan(*root).exit_code == 0


def test_what_doctor_cannot_repair_stays_an_error(filled: Store, melodygan: Melodygan) -> None:
    filled.splits().write_text("{", "utf-8")
    result = melodygan("doctor", "--store", filled.root, "--repair")
    assert result.exit_code == 1
    assert "restore it from a backup" in result.output
    assert filled.splits().exists()


def test_doctor_of_a_big_store_is_brief(filled: Store, melodygan: Melodygan) -> None:
    for i in range(60):
        filled.write_json(filled.raw_json(f"x{i}"), {})
    printed = melodygan("doctor", "--store", filled.root, "--quick").output
    assert "incomplete: 60" in printed
    assert sum(line.startswith("  raw/x") for line in printed.splitlines()) == 20
    assert "and 40 more" in printed


def test_doctor_of_a_named_store_that_does_not_exist_is_an_error(
    tmp_path: Path, melodygan: Melodygan, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = tmp_path / "nowhere"
    result = melodygan("doctor", "--store", missing)
    assert (result.exit_code, result.stdout) == (2, "")
    assert (
        result.stderr.startswith("Error: --store must be an existing folder") and str(missing) in result.stderr
    )
    monkeypatch.setenv("MELODYGAN_STORE", str(missing))
    assert melodygan("doctor").exit_code == 2
    monkeypatch.delenv("MELODYGAN_STORE")
    # Before the first run there is no store at the default place; the machine is checked all the same.
    first = melodygan("doctor")
    assert first.exit_code == 0, first.output
    assert "data: does not exist yet; the first run creates it" in first.output
    assert not missing.exists() and list(Path.cwd().iterdir()) == []


def test_doctor_without_something_that_is_needed_fails(
    filled: Store, melodygan: Melodygan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_ffmpeg", lambda: machine.Finding("ffmpeg", "not found", good=False))
    result = melodygan("doctor", "--store", filled.root, "--quick")
    assert result.exit_code == 1
    assert "missing ffmpeg: not found" in result.output


def test_doctor_names_a_missing_ray_and_what_to_install(
    filled: Store, melodygan: Melodygan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MELODYGAN_RAY", "local")
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda name: None)
    result = melodygan("doctor", "--store", filled.root, "--quick")
    assert result.exit_code == 1
    assert "ray, dagster_ray not installed, but MELODYGAN_RAY is 'local'" in result.output


@pytest.fixture
def deployed(filled: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """The deployment of the store, with two partitions in its Dagster instance."""
    monkeypatch.setattr(os, "environ", os.environ | {"DAGSTER_HOME": ""})
    made = Deployment(filled.root, tmp_path / "sources.yaml", "test")
    with made.instance() as instance:
        instance.add_dynamic_partitions(TRACKS, ["t0", "t1"])
    return made


def test_forget_asks_says_what_can_be_undone_and_drops_the_partition(
    filled: Store, deployed: Deployment, melodygan: Melodygan
) -> None:
    arguments = ("forget", "--store", filled.root, "t1", "https://music.example/t2")
    refused = melodygan(*arguments, input="n\n")
    assert refused.exit_code == 1
    assert not filled.forgotten().exists()
    assert "Remove t1, t2 from" in refused.output
    assert "Gone for good: raw wavs, stems, features" in refused.output
    assert "--undo` restores no file: it only lets the next run fetch them again" in refused.output
    result = melodygan(*arguments, input="y\n")
    assert result.exit_code == 0, result.output
    assert "forgotten: t1, t2; gone for good: " in result.output
    assert result.output.count("--undo` restores no file") == 2
    assert "1 partition removed" in result.output
    with deployed.instance() as instance:
        assert list(instance.get_dynamic_partitions(TRACKS)) == ["t0"]
    assert set(filled.read_json(filled.forgotten())) == {"t1", "t2"}
    undone = melodygan("forget", "--undo", "--store", filled.root, "t1")
    assert "t1 may be listed and fetched again by the next run; its files stay removed" in undone.output
    assert set(filled.read_json(filled.forgotten())) == {"t2"}


def test_forget_without_dagster_removes_nothing_of_a_deployment_that_has_partitions(
    filled: Store, deployed: Deployment, melodygan: Melodygan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "dagster", None)
    result = melodygan("forget", "--yes", "--store", filled.root, "t1")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: `melodygan forget` needs the extra dagster")
    assert not filled.forgotten().exists()


def test_forget_of_no_track_is_one_sentence(filled: Store, tmp_path: Path, melodygan: Melodygan) -> None:
    result = melodygan("forget", "--yes", "--store", filled.root, "../t1")
    assert result.exit_code == 2
    assert "track must be the track_id or url of one of 9 tracks, got '../t1'" in result.stderr
    result = melodygan("forget", "--yes", "--store", tmp_path / "nowhere", "t1")
    assert result.exit_code == 2
    assert "--store must be an existing folder" in result.stderr
    assert not (tmp_path / "nowhere").exists()


def test_the_help_says_that_weights_may_remember(melodygan: Melodygan) -> None:
    assert "WEIGHTS MAY STILL HOLD" in " ".join(melodygan("forget", "--help").output.split())


def test_retry_removes_records_of_failures(filled: Store, tmp_path: Path, melodygan: Melodygan) -> None:
    for name in ("t1", "t2"):
        filled.write_json(filled.raw_error(name), {"reason": "404"})
    assert melodygan("retry", "--store", filled.root).exit_code == 2
    wrong = melodygan("retry", "--store", filled.root, "t3")
    assert (wrong.exit_code, "t3" in wrong.stderr) == (2, True)
    assert filled.raw_error("t1").exists()
    assert melodygan("retry", "--store", filled.root, "t1").output == "t1 will be tried again\n"
    assert not filled.raw_error("t1").exists()
    assert melodygan("retry", "--store", filled.root, "--all").output == "t2 will be tried again\n"
    assert melodygan("retry", "--store", filled.root, "--all").output == "No track has failed for good\n"
    assert melodygan("retry", "--store", tmp_path / "nowhere", "--all").exit_code == 2
