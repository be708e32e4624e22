"""`melodygan studio` and `melodygan ui` open one server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from melodygan_dagster import ui
from melodygan_dagster.cli import graph


@pytest.mark.parametrize(("command", "studio_first"), [(graph.studio, True), (graph.ui, False)])
def test_both_commands_serve_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: Any, studio_first: bool
) -> None:
    called: list[tuple[str, int, tuple[str, ...], bool]] = []

    def serve(deployment: Any, port: int, hosts: tuple[str, ...], *, studio_first: bool) -> None:
        called.append((deployment.store, port, hosts, studio_first))

    monkeypatch.setattr(ui, "serve", serve)
    store = str(tmp_path / "store")
    options = ["--store", store, "--preset", "demo", "--port", "3210", "--allowed-host", "music.example"]
    result = CliRunner().invoke(command, options)
    assert result.exit_code == 0, result.output
    assert called == [(store, 3210, ("music.example",), studio_first)]
    # Of a demo, its own store.
    CliRunner().invoke(command, ["--demo", str(tmp_path / "demo")])
    assert called[1][:2] == (str(tmp_path / "demo" / "store"), 3000)
