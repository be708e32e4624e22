"""Output folders of services: new, whole or not at all, and never over something else unless asked."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from melodygan_core.errors import InputError
from melodygan_core.progress import ProgressEvent, bar, drawn, tracked
from melodygan_core.services.output import (
    STATE,
    SoundFile,
    check_output,
    check_resumable,
    new_folder,
    output_folder,
)


def fill(folder: Path, text: str = "new") -> None:
    """Writes one file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.json").write_text(text, "utf-8")


def content(folder: Path) -> dict[str, str]:
    """Relative name of every file and folder below a folder to its text."""
    return {
        p.relative_to(folder).as_posix(): p.read_text("utf-8") if p.is_file() else ""
        for p in sorted(folder.rglob("*"))
    }


# new_folder.


def test_the_first_free_name_is_taken(tmp_path: Path) -> None:
    base = tmp_path / "out.d"
    assert new_folder(base) == base
    base.mkdir()
    assert new_folder(base) == base
    fill(base)
    assert new_folder(base) == tmp_path / "out.d-2"
    fill(tmp_path / "out.d-2")
    (tmp_path / "out.d-3").write_text("a file", "utf-8")
    assert new_folder(base) == tmp_path / "out.d-4"
    assert not (tmp_path / "out.d-4").exists()


# check_output.


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_new_or_empty_folder_is_accepted_and_left_as_it_is(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "empty").mkdir()
    check_output(tmp_path / "empty", overwrite=overwrite)
    check_output(tmp_path / "deep" / "new", overwrite=overwrite)
    assert content(tmp_path) == {"empty": ""}


def test_a_folder_that_holds_something_is_refused_unless_overwritten(tmp_path: Path) -> None:
    fill(tmp_path / "out")
    with pytest.raises(InputError, match=r"^out must be a new or empty folder .*`overwrite`.*, got .*out"):
        check_output(tmp_path / "out")
    check_output(tmp_path / "out", overwrite=True)
    assert content(tmp_path) == {"out": "", "out/a.json": "new"}


@pytest.mark.parametrize("name", ["a.txt", "b.wav", "sub/a.json", ".hidden"])
def test_a_file_that_no_service_wrote_is_never_overwritten(tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    fill(out)
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_text("mine", "utf-8")
    with pytest.raises(InputError, match=f"nothing but what an earlier call wrote, got .* with .*{name[:3]}"):
        check_output(out, overwrite=True)
    with pytest.raises(InputError), output_folder(out, overwrite=True):
        pytest.fail("the block must not run")
    assert (out / name).read_text("utf-8") == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_is_refused(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "file").write_text("x", "utf-8")
    with pytest.raises(InputError, match=r"^out must be a folder, got .*file"):
        check_output(tmp_path / "file", overwrite=overwrite)
    with pytest.raises(InputError, match=r"^out must be in a folder that can be written, got .*file"):
        check_output(tmp_path / "file" / "below", overwrite=overwrite)
    assert content(tmp_path) == {"file": "x"}


def test_the_current_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for out in (Path(), tmp_path):
        with pytest.raises(InputError, match=r"^out must be a folder other than the current one"):
            check_output(out)
    with output_folder(Path("below")) as folder:
        fill(folder)
    assert content(tmp_path) == {"below": "", "below/a.json": "new"}


# check_resumable.


def test_augment_may_continue_in_its_own_folder_only(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    fill(tmp_path / "other")
    fill(tmp_path / "own")
    (tmp_path / "own" / STATE).mkdir()
    before = content(tmp_path)
    for name in ("new", "empty", "own", "deep/new"):
        check_resumable(tmp_path / name)
    with pytest.raises(InputError, match=r"^out must be .* or one to continue, got .*other"):
        check_resumable(tmp_path / "other")
    with pytest.raises(InputError, match=r"^out must be a folder, got .*a\.json"):
        check_resumable(tmp_path / "other" / "a.json")
    assert content(tmp_path) == before


# output_folder.


@pytest.mark.parametrize("exists", [False, True])
def test_the_folder_appears_when_all_is_there(tmp_path: Path, exists: bool) -> None:
    out = tmp_path / "deep" / "out"
    if exists:
        out.mkdir(parents=True)
    with output_folder(out) as folder:
        assert folder.parent == out.parent and folder.name.startswith(".")
        fill(folder)
        assert not out.exists() or not any(out.iterdir())
    assert content(tmp_path) == {"deep": "", "deep/out": "", "deep/out/a.json": "new"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_failure_half_way_leaves_nothing(tmp_path: Path, error: type[BaseException], overwrite: bool) -> None:
    with pytest.raises(error), output_folder(tmp_path / "out", overwrite=overwrite) as folder:
        fill(folder)
        raise error
    assert content(tmp_path) == {}


def test_a_folder_that_holds_something_is_untouched(tmp_path: Path) -> None:
    out = tmp_path / "out"
    fill(out, "old")
    with pytest.raises(InputError, match="must be a new or empty folder"), output_folder(out):
        pytest.fail("the block must not run")
    assert content(out) == {"a.json": "old"}
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_overwriting_replaces_all_of_a_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    fill(out, "old")
    (out / "other.parquet").write_text("old", "utf-8")
    with output_folder(out, overwrite=True) as folder:
        fill(folder)
        assert content(out) == {"a.json": "old", "other.parquet": "old"}
    assert content(tmp_path) == {"out": "", "out/a.json": "new"}


def test_a_failure_while_overwriting_keeps_the_old_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    fill(out, "old")
    with pytest.raises(ValueError), output_folder(out, overwrite=True) as folder:
        fill(folder)
        raise ValueError
    assert content(tmp_path) == {"out": "", "out/a.json": "old"}


def test_a_folder_that_cannot_take_the_place_of_the_old_one_leaves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    fill(out, "old")
    replace, failed = Path.replace, []

    def fails_once(self: Path, target: Path) -> Path:
        if target == out and not failed:
            failed.append(self)
            raise OSError("no space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fails_once)
    with pytest.raises(OSError, match="no space left"), output_folder(out, overwrite=True) as folder:
        fill(folder)
    assert len(failed) == 1
    assert content(tmp_path) == {"out": "", "out/a.json": "old"}


# Results and progress.


def test_a_sound_file_is_one_flat_row() -> None:
    sound = SoundFile("a.wav", 1.5, 22_050, -1.0, -18.0, {"chroma_correlation": 0.5})
    assert sound.to_dict() == {
        "file": "a.wav",
        "duration_s": 1.5,
        "sample_rate": 22_050,
        "peak_db": -1.0,
        "loudness_lufs": -18.0,
        "chroma_correlation": 0.5,
    }


def test_progress_starts_at_zero_and_ends_at_the_total() -> None:
    events: list[ProgressEvent] = []
    seen = [(item, len(events)) for item in tracked("ab", 2, "stage", events.append)]
    assert events == [("stage", 0, 2), ("stage", 1, 2), ("stage", 2, 2)]
    # An item is done when the next one is asked for.
    assert seen == [("a", 1), ("b", 2)]
    assert list(tracked("ab", 2, "stage", None)) == ["a", "b"]


def test_work_that_fails_is_not_reported_as_done() -> None:
    events: list[ProgressEvent] = []
    with pytest.raises(ValueError):
        for _ in tracked("ab", 2, "stage", events.append):
            raise ValueError
    assert events == [("stage", 0, 2)]


def test_a_stage_draws_its_progress_unless_somebody_else_does(capsys: pytest.CaptureFixture[str]) -> None:
    events: list[ProgressEvent] = []
    assert list(bar("ab", 2, "stage", events.append)) == ["a", "b"]
    assert capsys.readouterr().err == ""
    assert list(bar("ab", 2, "stage")) == ["a", "b"]
    assert "stage: 100%" in capsys.readouterr().err
    assert events == [("stage", 0, 2), ("stage", 1, 2), ("stage", 2, 2)]


def test_only_long_work_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    with drawn(delay_s=60.0) as report:
        assert list(tracked("ab", 2, "short", report)) == ["a", "b"]
    assert capsys.readouterr().err == ""
    with drawn(delay_s=0.1) as report:
        for _ in tracked("a", 1, "long", report):
            # Within the only item, so that there is no event yet.
            time.sleep(0.4)
            assert "long:   0%" in capsys.readouterr().err
    assert "long: 100%" in capsys.readouterr().err


def test_every_stage_has_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with drawn() as report:
        for stage in ("first", "second"):
            assert list(tracked("ab", 2, stage, report)) == ["a", "b"]
    printed = capsys.readouterr().err
    assert "first: 100%" in printed and "second: 100%" in printed


def test_a_bar_of_work_that_fails_ends_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError), drawn() as report:
        for _ in tracked("ab", 2, "stage", report):
            raise ValueError
    printed = capsys.readouterr().err
    assert "stage:   0%" in printed and printed.endswith("\n")
