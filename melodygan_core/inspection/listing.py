"""What lies in a store, who may be writing it, and how it is taken away."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from upath import UPath

from melodygan_core.errors import TransientError
from melodygan_core.store import ARTIFACT_FILE, Store

TEMPORARY = re.compile(r"^\.[0-9a-f]{8}-(.+)$")
# Written last, and so removed first: what is left of a folder without it passes for nothing.
MARKERS = (ARTIFACT_FILE, "stems.json")
# Not what the stages made: their scratch, and Dagster's own database.
APART = ("work", "dagster")
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


def files(store: Store, tops: Sequence[str] = ()) -> dict[str, Stat]:
    """Files of a store by their URI, sorted; without scratch and Dagster's database.

    Args:
        store: Which.
        tops: Only what is in these folders of the root; all by default.
    """
    found = dict(_local_files(Path(store.base.path), tops) if store.is_local else _remote_files(store, tops))
    return dict(sorted(found.items()))


def _local_files(root: Path, tops: Sequence[str]) -> Iterator[tuple[str, Stat]]:
    for folder, folders, names in os.walk(root):
        if Path(folder) == root:
            folders[:] = [f for f in folders if f not in APART and (not tops or f in tops)]
        for name in names:
            path = Path(folder) / name
            # Another run may rename or remove it meanwhile.
            with contextlib.suppress(FileNotFoundError):
                status = path.stat(follow_symlinks=False)
                yield path.relative_to(root).as_posix(), Stat(status.st_size, status.st_mtime)


def _remote_files(store: Store, tops: Sequence[str]) -> Iterator[tuple[str, Stat]]:
    base = store.base
    for start in [base / top for top in tops] or [base]:
        found: Any = base.fs.find(start.path, detail=True) if start.exists() else {}
        for path, info in found.items():
            uri = path.removeprefix(base.path.rstrip("/")).lstrip("/")
            if uri.split("/")[0] not in APART:
                yield uri, Stat(int(info["size"]), _modified(info))


def _modified(info: dict[str, Any]) -> float:
    # fsspec's file systems call it differently.
    for name in ("mtime", "LastModified", "last_modified", "updated", "created"):
        value = info.get(name)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    return float("inf")


def temporary_folders(store: Store) -> Iterator[tuple[str, Stat]]:
    """Unfinished folders of a local store, empty ones too; their age is that of what was written last."""
    root = Path(store.base.path)
    for folder, folders, _ in os.walk(root) if store.is_local else ():
        if Path(folder) == root:
            folders[:] = [f for f in folders if f not in APART]
        for name in [f for f in folders if TEMPORARY.match(f)]:
            folders.remove(name)
            path = Path(folder) / name
            yield path.relative_to(root).as_posix(), Stat(0, newest(path))


def newest(path: Path) -> float:
    """When a local file or anything in a folder was last written; infinite when it is gone."""
    times = []
    for part in [path, *path.rglob("*")]:
        with contextlib.suppress(FileNotFoundError):
            times.append(part.stat(follow_symlinks=False).st_mtime)
    return max(times, default=float("inf"))


def final(uri: str) -> str:
    """What a temporary becomes when it is whole; any other URI as it is."""
    return "/".join(m[1] if (m := TEMPORARY.match(part)) else part for part in uri.split("/"))


def is_of(uri: str, track_id: str) -> bool:
    """Whether a path is of one track: a part of it is the track's name, with any suffix, finished or not."""
    return any(part.split(".")[0] == track_id for part in final(uri).split("/"))


def lock_name(uri: str) -> str:
    """The lock that whoever writes this holds; a URI of its own for what is written in moments, without one."""
    parts = final(uri).split("/")
    top = parts[0]
    if top == "raw":
        return f"raw/{parts[-1].split('.')[0]}"
    if top == "dataset" and (len(parts) < 2 or parts[1] == "shards" or parts[1].endswith(".json")):
        return "dataset"
    if top in ("catalogue.parquet", "forgotten.json"):
        return "catalogue"
    depth = {"stems": 3, "features": 3, "samples": 3, "evaluations": 3, "releases": 3, "models": 4}
    return "/".join(parts[: depth.get(top, 2)])


@contextmanager
def holding(store: Store, names: Sequence[str], timeout_s: float = 0.0) -> Iterator[bool]:
    """Holds all these locks if they can be had; says whether."""
    with ExitStack() as stack:
        try:
            for name in sorted(set(names)):
                stack.enter_context(store.lock(name, timeout_s))
            free = True
        except TransientError:
            free = False
        except OSError as error:
            # Nobody writes to a store where not even a lock can be written.
            if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise
            free = True
        yield free


def remove(store: Store, uri: str) -> bool:
    """Takes a file or folder away; what is gone already is no error. Says whether anything was there."""
    path = UPath(store.work_base / uri[5:]) if uri.startswith("work/") else store.at(uri)
    if not path.exists():
        return False
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return True
    for name in MARKERS:
        (path / name).unlink(missing_ok=True)
    if store.is_local or uri.startswith("work/"):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path.path)
    else:
        path.fs.rm(path.path, recursive=True)
    return True
