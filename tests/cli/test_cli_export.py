"""`melodygan export`, and the commands that take what it writes or refuse it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Melodygan

pytestmark = pytest.mark.slow


def test_export_and_generate(melodygan: Melodygan, temporal_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "exported"
    done = melodygan("export", temporal_folder, "--onnx", out)
    assert done.exit_code == 0, done.output
    assert "generator.onnx" in done.output and "Licences of the training tracks: CC0-1.0" in done.output
    assert melodygan("generate", out, "--count", 1, "--seconds", 1, "--seed", 3, "--out", "ours").exit_code == 0
    made = melodygan("generate", temporal_folder, "--count", 1, "--seconds", 1, "--seed", 3, "--out", "theirs")
    assert made.exit_code == 0
    ours, theirs = ((Path(name) / "sample-000.json").read_text("utf-8") for name in ("ours", "theirs"))
    assert ours == theirs
    for command, *more in (("generate", "--device", "cuda"), ("generate", "--vocoder", "neural")):
        refused = melodygan(command, out, *more)
        assert refused.exit_code == 2
        assert f"{more[0]} must be" in refused.output
    refused = melodygan("reconstruct", out, temporal_folder / "manifest.json")
    assert refused.exit_code == 2
    assert "one that was exported as ONNX can `generate` and nothing else" in refused.output


def test_a_folder_that_is_not_empty_is_refused(melodygan: Melodygan, temporal_folder: Path) -> None:
    Path("full").mkdir()
    (Path("full") / "mine.txt").write_text("mine")
    refused = melodygan("export", temporal_folder, "--onnx", "full")
    assert refused.exit_code == 2
    assert "--onnx must be a new or empty folder" in refused.output
    assert (Path("full") / "mine.txt").read_text() == "mine"


def test_an_export_needs_a_form(melodygan: Melodygan, temporal_folder: Path) -> None:
    refused = melodygan("export", temporal_folder)
    assert refused.exit_code == 2
    assert "--onnx" in refused.output
