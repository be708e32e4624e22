"""No command prints what a terminal would obey, whatever releases, titles, tags and files are called."""

from __future__ import annotations

import io
import json
import re
import sys
import unicodedata
from contextlib import redirect_stderr
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from melodygan_core import errors
from melodygan_core.catalogue.tracks import save
from melodygan_core.cli import terminal
from melodygan_core.progress import ProgressEvent, drawn
from melodygan_core.storage import ARTIFACT_FILE, Store
from melodygan_core.text import plain_text, terminal_text
from melodygan_dagster import reporting
from melodygan_dagster.cli import main, summary
from melodygan_dagster.runner import StageResult
from tests.core.made import track
from tests.core.made_temporal import put, tone

pytestmark = pytest.mark.slow

# Clears the screen, sets the window's title, colours by C1, moves, turns text round, forges lines.
EVIL = "\x1b[2J\x1b]0;owned\x07\x9b31m\x1bc\b\b\u202egnp\u2066\u2028x\r\nError: forged\ta\x00\ue000\ud800"
# As a file name: no slash, no NUL, no lone surrogate.
FILE_NAME = "\x1b[2J\x1b]0;owned\x07\x9b31m\b\u202egnp\r\nforged"
SHORT = ("--count", "1", "--seconds", "0.2")
# Colours that a command gives its own words, at the start of a line.
_MARK = re.compile(r"(?m)^\x1b\[3[123]m(\w+ *)\x1b\[0m")
# How tqdm draws a bar again.
_BAR = re.compile(r"\r(?=[\w ]+: +\d+%)")


def unsafe(text: str) -> list[str]:
    """The characters of printed text that a terminal obeys."""
    text = _BAR.sub("", _MARK.sub(r"\1", text))
    return [c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]


def called(*arguments: object, answer: str = "n\n") -> Result:
    """Calls a command as on a terminal with colours, and checks what it prints on either stream."""
    result = CliRunner().invoke(main, [str(a) for a in arguments], input=answer, color=True)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert unsafe(result.output) == [], result.output
    assert "\nError: forged" not in result.output and "\nforged" not in result.output
    return result


@pytest.fixture
def evil_release(temporal_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A release whose every text is hostile, in a folder of a hostile name."""
    (temporal_folder / ARTIFACT_FILE).unlink()
    path = temporal_folder / "manifest.json"
    stored = json.loads(path.read_text("utf-8"))
    text = EVIL.replace("\ud800", "")
    row = {"track_id": text, "title": text, "url": text, "licence": text, "rights": text}
    stored["sources"] = {
        "dataset": text,
        "stems": [text],
        "tracks": [row],
        "licences": [text],
        "rights": [text],
    }
    stored |= {"version": text, "pipeline": text, "models": {text: text}}
    path.write_text(json.dumps(stored), "utf-8")
    styles = temporal_folder / "styles.json"
    known = json.loads(styles.read_text("utf-8"))
    known["styles"] |= {text: known["styles"]["all"]}
    styles.write_text(json.dumps(known), "utf-8")
    (tmp_path / "current").mkdir()
    monkeypatch.chdir(tmp_path / "current")
    return temporal_folder.rename(tmp_path / FILE_NAME)


def test_commands_that_make_sound_of_a_hostile_release(evil_release: Path, tmp_path: Path) -> None:
    sound = put(tmp_path / "set" / FILE_NAME / f"{FILE_NAME}.wav", tone(0.8, (220.0, 330.0)))
    (sound.parent / f"{FILE_NAME}2.wav").write_text("words", "utf-8")
    made = called("generate", evil_release, *SHORT)
    assert made.exit_code == 0 and r"\x1b[2J\x1b]0;owned\x07" in made.stdout
    # Prints the names of folders too.
    assert called("generate", evil_release, *SHORT, "--out", FILE_NAME).exit_code == 0
    assert called("generate", evil_release, *SHORT, "--out", FILE_NAME).exit_code == 2
    assert called("reconstruct", evil_release, sound).exit_code == 0
    assert called("interpolate", evil_release, sound, sound, "--steps", 2).exit_code == 0
    assert called("interpolate", evil_release, sound, f"{sound.parent}/{FILE_NAME}2.wav").exit_code == 2
    assert called("transfer", evil_release, sound, "--style", sound).exit_code == 0
    wrong = called("transfer", evil_release, sound, "--style-tag", "x")
    assert wrong.exit_code == 2 and r"\x1b[2J" in wrong.stderr
    augmented = called("augment", evil_release, sound.parent.parent, "--copies", 1)
    assert augmented.exit_code == 1 and "no audio that ffmpeg can read" in augmented.stderr
    damaged = evil_release / "codec" / "weights.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    refused = called("generate", evil_release, *SHORT)
    assert refused.exit_code == 2 and refused.stderr.count("\n") == 1 and "SHA-256" in refused.stderr


@pytest.mark.parametrize("name", ["generate", "reconstruct", "interpolate", "transfer", "augment"])
def test_hostile_arguments_of_commands_that_make_sound(name: str) -> None:
    assert called(name, FILE_NAME, *[FILE_NAME] * {"generate": 0, "interpolate": 2}.get(name, 1)).exit_code == 2
    assert called(name, f"--{FILE_NAME}").exit_code == 2


def test_commands_of_a_hostile_store(store: Store, tmp_path: Path) -> None:
    root = Path(store.root)
    save(store, [track("t1", title=EVIL.replace("\ud800", ""), url=f"https://a.example/{FILE_NAME}")])
    for folder in ("raw", "models", "records", "work/locks", FILE_NAME):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for suffix in ("", ".json", ".wav", ".error.json"):
            (root / folder / f"{FILE_NAME}{suffix}").write_text("{", "utf-8")
    checked = called("doctor", "--store", root)
    assert checked.exit_code == 1 and r"\x1b[2J" in checked.output
    assert called("doctor", "--store", root, "--repair").exit_code in (0, 1)
    assert called("retry", "--store", root, FILE_NAME).exit_code == 2
    assert called("retry", "--store", root, "--all").exit_code == 0
    assert called("forget", "--store", root, FILE_NAME).exit_code == 2
    assert called("forget", "--store", root, "t1").exit_code == 1
    assert called("forget", "--store", root, "t1", "--yes").exit_code == 0
    assert called("forget", "--store", root, "t1", FILE_NAME, "--undo").exit_code in (0, 2)
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({EVIL.replace("\ud800", ""): 1}), "utf-8")
    for command in (("config", "show"), ("train", "vocoder_checkpoint", "--store", root), ("run",), ("ui",)):
        assert called(*command, "--config", config).exit_code == 2, command
    for command in ("doctor", "retry", "forget", "train"):
        needed = {"retry": ["--all"], "forget": ["t"], "train": ["vocoder_checkpoint"]}.get(command, [])
        assert called(command, *needed, "--store", tmp_path / f"{FILE_NAME}-none").exit_code == 2
    for command in ("run", "ui"):
        assert called(command, "--store", root, "--pipelines", FILE_NAME).exit_code == 2
        assert called(command, "--sources", tmp_path / FILE_NAME, "--preset", FILE_NAME).exit_code == 2


def test_the_result_of_a_run_with_hostile_tracks_and_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    summary._print_result(StageResult("raw_wav_job", False, EVIL, {EVIL: EVIL}, 1.0))
    summary._print_result(StageResult("raw_wav_job", False, EVIL, {}, 1.0))
    printed = capsys.readouterr()
    assert unsafe(printed.out) == [] and r"\x1b[2J" in printed.out
    # A reason may have lines, which are indented; the reason of a track has one.
    lines = printed.out.split("\n")
    assert [line[:4] for line in lines[:3]] == ["part", r"  \x", "fail"]
    assert all(line.startswith("  ") for line in lines[3:-1]) and lines[-1] == ""


def test_errors_of_a_run_in_dagsters_log_are_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Exception) as caught, reporting.one_sentence_errors():
        raise errors.TrackError(EVIL)
    description = str(getattr(caught.value, "description", None))
    assert unsafe(description) == [] and "\n" not in description and r"\x1b[2J" in description


def test_progress_and_tracebacks_are_plain() -> None:
    stream = io.StringIO()
    with redirect_stderr(stream):
        with drawn() as progress:
            progress(ProgressEvent(EVIL, 0, 1))
            progress(ProgressEvent(EVIL, 1, 1))
        try:
            raise RuntimeError(EVIL)
        except RuntimeError:
            terminal.print_traceback(*sys.exc_info())  # pyrefly: ignore[bad-argument-type]
    printed = stream.getvalue().replace("\r", "").replace("\x1b[A", "")
    assert unsafe(printed) == [] and printed.count(r"\x1b[2J") >= 2


def test_only_the_printing_function_prints() -> None:
    root = Path(__file__).parents[2]
    found = [
        f"{path.name}: {line.strip()}"
        for package in ("melodygan_core", "melodygan_dagster")
        for path in (root / package).rglob("*.py")
        for line in path.read_text("utf-8").splitlines()
        if re.search(r"click\.(echo|secho|confirm|prompt)\(|(?<!\w)print\(", line)
    ]
    # The port of a server that a test starts.
    assert sorted(name.partition(":")[0] for name in found) == ["server.py", "terminal.py", "terminal.py"], (
        found
    )


@pytest.mark.parametrize("text", ["plain", "Björk – 音楽", "👩‍👩‍👧", "a\u00a0b\u3000c", ""])
def test_text_that_a_terminal_shows_is_kept(text: str) -> None:
    assert terminal_text(text) == text
    assert terminal_text(f"{text}\n{text}", lines=True) == f"{text}\n{text}"


def test_text_that_a_terminal_obeys_is_escaped() -> None:
    assert terminal_text("a\x1b[31m\n\u202e\x9b") == r"a\x1b[31m\n\u202e\x9b"
    assert terminal_text("\ud800") == r"\ud800"
    assert terminal_text(7) == "7"
    assert unsafe(terminal_text(EVIL)) == unsafe(plain_text(EVIL)) == []
    assert unsafe(click.style("failed", fg="red") + " x") == []
