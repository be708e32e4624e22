"""What lies below a folder, in one listing: a request a file is what makes a remote store slow."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from upath import UPath

from melodygan_core.errors import InputError

# Whatever is written without a lock (records, pictures, reports) takes moments.
QUIET_S = 3600.0


@dataclass(frozen=True)
class Stat:
    """A file's size and age.

    Attributes:
        bytes: Size.
        modified: Seconds since 1970; infinite where the file system does not say.
    """

    bytes: int
    modified: float

    @property
    def quiet(self) -> bool:
        """Whether nobody has written it for so long that only a holder of its lock can still mean to."""
        return time.time() - self.modified > QUIET_S


def names(folder: UPath) -> list[str]:
    """Paths of all files below a folder, relative to it; none where there is no such folder."""
    if folder.protocol in ("", "file"):
        return list(_walk(folder.path))
    return [name for name, _ in _found(folder)]


def below(folder: UPath, without: Collection[str] = ()) -> dict[str, Stat]:
    """All files below a folder by their path relative to it; none where there is no such folder.

    Args:
        folder: Of any file system.
        without: Folders directly below it that are left out.
    """
    if folder.protocol not in ("", "file"):
        return {
            name: Stat(int(info["size"]), _modified(info))
            for name, info in _found(folder)
            if name.split("/")[0] not in without
        }
    result = {}
    for name in _walk(folder.path, without):
        # Another run may rename or remove it meanwhile.
        with contextlib.suppress(FileNotFoundError):
            status = Path(folder.path, name).stat(follow_symlinks=False)
            result[name] = Stat(status.st_size, status.st_mtime)
    return result


def _walk(root: str, without: Collection[str] = ()) -> Iterator[str]:
    # As text: to make a Path of each of many thousand files takes seconds.
    for folder, folders, files in os.walk(root):
        if folder == root:
            folders[:] = [f for f in folders if f not in without]
        below = folder[len(root) :].replace(os.sep, "/").strip("/")
        yield from (f"{below}/{name}" if below else name for name in files)


def _found(folder: UPath) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        found: Any = folder.fs.find(folder.path, detail=True)
    except FileNotFoundError as error:
        # A folder that is not there is empty; this is of what folders are in.
        raise InputError(f"store has {str(folder)!r}; allowed: a bucket that is there ({error})") from error
    start = folder.path.rstrip("/")
    for path, info in found.items():
        name = path.removeprefix(start).lstrip("/")
        # Consoles of object stores make empty objects that stand for folders.
        if info["type"] == "file" and name and not name.endswith("/"):
            yield name, info


def _modified(info: dict[str, Any]) -> float:
    # fsspec's file systems call it differently.
    for name in ("mtime", "LastModified", "last_modified", "updated", "created"):
        value = info.get(name)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    return float("inf")
