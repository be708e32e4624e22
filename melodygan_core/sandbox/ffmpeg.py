"""Finding ffmpeg, and turning its exit status and log into errors."""

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

# ffmpeg's exit status is 256 minus the error number. EIO and EPERM are missing: damaged files cause these too.
_STORAGE_STATUS = {256 - code: code for code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)}
_REASONS = (
    (r"matches no streams", "it has no audio stream"),
    (
        r"not on whitelist",
        "it must be a sound or video file, got something else, or a playlist that names other files",
    ),
    (r"Cannot allocate memory", "it needs more memory than a decoder gets"),
    (r"Too many channels|enough info.*remix|[Rr]ematrix|0 channels", "its channels cannot be mixed to two"),
)
_DAMAGE = re.compile(
    r"corrupt input packet|Error submitting packet|Decoding error|partial file|"
    r"filesize and duration do not match"
)


def executable() -> Path:
    """Returns the `ffmpeg` on PATH, else the binary of imageio-ffmpeg.

    Raises:
        MelodyGANError: neither exists.
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
    """Puts `ffmpeg` on the PATH of this process and its children for the length of the block.

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
    """Returns the error for a decoder that ended with a status other than 0, or without output.

    Returns:
        TrackError if the file is the cause, else TransientError.
    """
    if status == -signal.SIGKILL:
        return TransientError("the decoder was killed from outside; if memory is short, lower the workers")
    if status in _STORAGE_STATUS:
        code = _STORAGE_STATUS[status]
        return StorageError(storage_reason(OSError(code, os.strerror(code))))
    # ffmpeg catches SIGXCPU, ends by itself with status 255 and logs the number.
    stopped = status == 255 and f"received signal {signal.SIGXCPU.value}" in log
    if status == -signal.SIGXCPU or stopped:
        return TrackError("decoding it takes more processor time than a decoder gets")
    if status < 0:
        return TrackError(f"the decoder crashes on it ({signal.Signals(-status).name})")
    for pattern, words in _REASONS:
        if re.search(pattern, log):
            return TrackError(f"no audio that ffmpeg can read: {words}")
    lines = [line for line in log.splitlines() if line.strip()]
    return TrackError(f"no audio that ffmpeg can read: {lines[-1].strip() if lines else 'no message'}")


def problems(log: str, duration_s: float) -> list[str]:
    """Returns the problems of an input that was decoded, from the decoder's log, one sentence each.

    Args:
        log: The log at level `info`.
        duration_s: Duration of the decoded audio in seconds.
    """
    found: list[str] = []
    header = re.search(r"Duration: (\d+):(\d\d):(\d\d\.\d+)", log)
    if header and "Estimating duration" not in log:
        declared_s = int(header[1]) * 3600 + int(header[2]) * 60 + float(header[3])
        if abs(declared_s - duration_s) > max(0.5, 0.01 * declared_s):
            found.append(
                f"the header says {declared_s:.1f} s, the file has {duration_s:.1f} s: cut off, or damaged"
            )
    # The header of a wav that was written to a pipe says 4 GB; that is not damage.
    if not found and _DAMAGE.search(log) and "Ignoring maximum wav data size" not in log:
        found.append("parts of it cannot be decoded: cut off, or damaged")
    return found
