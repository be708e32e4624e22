"""`melodygan plan`, and `generate` with what it should play, as a user meets them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from melodygan_core.storage import Store
from tests.cli.conftest import Melodygan

pytestmark = pytest.mark.slow

ABC = "X:1\nM:4/4\nL:1/4\nQ:1/4=150\nK:C\nCDEF|GGGG|\n"
SHORT = ("--count", 1, "--seconds", 1, "--vocoder", "griffin_lim", "--device", "cpu")


def release_of(store: Store) -> Path:
    """The folder of the release that follows plans."""
    record = store.record("temporal_plan/release")
    assert record is not None
    return Path(str(store.at(record.uri)))


def test_the_plan_of_a_track_names_it(plan_store: Store, tmp_path: Path, melodygan: Melodygan) -> None:
    out = tmp_path / "a.parquet"
    result = melodygan("plan", "made-00", "--store", plan_store.root, "--out", out)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{out}  ") and out.with_suffix(".mid").is_file()
    generated = melodygan("generate", release_of(plan_store), *SHORT, "--plan", out, "--out", tmp_path / "out")
    assert generated.exit_code == 0, generated.output
    facts = json.loads((tmp_path / "out" / "sample-000.json").read_text("utf-8"))
    assert facts["plan"]["source"]["track_id"] == "made-00"
    assert facts["plan"]["source"]["url"] == "https://music.example/made-00"
    for arguments, message in (
        (("made-00", "--out", out), "--out must be a new file"),
        (("made-00", "--out", tmp_path / "a.txt"), r"--out must be a file whose name ends in \.parquet"),
        (("nobody", "--out", tmp_path / "b.parquet"), "track must be the track_id or url of one of"),
    ):
        refused = melodygan("plan", *arguments, "--store", plan_store.root)
        assert refused.exit_code == 2 and re.search(message, refused.stderr), refused.stderr


def test_the_command_line_takes_a_plan(
    plan_store: Store, temporal_folder: Path, tmp_path: Path, melodygan: Melodygan
) -> None:
    folder = release_of(plan_store)
    (tmp_path / "tune.abc").write_text(ABC, "utf-8")
    asked = ("--melody", tmp_path / "tune.abc", "--chords", "C G", "--tempo", 90, "--key", "D", "--guidance", 2)
    result = melodygan("generate", folder, *SHORT, *asked, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    facts = json.loads((tmp_path / "out" / "sample-000.json").read_text("utf-8"))
    assert facts["plan"]["given"] == ["harmony", "melody", "metre", "onsets"]
    assert facts["plan"]["tempo_bpm"] == 90 and facts["generation"]["guidance"] == 2
    for release, arguments, message in (
        (folder, ("--chords", "Hm"), "--chords must be a letter A to G"),
        (folder, ("--form", "AABA"), "--form must be given with `--melody`"),
        (folder, ("--tempo", 7), "--tempo must be 0, or 20 to 400, got 7"),
        (folder, ("--key", "x", "--chords", "C"), "--key must be a letter A to G"),
        (temporal_folder, ("--chords", "C"), "can plan, such as temporal_plan"),
    ):
        refused = melodygan("generate", release, *SHORT, *arguments, "--out", tmp_path / "no")
        assert refused.exit_code == 2 and message in refused.stderr, refused.stderr
