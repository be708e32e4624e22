"""Copies of a track's sound outside the stages: results of jobs, added files, and waveforms of pages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from melodygan_core import catalogue
from melodygan_core.catalogue import track_id
from melodygan_core.maintenance.check.report import UNREADABLE, read_object
from melodygan_core.maintenance.erasure import lineage
from melodygan_core.storage import Store
from melodygan_core.storage.kinds import ADDED_FILE, SOUND_PEAKS, UNKNOWN, USE, Parsed, parse


def copies_of(store: Store, ids: set[str]) -> list[str]:
    """URIs of results that jobs made from tracks, and of files that were added as these tracks."""
    return sorted({*_uses(store, ids), *_added(store, ids)})


def remove_copies(store: Store, ids: set[str]) -> list[str]:
    """Removes what `copies_of` finds, and the waveforms and spectrograms that pages show.

    Those are of all sounds: they are computed again where a page shows one.

    Returns:
        URIs of what was removed, without those of waveforms.
    """
    removed = [uri for uri in copies_of(store, ids) if store.remove(store.at(uri))]
    store.drop_work(SOUND_PEAKS.uri(sound_id="x").split("/")[1])
    return removed


def _uses(store: Store, ids: set[str]) -> set[str]:
    """Results of jobs that were made from a sound of a track, or from such a result."""
    snapshot = lineage.artifact_snapshot(store)
    inputs: dict[str, list[Parsed]] = {}
    for uri in snapshot.of(USE):
        note = f"{uri}/{USE.marker}"
        if note in snapshot.files:
            try:
                inputs[uri] = list(_inputs(read_object(store, store.at(note)).get("config")))
            except UNREADABLE:
                continue  # Damaged: `doctor` reports it.
    found: set[str] = set()
    while more := {
        uri
        for uri, given in inputs.items()
        if uri not in found and any(part.track_id in ids or part.uri in found for part in given)
    }:
        found |= more
    return found


def _inputs(config: Any) -> Iterator[Parsed]:
    """What a job's settings name of the store: a URI, or a path that ends with one."""
    texts = config.values() if isinstance(config, dict) else ()
    for text in texts:
        parts = text.split("/") if isinstance(text, str) and "/" in text else []
        for count in range(2, min(len(parts), USE.parts + 1) + 1):
            found = parse("/".join(parts[-count:]))
            if found.kind is not UNKNOWN:
                yield found


def _added(store: Store, ids: set[str]) -> Iterator[str]:
    if not store.is_local:
        return
    folder = catalogue.added_files(store)
    for file in sorted(folder.glob("*/*")) if folder.is_dir() else ():
        # Derived, not looked up: the row of the catalogue may be gone already.
        if track_id("local", file.stem, file.resolve().as_uri()) in ids:
            yield ADDED_FILE.uri(file_id=Path(file).parent.name)
