"""Files of this machine: whole or not at all, and nobody else's."""

from __future__ import annotations

import contextlib
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from melodygan_core.errors import InputError


def synced(path: Path) -> None:
    """Waits until the disk has a file or folder."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def own_folder(path: Path) -> Path:
    """A folder that is the user's alone, made if missing.

    Raises:
        InputError: somebody else made it, or may write into it.
    """
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700, parents=True)
    found = path.lstat()
    private = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
    if not private:
        raise InputError(
            f"{path} is somebody else's, or open to others; allowed: a folder of your own (mode 0700). "
            "Remove it, or set TMPDIR to a folder of yours"
        )
    return path


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary path beside a local file; when the block ends well it becomes the file, atomically.

    The temporary name keeps the suffix, because encoders choose the format by it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{uuid.uuid4().hex[:8]}-{target.name}"
    try:
        yield temporary
        synced(temporary)
        temporary.replace(target)
        synced(target.parent)
    finally:
        temporary.unlink(missing_ok=True)
