"""What can go wrong, told apart by what to do about it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager


class MelodyGANError(Exception):
    """Base of every error that this package raises on purpose."""


class InputError(MelodyGANError, ValueError):
    """The caller gave a value that is not allowed; the message names both."""


class TrackError(MelodyGANError):
    """This track will never work as it is (404, removed, too long, no audio): do not retry."""


class TransientError(MelodyGANError):
    """It failed now and may work later (time-out, 5xx, connection reset): retry."""


class StorageError(TransientError):
    """A file could not be written, or read, for a reason that lies with this machine and not with the track."""


# The first four are what another process or library is believed, too, when it hands on the words only.
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
    """One sentence, where the disk is to blame for an error or a tool's message; empty where it is not."""
    if isinstance(error, MelodyGANError):
        return ""
    code = error.errno if isinstance(error, OSError) else None
    if code is None:
        code = next((c for c in list(_STORAGE)[:4] if os.strerror(c) in str(error)), 0)
    if code not in _STORAGE:
        return ""
    file = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
    return f"{_STORAGE[code]}{file}; mend that and run again: nothing is lost"


@contextmanager
def storage_errors() -> Iterator[None]:
    """What the disk is to blame for inside leaves as a StorageError, which is one sentence and no traceback."""
    try:
        yield
    except OSError as error:
        reason = storage_reason(error)
        if not reason:
            raise
        raise StorageError(reason) from error
