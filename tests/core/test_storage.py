"""A full or read-only disk: one sentence, no unfinished file, and the next run continues."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from melodygan_core import audio, catalogue, download
from melodygan_core.config import CatalogueConfig, DownloadConfig
from melodygan_core.errors import (
    StorageError,
    TrackError,
    TransientError,
    database_reason,
    storage_errors,
    storage_reason,
)
from melodygan_core.parallel import map_tracks
from melodygan_core.sandbox import ffmpeg
from melodygan_core.storage import Store, files, replacing
from melodygan_core.storage.files import named_errors
from tests.core.hostile import run_module

UNSHARE = ["unshare", "--map-root-user", "--mount"]
AGAIN = "and run again: nothing is lost"


def _may_mount(folder: Path) -> bool:
    try:
        command = [*UNSHARE, "mount", "-t", "tmpfs", "tmpfs", str(folder)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_every_stage_reports_a_full_or_read_only_disk_and_then_continues(tmp_path: Path) -> None:
    if not _may_mount(tmp_path):
        pytest.skip("needs a mount namespace of one's own (unshare, Linux)")
    printed = run_module("small_disk", str(tmp_path), prefix=UNSHARE)
    messages = json.loads(printed.splitlines()[-1])
    assert messages.pop("errors") == []
    assert list(messages) == ["expand", "fetch", "separate", "extract", "save"]
    for stage, (full, read_only, after) in messages.items():
        assert "the disk is full" in full, (stage, full)
        assert "the file system is read-only" in read_only, (stage, read_only)
        assert (AGAIN in full, AGAIN in read_only, after) == (True, True, ""), stage
        assert "permanent" not in full + read_only


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EFBIG, "the file is larger than the system allows"),
        (errno.EACCES, "permission is denied"),
        (errno.EIO, "the disk reports an error"),
    ],
)
def test_disk_error_is_not_a_permanent_failure_of_the_track(
    tmp_path: Path, store: Store, tone: bytes, monkeypatch: pytest.MonkeyPatch, code: int, says: str
) -> None:
    (tmp_path / "song.wav").write_bytes(tone)
    (tmp_path / "s.txt").write_text("song.wav\n")
    listed = catalogue.expand(tmp_path / "s.txt", store, CatalogueConfig()).new

    def fail(path: Path) -> None:
        raise OSError(code, os.strerror(code), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(files, "synced", fail)
        (outcome,) = download.fetch(listed, store, DownloadConfig()).outcomes
    assert outcome.error.startswith(f"{says} ({tmp_path}")
    assert (outcome.error.endswith(AGAIN), outcome.permanent) == (True, False)
    assert list((Path(store.root) / "raw").iterdir()) == []
    assert [o.error for o in download.fetch(listed, store, DownloadConfig()).outcomes] == [""]


def test_disk_error_of_the_decoder_is_transient() -> None:
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
        error = ffmpeg.failure(256 - code, "any words")
        assert isinstance(error, StorageError)
        assert AGAIN in str(error)
    assert isinstance(ffmpeg.failure(-9, ""), TransientError)
    crash = ffmpeg.failure(-11, "")
    assert isinstance(crash, TrackError)
    assert "SIGSEGV" in str(crash)


def test_other_errors_are_no_disk_errors() -> None:
    assert storage_reason(ConnectionRefusedError(errno.ECONNREFUSED, "refused")) == ""
    assert storage_reason(ValueError("words")) == ""
    assert storage_reason(TrackError("No space left on device, says its title")) == ""
    assert "the disk is full" in storage_reason("unable to write data: [Errno 28] No space left on device")


def test_disk_error_in_a_report_is_one_sentence() -> None:
    def full(track_id: str) -> dict[str, object]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), track_id)

    (outcome,) = map_tracks("stage", full, ["a"]).outcomes
    assert outcome.error.startswith("the disk is full (a); ")
    assert outcome.error.endswith(AGAIN)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
@pytest.mark.parametrize("name", ["full.wav", "full.flac"])
@pytest.mark.parametrize("samples", [100, 1 << 20])
def test_a_full_disk_is_reported_when_sound_is_written(tmp_path: Path, name: str, samples: int) -> None:
    # libsndfile itself passes over an error of the last writes, and over all in FLAC.
    link = tmp_path / name
    link.symlink_to("/dev/full")
    wav = np.random.default_rng(0).uniform(-1, 1, (2, samples)).astype(np.float32)
    with pytest.raises(OSError, match="No space left"):
        audio.write_wav(link, wav, 44_100)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("database is locked", "the database is locked (x.db); another process writes to it"),
        ("database or disk is full", "the disk is full (x.db); free some space"),
        ("disk I/O error", "the disk reports an error in the database (x.db); check the disk"),
        ("attempt to write a readonly database", "the database is read-only (x.db); make it writable"),
        ("unable to open database file", "the database cannot be opened (x.db); make it writable"),
        ("database disk image is malformed", "the database is damaged (x.db); move it away"),
        ("file is not a database", "the database is damaged (x.db); move it away"),
    ],
)
def test_an_error_of_sqlite_is_one_sentence_below_any_wrapper(message: str, reason: str) -> None:
    inner = sqlite3.OperationalError(message)
    wrapped = RuntimeError(f"(sqlite3.OperationalError) {message}\n[SQL: INSERT ...]")
    wrapped.__cause__ = inner
    for error in (inner, wrapped):
        found = database_reason(error, "x.db")
        assert found.startswith(reason) and found.endswith(AGAIN) and "\n" not in found
        with pytest.raises(StorageError, match="nothing is lost"), storage_errors():
            raise error


def test_other_errors_of_sqlite_and_titles_that_read_alike_are_no_storage_errors() -> None:
    for error in (sqlite3.OperationalError("no such table: runs"), ValueError("database is locked")):
        assert database_reason(error) == ""
        with pytest.raises(type(error)), storage_errors():
            raise error


def test_an_error_that_names_no_file_gets_the_file_that_was_written(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught, replacing(tmp_path / "a.json"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert storage_reason(caught.value).startswith(f"the disk is full ({tmp_path / 'a.json'}); free some space")
    store = Store(str(tmp_path / "store"))
    with pytest.raises(OSError) as caught, store.writing_folder(store.at("models/x")):
        raise OSError("96000 requested and 0 written")
    assert storage_reason(caught.value).startswith(f"the disk is full ({tmp_path}/store/models/x)")
    with pytest.raises(OSError) as caught, named_errors(tmp_path):
        (tmp_path / "none" / "x").read_bytes()
    assert str(caught.value.filename).endswith("none/x")


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_sound_that_does_not_fit_on_the_disk_names_its_file(tmp_path: Path, suffix: str) -> None:
    code = (
        "import resource, signal, sys, numpy\nfrom pathlib import Path\n"
        "from melodygan_core import audio, errors\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "wav = numpy.random.default_rng(0).uniform(-1, 1, (1, 400_000)).astype('float32')\n"
        "try:\n    with errors.storage_errors():\n        audio.write_wav(Path(sys.argv[1]), wav, 44_100)\n"
        "except errors.StorageError as error:\n    print(error)\n"
    )
    path = tmp_path / f"x{suffix}"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert done.stdout.startswith(f"the file is larger than the system allows ({path}); "), done.stderr
