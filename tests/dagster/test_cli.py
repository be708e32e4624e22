"""The command line as a user meets it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from melodygan_core.demo import server
from melodygan_core.errors import InputError
from melodygan_dagster import cli

if TYPE_CHECKING:
    from melodygan_dagster.deployment import Deployment


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> list[Deployment]:
    """What `run` would have run."""
    seen: list[Deployment] = []

    def remember(deployment: Deployment) -> bool:
        seen.append(deployment)
        return True

    monkeypatch.setattr(cli, "_run", remember)
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
    assert cli._demo_deployment(tmp_path / "demo").home == tmp_path / "demo" / "store" / "dagster"


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
