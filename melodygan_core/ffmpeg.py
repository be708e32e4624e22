"""Where ffmpeg is, and how tools that look for it on PATH find it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from melodygan_core.errors import MelodyGANError


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
