"""The errors of this package, classified by what the caller can do about them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

# For messages: installs the project, or `'.[extra]'`, in a clone. `make setup` installs all extras.
INSTALL = ".venv/bin/uv pip install -e"


class MelodyGANError(Exception):
    """Base class of the errors that this package raises on purpose.

    Attributes:
        code: Name of the kind of error, for programs: it does not change when a message does.
        retryable: Whether the same call may succeed later.
    """

    code: ClassVar[str] = "failed"
    retryable: ClassVar[bool] = False


class InputError(MelodyGANError, ValueError):
    """A value is not allowed; the message names the value and what is allowed."""

    code = "input"


class TrackError(MelodyGANError):
    """A track fails permanently (404, removed, too long, no audio): do not retry."""

    code = "track"


class TransientError(MelodyGANError):
    """A temporary failure (time-out, 5xx, connection reset): retry later."""

    code = "transient"
    retryable = True


class StorageError(TransientError):
    """A file cannot be written or read because of this machine, not because of the track."""

    code = "storage"


# The first four are also recognised in the messages of other processes and libraries, which pass on text only.
_STORAGE = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission is denied",
    errno.EPERM: "permission is denied",
    errno.EIO: "the disk reports an error",
    errno.EMFILE: "too many files are open",
    errno.ENFILE: "too many files are open",
}


def storage_reason(error: BaseException | str) -> str:
    """Returns one sentence if the disk causes an error or a tool's message, else an empty string."""
    if isinstance(error, MelodyGANError):
        return ""
    code = error.errno if isinstance(error, OSError) else None
    if code is None:
        code = next((c for c in list(_STORAGE)[:4] if os.strerror(c) in str(error)), 0)
    if code not in _STORAGE:
        return ""
    file = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
    return f"{_STORAGE[code]}{file}; repair that and run again: nothing is lost"


@contextmanager
def storage_errors() -> Iterator[None]:
    """Raises StorageError, one sentence, for an OSError that the disk causes inside the block."""
    try:
        yield
    except OSError as error:
        reason = storage_reason(error)
        if not reason:
            raise
        raise StorageError(reason) from error
