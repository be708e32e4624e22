"""Fixtures of the command line: `melodygan` in this process, with the commands that need Dagster."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from melodygan_dagster.cli import main
from tests.core.conftest import flow_folder, flow_store, plan_store, temporal_folder, temporal_store
from tests.core.made_temporal import put, tone

__all__ = ["flow_folder", "flow_store", "plan_store", "temporal_folder", "temporal_store"]

Melodygan = Callable[..., Result]


@pytest.fixture
def melodygan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Melodygan:
    """Runs a command in an empty current folder; what is not text is made text."""
    folder = tmp_path / "current"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def invoke(*arguments: object, input: str | None = None) -> Result:
        return CliRunner().invoke(main, [str(a) for a in arguments], input=input)

    return invoke


@pytest.fixture
def sounds(tmp_path: Path) -> list[str]:
    """Two sounds in a folder that is their label."""
    made = [tone(1.0, (220.0, 330.0)), tone(0.8, (196.0, 147.0), bright=0.9)]
    return [str(put(tmp_path / "set" / "x" / f"{n}.wav", w)) for n, w in zip("ab", made, strict=True)]
