"""The errors of this package, classified by what the caller can do about them."""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

# For messages: installs the project, or `'.[extra]'`, in a clone. `make setup` installs all extras.
INSTALL = ".venv/bin/uv pip install -e"


# Extra to a module that only it brings.
EXTRAS = {
    "ingest": ("yt_dlp", "audio_separator", "requests", "deno"),
    "export": ("onnxscript", "onnxruntime", "onnx"),
    "dagster": ("dagster", "dagster_webserver", "psutil", "melodygan_dagster"),
    "web": ("starlette", "uvicorn"),
    "ray": ("ray", "dagster_ray"),
    "s3": ("s3fs",),
    "postgres": ("dagster_postgres", "psycopg2"),
    "hub": ("huggingface_hub", "httpx"),
    "tensorboard": ("tensorboard",),
}


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


def missing(what: str, extra: str) -> str:
    """A sentence for what needs an extra that is not installed.

    Args:
        what: Such as `` `melodygan run` ``.
        extra: One of EXTRAS.
    """
    return f"{what} needs the extra {extra}, which is not installed: {INSTALL} '.[{extra}]'"


def extra_of(module: str | None) -> str:
    """The extra that brings a module; empty where none does."""
    top = (module or "").partition(".")[0]
    return next((extra for extra, modules in EXTRAS.items() if top in modules), "")


def require_extra(what: str, extra: str) -> None:
    """Checks that an extra is installed; imports none of it.

    Raises:
        MelodyGANError: it is not; names it.
    """
    if importlib.util.find_spec(EXTRAS[extra][0]) is None:
        raise MelodyGANError(missing(what, extra))


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


class DamagedError(MelodyGANError, ValueError):
    """A file of the store does not hold what was written: `melodygan doctor` says what to do."""

    code = "damaged"


_FREE = "free some space"
_WRITABLE = "make it writable for you, or use another folder"
# What the disk says, and what its user can do. The first four are also recognised in the messages of other
# processes and libraries, which pass on text only.
_STORAGE = {
    errno.ENOSPC: ("the disk is full", _FREE),
    errno.EDQUOT: ("the disk quota is used up", _FREE),
    errno.EROFS: ("the file system is read-only", _WRITABLE),
    errno.EACCES: ("permission is denied", _WRITABLE),
    errno.EPERM: ("permission is denied", _WRITABLE),
    errno.EIO: ("the disk reports an error", "check the disk"),
    errno.EFBIG: ("the file is larger than the system allows", "raise the limit (`ulimit -f`)"),
    errno.EMFILE: ("too many files are open", "raise the limit (`ulimit -n`)"),
    errno.ENFILE: ("too many files are open", "close other programs"),
}
# numpy says only how much of an array it wrote.
_SHORT_WRITE = re.compile(r"^\d+ requested and \d+ written$")
# What SQLite says.
_DATABASE = {
    "database is locked": (
        "the database is locked",
        "another process writes to it: wait for it, or stop it (`melodygan run`, `melodygan ui`, a backup)",
    ),
    "database table is locked": ("the database is locked", "wait for the process that writes to it"),
    "database or disk is full": ("the disk is full", _FREE),
    "disk I/O error": ("the disk reports an error in the database", "check the disk, its space and its mount"),
    "attempt to write a readonly database": ("the database is read-only", _WRITABLE),
    "unable to open database file": ("the database cannot be opened", f"{_WRITABLE}, and check its space"),
    "database disk image is malformed": ("the database is damaged", "move it away"),
    "file is not a database": ("the database is damaged", "move it away"),
}
_AGAIN = "and run again: nothing is lost"


def storage_reason(error: BaseException | str) -> str:
    """Returns one sentence if the disk causes an error or a tool's message, else an empty string."""
    if isinstance(error, MelodyGANError):
        return ""
    code = error.errno if isinstance(error, OSError) else None
    if code is None:
        # Not the text of an OSError, which changes when it gets a file name.
        text = " ".join(map(str, error.args)) if isinstance(error, OSError) else str(error)
        code = next((c for c in list(_STORAGE)[:4] if os.strerror(c) in text), 0)
        code = errno.ENOSPC if isinstance(error, OSError) and _SHORT_WRITE.match(text) else code
    if code not in _STORAGE:
        return ""
    # The second name of a copy or rename is what is written.
    name = (error.filename2 or error.filename) if isinstance(error, OSError) else None
    file = f" ({name})" if name else ""
    reason, advice = _STORAGE[code]
    return f"{reason}{file}; {advice} {_AGAIN}"


def database_reason(error: BaseException, file: str = "") -> str:
    """Returns one sentence if SQLite causes an error, directly or below wrappers, else an empty string.

    Args:
        error: Of any library.
        file: The database, if it is known.
    """
    found: BaseException | None = error
    # An exception may be its own cause's cause.
    seen: set[int] = set()
    while found is not None and not isinstance(found, sqlite3.Error):
        seen.add(id(found))
        found = found.__cause__ or found.__context__
        found = None if id(found) in seen else found
    if found is None:
        return ""
    for text, (reason, advice) in _DATABASE.items():
        if text in str(found):
            return f"{reason}{f' ({file})' if file else ''}; {advice} {_AGAIN}"
    return ""


# What JSON, Parquet and Arrow readers raise for a damaged file, and what its values raise where they are used.
_DAMAGE = (
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RecursionError,
    NotImplementedError,
    MemoryError,
    OSError,
)


@contextmanager
def damage_errors(path: object) -> Iterator[None]:
    """Raises DamagedError, one sentence, for an error that the content of a file causes inside the block.

    Errors of this package and of the operating system stay what they are.

    Args:
        path: Of the file that is read.
    """
    try:
        yield
    except MelodyGANError:
        raise
    except _DAMAGE as error:
        # Arrow reports damage as an OSError without a number.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise DamagedError(
            f"{path} is damaged ({reason}): run `melodygan doctor`, which says what to do"
        ) from error


@contextmanager
def storage_errors() -> Iterator[None]:
    """Raises StorageError, one sentence, for an error inside the block that the disk or SQLite causes."""
    try:
        yield
    except MelodyGANError:
        raise
    except Exception as error:
        reason = (storage_reason(error) if isinstance(error, OSError) else "") or database_reason(error)
        if not reason:
            raise
        raise StorageError(reason) from error
