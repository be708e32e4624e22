"""Results that several workers of a test run share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import make_once


def test_a_shared_result_is_made_once(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> None:
    calls: list[Path] = []

    def make(folder: Path) -> dict[str, Path]:
        calls.append(folder)
        (folder / "file").write_text("made", "utf-8")
        return {"folder": folder}

    name = f"once-{request.node.name}"
    first, second = (make_once(tmp_path_factory, name, make) for _ in range(2))
    assert first == second == {"folder": calls[0]}
    assert len(calls) == 1
    assert (second["folder"] / "file").read_text("utf-8") == "made"


def test_a_result_that_could_not_be_made_is_made_again_in_an_empty_folder(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> None:
    def fail(folder: Path) -> str:
        (folder / "half").touch()
        raise ValueError("no result")

    name = f"failing-{request.node.name}"
    with pytest.raises(ValueError, match="no result"):
        make_once(tmp_path_factory, name, fail)
    assert make_once(tmp_path_factory, name, lambda folder: sorted(folder.iterdir())) == []
