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
# At the start of a line: titles are in the log as well.
_EXTERNAL = r"(?m)^\[[^\]]*\] Skipped opening external track: stream \d"
_REASONS = (
    (r"matches no streams", "it has no audio stream"),
    (
        r"not on whitelist",
        "it must be a sound or video file, got something else, or a playlist that names other files",
    ),
    (r"Cannot allocate memory", "it needs more memory than a decoder gets"),
    (_EXTERNAL, "its sound lies in another file, which it names and which is not opened"),
    (r"Too many channels|enough info.*remix|[Rr]ematrix", "its channels cannot be mixed to two"),
)
# What ffmpeg says of text, random bytes and other files that only look like a format, by their name or a few
# bytes. The last line of such a log says `Conversion failed!`, and the one before that no channels were set.
_NO_AUDIO = re.compile(
    r"Invalid data found|End of file|low score of 1\b|Decode error rate 1 |Could not find codec parameters|"
    r"Cannot determine format of input"
)
_TRIED = re.compile(r"^Input #0, (?P<format>.+?), from ", re.MULTILINE)
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


def reached_cpu_limit(status: int, log: str) -> bool:
    """Whether a decoder was stopped by its limit of processor time.

    ffmpeg catches SIGXCPU, logs its number and ends by itself, with a status that depends on what it was doing.
    Busy with tags, it does not see the signal; the kernel sends it every second, and the fourth ends ffmpeg.
    """
    logged = f"received signal {signal.SIGXCPU.value}" in log or "system signals, hard exiting" in log
    return status == -signal.SIGXCPU or (status != 0 and logged)


def stated_duration_s(log: str) -> float | None:
    """Returns the duration in seconds that the header of an input states; None if it was not read."""
    header = re.search(r"Duration: (\d+):(\d\d):(\d\d\.\d+)", log)
    return int(header[1]) * 3600 + int(header[2]) * 60 + float(header[3]) if header else None


def failure(status: int, log: str, output: Path | None = None) -> MelodyGANError:
    """Returns the error for a decoder that ended with a status other than 0, or without output.

    Args:
        status: Exit status.
        log: What the decoder said.
        output: What it wrote to, for errors of the disk.

    Returns:
        TrackError if the file is the cause, else TransientError.
    """
    if status == -signal.SIGKILL:
        return TransientError("the decoder was killed from outside; if memory is short, lower the workers")
    if status in _STORAGE_STATUS:
        code = _STORAGE_STATUS[status]
        return StorageError(storage_reason(OSError(code, os.strerror(code), output and str(output))))
    if reached_cpu_limit(status, log):
        return TrackError("decoding it takes more processor time than a decoder gets")
    if status < 0:
        return TrackError(f"the decoder crashes on it ({signal.Signals(-status).name})")
    return TrackError(f"no audio that ffmpeg can read: {_no_audio(log)}")


def _no_audio(log: str) -> str:
    """Why there is no audio, from the decoder's log."""
    for pattern, words in _REASONS:
        if re.search(pattern, log):
            return words
    if _NO_AUDIO.search(log):
        tried = _TRIED.search(log)
        formats = tried["format"] if tried else "every allowed format"
        return f"it is not audio, or is damaged from its start (tried as {formats})"
    lines = [line for line in log.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no message"


def names_other_files(log: str) -> bool:
    """Whether the sound of a decoded file lies in another file, which was not opened."""
    return bool(re.search(_EXTERNAL, log))


def problems(log: str, duration_s: float) -> list[str]:
    """Returns the problems of an input that was decoded, from the decoder's log, one sentence each.

    Args:
        log: The log at level `info`.
        duration_s: Duration of the decoded audio in seconds.
    """
    found: list[str] = []
    declared_s = stated_duration_s(log)
    if "Estimating duration" in log:
        declared_s = None
    if declared_s is not None and abs(declared_s - duration_s) > max(0.5, 0.01 * declared_s):
        found.append(
            f"the header says {declared_s:.1f} s, the file has {duration_s:.1f} s: cut off, or damaged"
        )
    # The header of a wav that was written to a pipe says 4 GB; that is not damage.
    if not found and _DAMAGE.search(log) and "Ignoring maximum wav data size" not in log:
        found.append("parts of it cannot be decoded: cut off, or damaged")
    return found
