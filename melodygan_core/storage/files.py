"""Atomic writes and private folders on this machine."""

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
    """Waits until a file or folder is on the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def own_folder(path: Path) -> Path:
    """Creates a folder that only the user can read and write, if it is missing, and returns it.

    Raises:
        InputError: another user owns it, or others may access it.
    """
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700, parents=True)
    found = path.lstat()
    private = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
    if not private:
        raise InputError(
            f"scratch folder must be your own with mode 0700, got {str(path)!r}, which another user owns "
            "or may access: remove it, or set TMPDIR to a folder of yours"
        )
    return path


def temporary_beside(target: Path) -> Path:
    """A new name beside a path for a file or folder that is not finished.

    `kinds.TEMPORARY` matches it. It keeps the suffix, from which encoders infer the format.
    """
    return target.parent / f".{uuid.uuid4().hex[:8]}-{target.name}"


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yields a temporary path beside a local file, which replaces `target` atomically if the block succeeds."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(target)
    try:
        yield temporary
        synced(temporary)
        temporary.replace(target)
        synced(target.parent)
    finally:
        temporary.unlink(missing_ok=True)
