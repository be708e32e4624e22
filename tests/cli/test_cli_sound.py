"""`melodygan generate`, `reconstruct`, `interpolate`, `transfer` and `augment` as a user meets them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from melodygan_core.cli import with_release
from tests.cli.conftest import Melodygan

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SHORT = ("--count", 1, "--seconds", 0.5, "--vocoder", "griffin_lim", "--device", "cpu")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_every_command_makes_files_and_prints_them(
    temporal_folder: Path, sounds: list[str], tmp_path: Path, melodygan: Melodygan
) -> None:
    release, out = temporal_folder, tmp_path / "out"
    made = {
        name: melodygan(*arguments, "--out", out / name, "--device", "cpu")
        for name, arguments in {
            "sample-000": ("generate", release, "--count", 1, "--seconds", 1, "--vocoder", "neural"),
            "a-reconstructed": ("reconstruct", release, sounds[0]),
            "interpolation-01": ("interpolate", release, *sounds, "--steps", 2),
            "a-as-b": ("transfer", release, sounds[0], "--style", sounds[1]),
            "a-as-slow": ("transfer", release, sounds[0], "--style-tag", "slow", "--strength", 0.5),
        }.items()
    }
    for name, result in made.items():
        assert result.exit_code == 0, result.output
        printed = result.stdout.splitlines()
        assert printed[-1] == "Licences of the training tracks: CC0-1.0"
        assert printed[-2].startswith(f"{out / name / name}.wav  ")
        assert (out / name / f"{name}.wav").is_file() and (out / name / f"{name}.json").is_file()
    assert "chroma_correlation" in made["a-as-b"].output
    assert "style_distance_after" in made["a-as-b"].output
    facts = json.loads((out / "sample-000" / "sample-000.json").read_text("utf-8"))
    assert facts["generation"]["duration_s"] == 1
    assert facts["pipeline"] == "temporal_gan"


def test_every_command_of_a_flow_makes_files_and_prints_them(
    flow_folder: Path, sounds: list[str], tmp_path: Path, melodygan: Melodygan
) -> None:
    release, out = flow_folder, tmp_path / "out"
    shared = ("--device", "cpu", "--vocoder", "griffin_lim")
    for name, arguments in {
        "a-continued-00": ("continue", release, sounds[0], "--seconds", 0.5),
        "a-inpainted-00": ("inpaint", release, sounds[0], "--from", 0.4, "--to", 0.6, "--condition", "slow"),
        "loop-00": ("loop", release, "--bars", 1, "--tempo", 200, "--guidance", 2, "--condition", "slow"),
        "a-variation-00": ("variations", release, sounds[0], "--strength", 0.3, "--steps", 2),
        "a-as-slow": ("transfer", release, sounds[0], "--style-tag", "slow", "--method", "flow"),
        "a-as-b": (
            "transfer",
            release,
            sounds[0],
            "--style",
            sounds[1],
            "--method",
            "flow",
            "--keep-melody",
            2,
            "--style-weight",
            0.5,
        ),
    }.items():
        result = melodygan(*arguments, "--out", out / name, *shared)
        assert result.exit_code == 0, result.output
        assert result.stdout.splitlines()[-2].startswith(f"{out / name / name}.wav  ")
        assert (out / name / f"{name}.json").is_file()
    refused = melodygan("loop", release, "--seconds", 1, "--condition", "loud", *shared)
    assert refused.exit_code == 2
    assert "--condition must be fast, minor, slow, got 'loud'" in refused.stderr


def test_every_call_without_out_has_a_folder_of_its_own(temporal_folder: Path, melodygan: Melodygan) -> None:
    before: dict[str, bytes] = {}
    for folder in ("samples", "samples-2", "samples-3"):
        result = melodygan("generate", temporal_folder, *SHORT)
        assert result.exit_code == 0, result.output
        assert result.stdout.startswith(f"{Path(folder) / 'sample-000.wav'}  ")
        now = contents(Path.cwd())
        assert before.items() <= now.items()
        before = now


def test_a_folder_with_something_in_it_is_refused_and_stays(
    temporal_folder: Path, tmp_path: Path, melodygan: Melodygan
) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "take-1.wav").write_bytes(b"my own")
    arguments = ("generate", temporal_folder, *SHORT, "--out", out)
    refused = melodygan(*arguments)
    assert refused.exit_code == 2
    assert refused.stderr.startswith("Error: --out must be a new or empty folder (or set `--overwrite`), got")
    # Nothing says that a service made it: it is not overwritten either.
    refused = melodygan(*arguments, "--overwrite")
    assert refused.exit_code == 2
    assert "'take-1.wav'" in refused.stderr
    assert contents(out) == {"take-1.wav": b"my own"}


def test_overwrite_replaces_what_an_earlier_call_wrote(
    temporal_folder: Path, tmp_path: Path, melodygan: Melodygan
) -> None:
    arguments = ("generate", temporal_folder, *SHORT, "--out", tmp_path / "out")
    assert melodygan(*arguments, "--count", 2).exit_code == 0
    first = contents(tmp_path / "out")
    assert "sample-001.wav" in first
    again = melodygan(*arguments, "--seed", 1, "--overwrite")
    assert again.exit_code == 0, again.output
    second = contents(tmp_path / "out")
    assert "sample-001.wav" not in second
    assert second["sample-000.wav"] != first["sample-000.wav"]
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


WRONG = [
    (("generate", "{release}", "--seed", "-1"), "--seed must be 0 to 2147483647, got -1"),
    (("generate", "{release}", "--count", "0"), "--count must be 1 to 10000, got 0"),
    (("generate", "{release}", "--count", "10001"), "--count must be 1 to 10000, got 10001"),
    (("generate", "{release}", "--count", "x"), "--count must be an integer, 1 to 10000, got 'x'"),
    (("generate", "{release}", "--count", "1.5"), "--count must be an integer, 1 to 10000, got '1.5'"),
    (("generate", "{release}", "--seconds", "0"), "--seconds must be above 0 and at most 3600, got 0.0"),
    (("generate", "{release}", "--seconds", "3601"), "--seconds must be above 0 and at most 3600, got 3601.0"),
    (("generate", "{release}", "--seconds", "nan"), "--seconds must be above 0 and at most 3600, got nan"),
    (("generate", "{release}", "--truncation", "0.1"), "--truncation must be 0, or 0.5 to 100, got 0.1"),
    (
        ("generate", "{release}", "--vocoder", "loud"),
        "--vocoder must be neural, griffin_lim, flow, got 'loud'",
    ),
    (
        ("generate", "{release}", "--device", "tpu"),
        "--device must be auto, cpu, cuda, mps, got 'tpu'",
    ),
    (("generate", "{release}", "--condition", "x"), "--condition must be empty"),
    (("generate", "{release}", "--out", "{file}"), "--out must be a folder, got"),
    (("generate", "{release}", "--out", "{file}/below"), "--out must be in a folder that can be written"),
    (("generate", "{release}", "--out", "."), "--out must be a folder other than the current one"),
    (("generate", "{release}", "--overwrite"), "--overwrite needs --out"),
    (("generate", "nowhere"), "release must be a release folder"),
    (("generate", "{empty}"), "release must be a release folder"),
    (("generate", "s3://bucket/thing"), "release must be a release folder"),
    (("reconstruct", "{empty}", "{sound}"), "release must be a release folder"),
    (("reconstruct", "{release}", "nowhere.wav"), "File 'nowhere.wav' does not exist"),
    (
        ("interpolate", "{release}", "{sound}", "{sound}", "--steps", "1"),
        "--steps must be 2 to 100, got 1",
    ),
    (
        ("interpolate", "{release}", "{sound}", "{sound}", "--steps", "101"),
        "--steps must be 2 to 100, got 101",
    ),
    (
        ("transfer", "{release}", "{sound}", "--style-tag", "loud"),
        "--style-tag must be all, mix, fast, minor",
    ),
    (
        ("transfer", "{release}", "{sound}"),
        "exactly one of `--style` and `--style-tag` must be given, got '' and ''",
    ),
    (
        ("transfer", "{release}", "{sound}", "--style", "{sound}", "--style-tag", "slow"),
        "exactly one of `--style` and `--style-tag` must be given, got",
    ),
    (
        ("transfer", "{release}", "{sound}", "--style-tag", "slow", "--strength", "1.5"),
        "--strength must be 0 to 1, got 1.5",
    ),
    (
        ("transfer", "{release}", "{sound}", "--style-tag", "slow", "--method", "mix"),
        "--method must be auto, eq or flow, got 'mix'",
    ),
    (
        ("transfer", "{release}", "{sound}", "--style-tag", "slow", "--keep-melody", "11"),
        "--keep-melody must be 0 to 10, got 11.0",
    ),
    (
        ("transfer", "{release}", "{sound}", "--style-tag", "slow", "--style-weight", "-1"),
        "--style-weight must be 0 to 10, got -1.0",
    ),
    (
        ("generate", "{release}", "--steps", "1001"),
        "--steps must be 0 to 1000, got 1001",
    ),
    (
        ("continue", "{release}", "{sound}", "--seconds", "2"),
        "release must be of a pipeline that can continue, such as temporal_flow",
    ),
    (
        ("inpaint", "{release}", "{sound}", "--from", "2", "--to", "1"),
        "--to must be above `--from` = 2, got 1",
    ),
    (("inpaint", "{release}", "{sound}", "--from", "2"), "Missing option '--to'"),
    (
        ("loop", "{release}", "--bars", "4", "--seconds", "3"),
        "exactly one of `--seconds` and `--bars` must be above 0, got 3 and 4",
    ),
    (("loop", "{release}", "--bars", "4"), "release must be of a pipeline that can loop"),
    (
        ("variations", "{release}", "{sound}", "--strength", "2"),
        "--strength must be 0 to 1, got 2.0",
    ),
    (("augment", "{release}", "{set}", "--copies", "0"), "--copies must be 1 to 1000, got 0"),
    (
        ("augment", "{release}", "{set}", "--rights", "mine"),
        "--rights must be own, licensed, open or unknown, got 'mine'",
    ),
    (
        ("augment", "{release}", "{set}", "--out", "{set}/x"),
        "--out must be a new or empty folder or one",
    ),
    (("augment", "{release}", "{set}", "--out", "{set}/new"), "--out must be a folder outside of"),
    (("augment", "{release}", "{empty}"), "must have a sound"),
    (("augment", "{empty}", "{set}"), "release must be a release folder"),
]


def test_wrong_values_are_one_sentence_before_torch_is_imported(
    temporal_folder: Path, sounds: list[str], tmp_path: Path
) -> None:
    """In one process, which imports torch at the first value that is not refused in time."""
    (tmp_path / "empty").mkdir()
    known = {
        "release": temporal_folder,
        "sound": sounds[0],
        "file": sounds[0],
        "set": tmp_path / "set",
        "empty": tmp_path / "empty",
    }
    calls = [[a.format(**known) for a in arguments] for arguments, _ in WRONG]
    code = (
        "import json, sys\nfrom click.testing import CliRunner\nfrom melodygan_core.cli import main\n"
        "for call in json.loads(sys.argv[1]):\n"
        "    done = CliRunner().invoke(main, call)\n"
        "    print(json.dumps([done.exit_code, done.stdout, done.stderr, 'torch' in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(calls)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    for (arguments, message), (status, out, err, torch) in zip(WRONG, results, strict=True):
        assert (status, out) == (2, ""), (arguments, err)
        [*usage, sentence] = err.splitlines()
        assert sentence.startswith("Error: ") and message in sentence, arguments
        assert not usage or usage[0].startswith("Usage: ")
        assert not torch, arguments
    # Nothing was written.
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "release", "set"]


def test_a_file_without_sound_is_one_sentence_and_leaves_nothing(
    temporal_folder: Path, melodygan: Melodygan
) -> None:
    result = melodygan("reconstruct", temporal_folder, temporal_folder / "styles.json", "--device", "cpu")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ") and "no audio that ffmpeg can read" in result.stderr
    assert list(Path.cwd().iterdir()) == []


def test_a_piece_of_no_sample_is_an_error(temporal_folder: Path, melodygan: Melodygan) -> None:
    result = melodygan("generate", temporal_folder, *SHORT, "--seconds", "1e-9")
    assert result.exit_code == 2
    assert "--seconds must be" in result.stderr
    assert list(Path.cwd().iterdir()) == []


def test_a_damaged_release_is_one_sentence(temporal_folder: Path, melodygan: Melodygan) -> None:
    [weights] = (temporal_folder / "prior").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    result = melodygan("generate", temporal_folder, *SHORT)
    assert result.exit_code == 2
    assert "SHA-256" in result.stderr
    assert list(Path.cwd().iterdir()) == []


def test_a_hostile_manifest_is_left_to_the_loader(temporal_folder: Path, melodygan: Melodygan) -> None:
    """The check of a condition reads no file outside of the release, and never fails by itself."""
    manifest = temporal_folder / "manifest.json"
    (temporal_folder / "artifact.json").unlink()
    values = json.loads(manifest.read_text("utf-8"))
    for path in ("../..", "/etc", 7, ""):
        values["components"]["prior"]["path"] = path
        manifest.write_text(json.dumps(values), "utf-8")
        result = melodygan("generate", temporal_folder, *SHORT, "--condition", "x")
        assert result.exit_code == 2
        assert "path of prior" in result.stderr
    for text in ("[", "[]", '{"components": 1}'):
        manifest.write_text(text, "utf-8")
        result = melodygan("generate", temporal_folder, *SHORT, "--condition", "x")
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)


def test_loading_is_announced_if_it_is_slow(
    temporal_folder: Path, melodygan: Melodygan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(with_release, "SLOW_S", 0.0)
    slow = melodygan("generate", temporal_folder, *SHORT)
    assert f"Loading {temporal_folder} ..." in slow.stderr
    monkeypatch.setattr(with_release, "SLOW_S", 600.0)
    fast = melodygan("generate", temporal_folder, *SHORT)
    assert fast.exit_code == 0
    assert "Loading" not in fast.stderr


def test_progress_of_long_work_is_drawn_on_stderr(
    temporal_folder: Path,
    sounds: list[str],
    tmp_path: Path,
    melodygan: Melodygan,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = {
        "generate": ("generate", temporal_folder, *SHORT, "--count", 3),
        "interpolate": ("interpolate", temporal_folder, *sounds, "--steps", 2),
        "augment": ("augment", temporal_folder, tmp_path / "set", "--copies", 1),
    }
    monkeypatch.setattr(with_release, "SLOW_S", 600.0)
    monkeypatch.setattr(with_release, "DRAWN_S", 600.0)
    for name, arguments in calls.items():
        quick = melodygan(*arguments, "--out", tmp_path / "quick" / name)
        assert (quick.exit_code, quick.stderr) == (0, "")
    monkeypatch.setattr(with_release, "DRAWN_S", 0.0)
    for name, arguments in calls.items():
        long = melodygan(*arguments, "--out", tmp_path / "long" / name)
        assert long.exit_code == 0
        assert f"{name}: 100%" in long.stderr and f"{name}: " not in long.stdout


def test_a_finished_announcement_is_not_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(with_release, "SLOW_S", 0.05)
    with with_release._announced("Loading"):
        pass
    time.sleep(0.2)
    assert capsys.readouterr().err == ""


def test_augment_continues_and_its_status_says_whether_all_sounds_were_varied(
    temporal_folder: Path, sounds: list[str], tmp_path: Path, melodygan: Melodygan
) -> None:
    arguments = ("augment", temporal_folder, tmp_path / "set", "--copies", 1, "--device", "cpu")
    assert "2 variations, 2 of them new" in melodygan(*arguments).output
    again = melodygan(*arguments)
    assert (again.exit_code, again.stdout.splitlines()[0]) == (
        0,
        f"{Path('augmented') / 'metadata.csv'}  2 variations, 0 of them new",
    )
    (tmp_path / "set" / "x" / "bad.mp3").write_bytes(b"no sound")
    result = melodygan(*arguments)
    assert result.exit_code == 1
    assert "x/bad.mp3: " in result.stderr
    assert "2 variations, 0 of them new" in result.stdout
    inside = melodygan(*arguments, "--out", tmp_path / "set" / "more")
    assert inside.exit_code == 2
    assert "outside" in inside.stderr
