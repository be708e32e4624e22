"""What lies in a store, who may be writing it, and how it is taken away."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from upath import UPath

from melodygan_core.errors import TransientError
from melodygan_core.storage.listing import Stat, below
from melodygan_core.storage.store import Store

TEMPORARY = re.compile(r"^\.[0-9a-f]{8}-(.+)$")
# Not what the stages made: their scratch, and Dagster's own database.
APART = ("work", "dagster")


def files(store: Store, tops: Sequence[str] = ()) -> dict[str, Stat]:
    """Files of a store by their URI, sorted; without scratch and Dagster's database.

    Args:
        store: Which.
        tops: Only what is in these folders of the root; all by default.
    """
    if not tops:
        return dict(sorted(below(store.base, APART).items()))
    found = {f"{top}/{name}": stat for top in tops for name, stat in below(store.base / top).items()}
    return dict(sorted(found.items()))


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
    return store.remove(UPath(store.work_base / uri[5:]) if uri.startswith("work/") else store.at(uri))
