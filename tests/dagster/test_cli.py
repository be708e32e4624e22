"""The command line as a user meets it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from melodygan_core.config import DatasetConfig
from melodygan_core.demo import server
from melodygan_core.errors import InputError
from melodygan_core.storage.store import Store
from melodygan_dagster import cli
from melodygan_dagster.cli import graph
from melodygan_dagster.deployment import Deployment
from melodygan_dagster.partitions import TRACKS
from tests.core.made import assemble, put_tracks


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> list[Deployment]:
    """What `run` would have run."""
    seen: list[Deployment] = []

    def remember(deployment: Deployment) -> bool:
        seen.append(deployment)
        return True

    monkeypatch.setattr(graph, "_run", remember)
    return seen


def test_the_environment_is_the_default_and_an_option_wins(
    deployed: list[Deployment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = tmp_path / "list.txt"
    sources.write_text("https://music.example/a.mp3\n", "utf-8")
    monkeypatch.setenv("MELODYGAN_SOURCES", str(sources))
    monkeypatch.setenv("MELODYGAN_PRESET", "base")
    monkeypatch.setenv("MELODYGAN_SEPARATION_MODEL", "centre")
    monkeypatch.setenv("MELODYGAN_TRAIN_ON_UNKNOWN", "1")
    assert CliRunner().invoke(cli.main, ["run"]).exit_code == 0
    assert CliRunner().invoke(cli.main, ["run", "--preset", "demo"]).exit_code == 0
    first, second = deployed
    assert (first.sources, first.preset, first.separation_model) == (sources, "base", "centre")
    assert first.train_on_unknown
    assert second.preset == "demo"


def test_a_demo_does_not_fill_the_instance_that_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "mine"))
    assert graph._demo_deployment(tmp_path / "demo").home == tmp_path / "demo" / "store" / "dagster"


def test_missing_sources_are_one_sentence(deployed: list[Deployment], tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.main, ["run", "--sources", str(tmp_path / "none.yaml")])
    assert result.exit_code == 1
    assert "none.yaml does not exist: put your URLs in it" in result.output
    assert deployed == []


def test_a_wrong_config_is_one_sentence(deployed: list[Deployment], tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("", "utf-8")
    (tmp_path / "c.yaml").write_text("download: {attempts: 0}", "utf-8")
    arguments = ["run", "--sources", str(tmp_path / "s.txt"), "--config", str(tmp_path / "c.yaml")]
    result = CliRunner().invoke(cli.main, arguments)
    assert result.exit_code == 1
    assert "attempts is 0; allowed: 1 to 20" in result.output


def test_a_taken_port_names_itself(tmp_path: Path) -> None:
    with server.serve(tmp_path) as url:
        port = int(url.rsplit(":", 1)[1])
        with pytest.raises(InputError, match=f"port is {port}, taken already"), server.serve(tmp_path, port):
            pass


@pytest.fixture
def filled(store: Store) -> Store:
    """A store with a dataset of nine tracks without sound: their provenance has no wav beside it."""
    put_tracks(store, [f"t{i}" for i in range(9)])
    store.write_record(assemble(store, DatasetConfig(near_duplicates=False)))
    for i in range(9):
        store.raw_json(f"t{i}").unlink()
    return store


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, list(arguments))


def test_the_doctor_says_what_is_torn_and_mends_it(filled: Store) -> None:
    root = ("doctor", "--store", filled.root)
    whole = invoke(*root)
    assert whole.exit_code == 0
    assert "verified, nothing torn or damaged, 9 orphaned" in whole.output
    filled.write_json(filled.raw_json("t1"), {})
    (Path(filled.root) / "dataset" / "report.json").write_text("{", "utf-8")
    torn = invoke(*root, "--quick")
    assert torn.exit_code == 1
    assert "raw/t1.json: there is no raw/t1.wav" in torn.output
    assert "looked through, 1 damaged, 1 torn, 9 orphaned" in torn.output
    mended = invoke(*root, "--repair")
    assert mended.exit_code == 0
    assert "removed: 2" in mended.output
    assert invoke(*root).exit_code == 0


def test_what_the_doctor_cannot_mend_stays_an_error(filled: Store) -> None:
    filled.splits().write_text("{", "utf-8")
    result = invoke("doctor", "--store", filled.root, "--repair")
    assert result.exit_code == 1
    assert "restore it from a backup" in result.output
    assert filled.splits().exists()


def test_the_doctor_of_a_big_store_is_brief(filled: Store) -> None:
    for i in range(60):
        filled.write_json(filled.raw_json(f"x{i}"), {})
    said = invoke("doctor", "--store", filled.root, "--quick").output
    assert "torn: 60" in said
    assert said.count("mending removes it, to fetch it again") == 20
    assert "and 40 more" in said


def test_forget_asks_then_forgets_and_drops_the_partition(
    filled: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", os.environ | {"DAGSTER_HOME": ""})
    arguments = ("forget", "--store", filled.root, "t1", "https://music.example/t2")
    assert CliRunner().invoke(cli.main, list(arguments), input="n\n").exit_code == 1
    assert not filled.forgotten().exists()
    with Deployment(filled.root, tmp_path / "sources.yaml", "test").instance() as instance:
        instance.add_dynamic_partitions(TRACKS, ["t0", "t1"])
    result = CliRunner().invoke(cli.main, list(arguments), input="y\n")
    assert result.exit_code == 0, result.output
    assert "Remove t1, t2 from" in result.output
    assert "1 partitions" in result.output
    with Deployment(filled.root, tmp_path / "sources.yaml", "test").instance() as instance:
        assert list(instance.get_dynamic_partitions(TRACKS)) == ["t0"]
    assert set(filled.read_json(filled.forgotten())) == {"t1", "t2"}
    undone = invoke("forget", "--undo", "--store", filled.root, "t1")
    assert "t1 may be listed and fetched again" in undone.output
    assert set(filled.read_json(filled.forgotten())) == {"t2"}


def test_forget_of_no_track_is_one_sentence(filled: Store) -> None:
    result = invoke("forget", "--yes", "--store", filled.root, "../t1")
    assert result.exit_code == 1
    assert "Error: track is '../t1'; allowed: the track_id or url of one of 9 tracks" in result.output


def test_the_help_says_that_weights_may_remember() -> None:
    assert "WEIGHTS MAY STILL HOLD" in " ".join(invoke("forget", "--help").output.split())


def test_retry_removes_records_of_failures(filled: Store) -> None:
    for name in ("t1", "t2"):
        filled.write_json(filled.raw_error(name), {"reason": "404"})
    assert invoke("retry", "--store", filled.root).exit_code == 2
    assert "t3" in invoke("retry", "--store", filled.root, "t3").output
    assert filled.raw_error("t1").exists()
    assert "t1 will be tried again" in invoke("retry", "--store", filled.root, "t1").output
    assert not filled.raw_error("t1").exists()
    assert invoke("retry", "--store", filled.root, "--all").output == "t2 will be tried again\n"
