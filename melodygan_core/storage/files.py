"""Atomic writes and private folders on this machine."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from melodygan_core.errors import InputError, storage_reason


def synced(path: Path) -> None:
    """Waits until a file or folder is on the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        os.close(fd)


def make_folders(path: Path) -> None:
    """Creates a folder and its missing parents, and waits until their names are on the disk.

    Without that a power cut may lose a whole new folder with its synced files, and keep what was written later.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.is_dir()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        synced(folder.parent)


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
def named_errors(path: Path) -> Iterator[None]:
    """Adds a path to an OSError inside the block that names no file, as the errors of open files do."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            # Of numpy, which says only how much it wrote. A file name would change the text of the error.
            if not storage_reason(error):
                raise
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        # Not an error of the network, say, that the block meets.
        if error.filename is None and storage_reason(error):
            error.filename = str(path)
        raise


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yields a temporary path beside a local file, which replaces `target` atomically if the block succeeds."""
    make_folders(target.parent)
    temporary = temporary_beside(target)
    try:
        with named_errors(target):
            yield temporary
            synced(temporary)
            temporary.replace(target)
            synced(target.parent)
    finally:
        temporary.unlink(missing_ok=True)
