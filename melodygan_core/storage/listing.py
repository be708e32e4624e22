"""Lists files with one request per folder: one request per file makes a remote store slow."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upath import UPath

from melodygan_core.errors import InputError
from melodygan_core.storage.kinds import NOT_ARTIFACTS, TEMPORARY

if TYPE_CHECKING:
    from melodygan_core.storage.layout import Layout

# Files that are written without a lock (records, pictures, reports) take moments to write.
QUIET_S = 3600.0


@dataclass(frozen=True)
class Stat:
    """A file's size and age.

    Attributes:
        bytes: Size.
        modified: Seconds since 1970; infinite where the file system does not report it.
    """

    bytes: int
    modified: float

    @property
    def quiet(self) -> bool:
        """Whether it is older than QUIET_S, so that only the holder of its lock can still be writing it."""
        return time.time() - self.modified > QUIET_S


def names(folder: UPath) -> list[str]:
    """Paths of all files below a folder, relative to it; empty for a missing folder."""
    if folder.protocol in ("", "file"):
        return list(_walk(folder.path))
    return [name for name, _ in _find(folder)]


def list_files(folder: UPath, without: Collection[str] = ()) -> dict[str, Stat]:
    """All files below a folder by their path relative to it; empty for a missing folder.

    Args:
        folder: Of any file system.
        without: Folders directly below it that are left out.
    """
    if folder.protocol not in ("", "file"):
        return {
            name: Stat(int(info["size"]), _modified(info))
            for name, info in _find(folder)
            if name.split("/")[0] not in without
        }
    result = {}
    for name in _walk(folder.path, without):
        # Another run may rename or remove it meanwhile.
        with contextlib.suppress(FileNotFoundError):
            status = Path(folder.path, name).stat(follow_symlinks=False)
            result[name] = Stat(status.st_size, status.st_mtime)
    return result


def store_files(store: Layout, tops: Sequence[str] = ()) -> dict[str, Stat]:
    """Files of a store by URI, sorted; without scratch and Dagster's database.

    Args:
        store: A local folder or any fsspec URI.
        tops: Only these folders of the root; all by default.
    """
    if not tops:
        return dict(sorted(list_files(store.base, NOT_ARTIFACTS).items()))
    found = {f"{top}/{name}": stat for top in tops for name, stat in list_files(store.base / top).items()}
    return dict(sorted(found.items()))


def unfinished_folders(store: Layout) -> Iterator[tuple[str, Stat]]:
    """Unfinished folders of a local store, empty ones too, with the age of their newest file."""
    root = Path(store.base.path)
    for folder, folders, _ in os.walk(root) if store.is_local else ():
        if Path(folder) == root:
            folders[:] = [f for f in folders if f not in NOT_ARTIFACTS]
        for name in [f for f in folders if TEMPORARY.match(f)]:
            folders.remove(name)
            path = Path(folder) / name
            yield path.relative_to(root).as_posix(), Stat(0, newest(path))


def newest(path: Path) -> float:
    """Last modification of a local file, or of a folder and anything in it; infinite when it is gone."""
    times = []
    for part in [path, *path.rglob("*")]:
        with contextlib.suppress(FileNotFoundError):
            times.append(part.stat(follow_symlinks=False).st_mtime)
    return max(times, default=float("inf"))


def _walk(root: str, without: Collection[str] = ()) -> Iterator[str]:
    # As text: creating a Path for each of many thousand files takes seconds.
    for folder, folders, files in os.walk(root):
        if folder == root:
            folders[:] = [f for f in folders if f not in without]
        relative = folder[len(root) :].replace(os.sep, "/").strip("/")
        yield from (f"{relative}/{name}" if relative else name for name in files)


def _find(folder: UPath) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        found: Any = folder.fs.find(folder.path, detail=True)
    except FileNotFoundError as error:
        # A missing folder is empty on an object store; only a missing bucket raises.
        raise InputError(f"store must be in an existing bucket, got {str(folder)!r} ({error})") from error
    start = folder.path.rstrip("/")
    for path, info in found.items():
        name = path.removeprefix(start).lstrip("/")
        # Consoles of object stores create empty objects that stand for folders.
        if info["type"] == "file" and name and not name.endswith("/"):
            yield name, info


def _modified(info: dict[str, Any]) -> float:
    # fsspec's file systems use different names.
    for name in ("mtime", "LastModified", "last_modified", "updated", "created"):
        value = info.get(name)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    return float("inf")
