"""`melodygan generate`, `reconstruct`, `interpolate`, `transfer` and `augment` as a user meets them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from melodygan_core.storage.store import Store
from melodygan_dagster import cli
from tests.core.made_temporal import make_release, put, tone

HEAVY = ("dagster", "torch", "pandas", "pyarrow", "librosa", "numpy")


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release away from its store."""
    root = tmp_path_factory.mktemp("made")
    store = Store(str(root / "store"))
    made = make_release(store)
    shutil.copytree(str(store.at(made.uri)), root / "release")
    return root / "release"


@pytest.fixture
def sounds(tmp_path: Path) -> list[str]:
    made = [tone(1.0, (220.0, 330.0)), tone(0.8, (196.0, 147.0), bright=0.9)]
    return [str(put(tmp_path / "set" / "x" / f"{n}.wav", w)) for n, w in zip("ab", made, strict=True)]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, [str(a) for a in arguments])


def test_every_use_makes_files_and_says_what_they_are(release: Path, sounds: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = [
        invoke("generate", release, "--count", 1, "--seconds", 1, "--vocoder", "neural", "--out", out),
        invoke("reconstruct", release, sounds[0], "--out", out),
        invoke("interpolate", release, *sounds, "--steps", 2, "--out", out),
        invoke("transfer", release, sounds[0], "--style", sounds[1], "--out", out),
        invoke("transfer", release, sounds[0], "--style-tag", "slow", "--strength", 0.5, "--out", out),
    ]
    for result in made:
        assert result.exit_code == 0, result.output
        assert "Licences of what it was trained on: CC0-1.0" in result.output
    assert sorted(p.stem for p in out.glob("*.wav")) == [
        "a-as-b",
        "a-as-slow",
        "a-reconstructed",
        "interpolation-00",
        "interpolation-01",
        "sample-000",
    ]
    assert all(p.with_suffix(".json").is_file() for p in out.glob("*.wav"))
    assert "chroma_correlation" in made[3].output
    assert "style_distance_after" in made[3].output
    told = json.loads((out / "sample-000.json").read_text("utf-8"))
    assert told["generation"]["vocoder"] == "neural"


def test_augment_goes_on_and_its_status_says_whether_all_is_there(
    release: Path, sounds: list[str], tmp_path: Path
) -> None:
    arguments = ("augment", release, tmp_path / "set", "--copies", 1, "--out", tmp_path / "more")
    assert "2 variations, 2 of them new" in invoke(*arguments).output
    assert "2 variations, 0 of them new" in invoke(*arguments).output
    (tmp_path / "set" / "x" / "bad.mp3").write_bytes(b"no sound")
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert "x/bad.mp3: " in result.output
    assert "2 variations, 0 of them new" in result.output


def test_wrong_values_are_one_sentence(release: Path, sounds: list[str], tmp_path: Path) -> None:
    for arguments, message in (
        (
            ("transfer", release, sounds[0], "--style-tag", "loud"),
            "'loud'; allowed: all, mix, fast, minor, slow",
        ),
        (("transfer", release, sounds[0]), "allowed: exactly one of them"),
        (("interpolate", release, *sounds, "--steps", 1), "steps is 1; allowed: 2 to 100"),
        (("generate", release, "--condition", "x"), "condition is 'x'; allowed: none"),
        (("reconstruct", release, release / "styles.json"), "no audio that ffmpeg can read"),
        (("reconstruct", tmp_path, sounds[0]), "no checkpoint: it has no config.json"),
    ):
        result = invoke(*arguments, "--out", tmp_path / "out")
        assert result.exit_code == 1
        assert result.output.startswith("Error: ")
        assert message in result.output
    assert not list((tmp_path / "out").glob("*.wav"))


@pytest.mark.parametrize("name", [c.name for c in cli.USES])
def test_help_is_light(name: str) -> None:
    code = (
        "import sys\nfrom melodygan_dagster.cli import main\n"
        f"main([{name!r}, '--help'], standalone_mode=False)\nassert not set({HEAVY!r}) & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    assert "--out" in done.stdout
