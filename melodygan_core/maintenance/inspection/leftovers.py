"""What killed runs left: temporaries, scratch, state of trainings that are done; pictures of what is gone."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import unquote

from melodygan_core.maintenance.inspection.listing import (
    TEMPORARY,
    Stat,
    final,
    lock_name,
    newest,
    temporary_folders,
)
from melodygan_core.maintenance.inspection.report import Finding, Place, Unit
from melodygan_core.storage.store import ARTIFACT_FILE

ABANDONED = "an unfinished one, whose writer was killed; mending removes it"


def units(place: Place) -> Iterator[Unit]:
    """Temporaries, scratch and pictures."""
    for uri, stat in sorted(_temporaries(place).items()):
        yield Unit(uri, (lock_name(uri),), partial(_temporary, place, uri, stat))
    for path in scratch(place.store.work_base):
        uri = f"work/{path.relative_to(place.store.work_base).as_posix()}"
        yield Unit(uri, scratch_locks(uri), partial(_leftover, place, uri, path))
    uris = list(place.files)
    for uri in uris:
        if uri.startswith("pictures/") and not _has(uris, _pictured(uri)):
            yield Unit(uri, (lock_name(uri),), partial(_picture, place, uri))


def _temporaries(place: Place) -> dict[str, Stat]:
    found = {}
    for uri, stat in place.files.items():
        parts = uri.split("/")
        first = next((i for i, part in enumerate(parts) if TEMPORARY.match(part)), None)
        if first is not None:
            top = "/".join(parts[: first + 1])
            known = found.get(top, Stat(0, 0.0))
            found[top] = Stat(known.bytes + stat.bytes, max(known.modified, stat.modified))
    return dict(temporary_folders(place.store)) | found


def _temporary(place: Place, uri: str, stat: Stat) -> list[Finding]:
    # The lock alone would do for what stages make; records and pictures are written without one.
    if not stat.quiet or not place.store.at(uri).exists():
        return []
    return [Finding(uri, "orphaned", f"{final(uri)}: {ABANDONED}", (uri,))]


def scratch(base: Path) -> Iterator[Path]:
    """Folders of downloads, separations and copies that are used or were left, and state of trainings."""
    if not base.is_dir():
        return
    for folder in sorted(base.iterdir()):
        if folder.name in ("scratch", "copies"):
            yield from sorted(folder.iterdir())
        elif folder.name == "separation":
            yield from sorted(p for model in folder.iterdir() for p in model.iterdir())
        elif folder.name.count(".") == 2:
            yield folder


def scratch_locks(uri: str) -> tuple[str, ...]:
    """Who uses scratch: a training, a stage of the track in its name, the writer of what it copies."""
    _, kind, *rest = uri.split("/")
    if kind == "copies":
        return (lock_name(copied(rest[0])),)
    if kind == "scratch":
        return (f"raw/{rest[0].split('.')[0]}",)
    if kind == "separation":
        return (f"stems/{rest[0]}/{rest[-1].split('.')[0]}",)
    return (f"models/{kind.replace('.', '/')}",)


def copied(name: str) -> str:
    """What of the store a folder of `work/copies` is a copy of."""
    return unquote(name.rsplit(".", 1)[0])


def _leftover(place: Place, uri: str, path: Path) -> list[Finding]:
    if not path.exists():
        return []
    kind = uri.split("/")[1]
    if kind in ("scratch", "separation", "copies"):
        # Catalogue runs use scratch, too, and readers copies, under no lock of their own.
        quiet = Stat(0, newest(path)).quiet
        return [Finding(uri, "orphaned", f"scratch: {ABANDONED}", (uri,))] if quiet else []
    # State of a training that was killed is what it goes on from; of one that is done it is of no use.
    done = place.store.at(f"models/{kind.replace('.', '/')}/{ARTIFACT_FILE}").exists()
    what = "state of a training that is done; mending removes it"
    return [Finding(uri, "orphaned", what, (uri,))] if done else []


def _pictured(uri: str) -> str:
    return uri.removeprefix("pictures/").rsplit(".", maxsplit=1)[0]


def _has(uris: list[str], stem: str) -> bool:
    # Sorted: whatever begins with `stem.` or `stem/` stands where these would.
    return any(
        (i := bisect_left(uris, stem + mark)) < len(uris) and uris[i].startswith(stem + mark) for mark in "./"
    )


def _picture(place: Place, uri: str) -> list[Finding]:
    if not place.quiet(uri) or not place.store.at(uri).exists():
        return []
    return [
        Finding(uri, "orphaned", f"a picture of {_pictured(uri)}, which is gone; mending removes it", (uri,))
    ]
