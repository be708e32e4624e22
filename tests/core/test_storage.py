"""A full or read-only disk: one sentence, no unfinished file, and the next run continues."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from melodygan_core import audio, catalogue, download
from melodygan_core.config import CatalogueConfig, DownloadConfig
from melodygan_core.errors import StorageError, TrackError, TransientError, storage_reason
from melodygan_core.parallel import map_tracks
from melodygan_core.sandbox import ffmpeg
from melodygan_core.storage import files
from tests.core.hostile import run_module

if TYPE_CHECKING:
    from melodygan_core.storage import Store

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
def test_system_error_of_libsndfile_is_reported(tmp_path: Path) -> None:
    link = tmp_path / "full.wav"
    link.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        audio.write_wav(link, np.zeros((2, 1 << 20), np.float32), 44_100)
