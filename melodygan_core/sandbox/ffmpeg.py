"""Where ffmpeg is, how tools that look for it on PATH find it, and what its log says to a person."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from melodygan_core.errors import MelodyGANError, StorageError, TrackError, TransientError, storage_reason

# ffmpeg's exit status is the error's number, counted back from 256. Others of them (EIO, EPERM) it gives for
# damaged files as well.
_STORAGE_STATUS = {256 - code: code for code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)}
_REASONS = (
    (r"matches no streams", "it has no audio stream"),
    (
        r"not on whitelist",
        "it is no sound, or a playlist that names other files; allowed: sound and video files",
    ),
    (r"Cannot allocate memory", "it needs more memory than a decoder gets"),
    (r"Too many channels|enough info.*remix|[Rr]ematrix|0 channels", "its channels cannot be mixed to two"),
)
_DAMAGE = re.compile(
    r"corrupt input packet|Error submitting packet|Decoding error|partial file|"
    r"filesize and duration do not match"
)


def executable() -> Path:
    """The `ffmpeg` on PATH, else the binary that imageio-ffmpeg ships.

    Raises:
        MelodyGANError: there is neither.
    """
    found = shutil.which("ffmpeg")
    if found:
        return Path(found)
    import imageio_ffmpeg

    try:
        return Path(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise MelodyGANError("no ffmpeg on PATH and none from imageio-ffmpeg: install ffmpeg") from error


@contextmanager
def on_path() -> Iterator[Path]:
    """Makes `ffmpeg` findable by that name in this process and its children for the length of the block.

    audio-separator looks on PATH only, and imageio-ffmpeg's binary has another name.
    """
    binary = executable()
    if shutil.which("ffmpeg"):
        yield binary
        return
    before = os.environ.get("PATH", "")
    with tempfile.TemporaryDirectory(prefix="melodygan-ffmpeg-") as folder:
        link = Path(folder) / "ffmpeg"
        link.symlink_to(binary)
        os.environ["PATH"] = f"{folder}{os.pathsep}{before}"
        try:
            yield link
        finally:
            os.environ["PATH"] = before


def failure(status: int, log: str) -> MelodyGANError:
    """What to raise for a decoder that ended with a status other than 0, or without any output.

    Returns:
        TrackError where the file is to blame, else TransientError.
    """
    if status == -signal.SIGKILL:
        return TransientError("the decoder was killed from outside; where memory was short, lower the workers")
    if status in _STORAGE_STATUS:
        code = _STORAGE_STATUS[status]
        return StorageError(storage_reason(OSError(code, os.strerror(code))))
    if status < 0:
        return TrackError(f"it makes the decoder fail ({signal.Signals(-status).name})")
    for pattern, words in _REASONS:
        if re.search(pattern, log):
            return TrackError(f"no audio that ffmpeg can read: {words}")
    lines = [line for line in log.splitlines() if line.strip()]
    return TrackError(f"no audio that ffmpeg can read: {lines[-1].strip() if lines else 'no message'}")


def problems(log: str, duration_s: float) -> list[str]:
    """What the log of a decoder that ended well says is wrong with its input, one sentence each.

    Args:
        log: Of level `info`.
        duration_s: Of what it decoded.
    """
    found: list[str] = []
    said = re.search(r"Duration: (\d+):(\d\d):(\d\d\.\d+)", log)
    if said and "Estimating duration" not in log:
        declared_s = int(said[1]) * 3600 + int(said[2]) * 60 + float(said[3])
        if abs(declared_s - duration_s) > max(0.5, 0.01 * declared_s):
            found.append(
                f"the header says {declared_s:.1f} s, there are {duration_s:.1f} s: cut off, or damaged"
            )
    # A wav written to a pipe says 4 GB, which is no damage.
    if not found and _DAMAGE.search(log) and "Ignoring maximum wav data size" not in log:
        found.append("parts of it cannot be decoded: cut off, or damaged")
    return found
