"""Checks what killed runs leave behind: unfinished files, scratch, training state, and pictures of nothing."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from melodygan_core.maintenance.check.report import Finding, Snapshot, Unit
from melodygan_core.storage import Store, kinds
from melodygan_core.storage.kinds import ARTIFACT_FILE, KINDS, PICTURE, Parsed
from melodygan_core.storage.listing import Stat, newest, unfinished_folders

UNFINISHED = "unfinished: its writer was killed; repair removes it"


def units(snapshot: Snapshot) -> Iterator[Unit]:
    """Unfinished files and folders, scratch and pictures."""
    for uri, stat in sorted(_unfinished(snapshot).items()):
        yield Unit(uri, (kinds.lock_name(uri),), partial(_temporary, snapshot, uri, stat))
    for parsed, path in scratch(snapshot.store):
        yield Unit(parsed.uri, (parsed.lock,), partial(_scratch, snapshot, parsed, path))
    uris = list(snapshot.files)
    for uri, parsed in snapshot.of(PICTURE).items():
        if not _has(uris, parsed.fields["pictured"]):
            yield Unit(uri, (parsed.lock,), partial(_picture, snapshot, parsed))


def scratch(store: Store) -> Iterator[tuple[Parsed, Path]]:
    """Scratch on this machine, in use or left behind, except for caches and locks."""
    base = store.work_base
    for kind in KINDS:
        if kind.scratch not in ("temporary", "training") or not base.is_dir():
            continue
        for path in sorted(base.glob(kind.glob.removeprefix("work/"))):
            parsed = kinds.parse(f"work/{path.relative_to(base).as_posix()}")
            # A pattern for files matches more than the kind's paths.
            if parsed.kind is kind:
                yield parsed, path


def _unfinished(snapshot: Snapshot) -> dict[str, Stat]:
    found: dict[str, Stat] = {}
    for uri, stat in snapshot.files.items():
        if temporary := kinds.parse(uri).temporary:
            known = found.get(temporary, Stat(0, 0.0))
            found[temporary] = Stat(known.bytes + stat.bytes, max(known.modified, stat.modified))
    return dict(unfinished_folders(snapshot.store)) | found


def _temporary(snapshot: Snapshot, uri: str, stat: Stat) -> list[Finding]:
    # Stages hold a lock while they write; records and pictures are written without one.
    if not stat.quiet or not snapshot.store.at(uri).exists():
        return []
    return [Finding(uri, "orphaned", f"{kinds.final(uri)} is {UNFINISHED}", (uri,))]


def _scratch(snapshot: Snapshot, parsed: Parsed, path: Path) -> list[Finding]:
    if not path.exists():
        return []
    if parsed.kind.scratch == "temporary":
        # The catalogue and readers of copies use scratch without holding its lock.
        quiet = Stat(0, newest(path)).quiet
        return (
            [Finding(parsed.uri, "orphaned", f"{parsed.kind.name}, {UNFINISHED}", (parsed.uri,))]
            if quiet
            else []
        )
    # A killed training resumes from its state; after the training has ended nothing needs it.
    done = snapshot.store.at(f"{parsed.lock}/{ARTIFACT_FILE}").exists()
    what = f"{parsed.kind.name}, and the training has ended; repair removes it"
    return [Finding(parsed.uri, "orphaned", what, (parsed.uri,))] if done else []


def _has(uris: list[str], stem: str) -> bool:
    # Sorted: anything that begins with `stem.` or `stem/` stands where these would.
    return any(
        (i := bisect_left(uris, stem + mark)) < len(uris) and uris[i].startswith(stem + mark) for mark in "./"
    )


def _picture(snapshot: Snapshot, parsed: Parsed) -> list[Finding]:
    uri = parsed.uri
    if not snapshot.quiet(uri) or not snapshot.store.at(uri).exists():
        return []
    what = f"shows {parsed.fields['pictured']}, which does not exist; repair removes it"
    return [Finding(uri, "orphaned", what, (uri,))]
