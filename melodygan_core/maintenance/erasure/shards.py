"""The dataset without some tracks: shards written anew, indexes, splits, and the versions that had them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from upath import UPath

from melodygan_core.dataset import index
from melodygan_core.dataset.index import Entry
from melodygan_core.maintenance.erasure import marking
from melodygan_core.maintenance.inspection import artifacts, data
from melodygan_core.maintenance.inspection.listing import remove
from melodygan_core.maintenance.inspection.report import Place
from melodygan_core.maintenance.inspection.tracks import UNREADABLE
from melodygan_core.storage.store import Store

WAIT_S = 3600.0


def take_out(store: Store, ids: set[str]) -> list[str]:
    """Takes tracks out of everything in `dataset/`, whatever the features; the rows of others stay as they are.

    A shard with a track is written anew without it, under its new name. A version of the dataset that lists a
    track, or names such a shard, goes with its record; the next assembly makes it again as far as it can be.

    Returns:
        URIs of what was removed or written anew.
    """
    with store.lock("dataset", WAIT_S):
        place = marking.artifact_place(store)
        folders = place.below("dataset/shards", 1)
        indexes = {folder: _entries(store, folder) for folder in folders}
        old = {folder: [s for s in _shards(place, folder) if _has(place, s, ids)] for folder in folders}
        versions = _versions(place, ids, {s for found in old.values() for s in found})
        known = marking.lineage(place)
        marking.leave(store, [a for a in known.there if a.uri in versions], known)
        # With an index that cannot be read nobody knows who else is in a group: it stays.
        all_known = None not in indexes.values()
        packed = [e for found in indexes.values() if found for e in found.values()]
        changed = _undecide(store, ids, packed, all_known)
        for folder, entries in indexes.items():
            if entries is not None:
                changed += _rewrite(place, folder, entries, old[folder], ids)
            elif remove(store, damaged := f"{folder}/{data.INDEX}"):
                changed.append(damaged)
        for uri in versions:
            with store.lock(uri, WAIT_S):
                changed += artifacts.drop(store, uri)
        for uri in (s for found in old.values() for s in found):
            changed += [uri] if remove(store, uri) else []
        return changed


def holds(path: Path, ids: set[str]) -> bool:
    """Whether a local shard has rows of some tracks; one that cannot be read may have."""
    try:
        with pa.memory_map(str(path)) as source:
            column = pa.ipc.open_file(source).read_all()["track_id"]
            return bool(ids & set(column.unique().to_pylist()))
    except (OSError, KeyError, pa.ArrowException):
        return True


def _shards(place: Place, folder: str) -> list[str]:
    return [u for u in place.below(folder, 1) if u.endswith(".arrow")]


def _entries(store: Store, folder: str) -> dict[str, Entry] | None:
    """The index of a folder of shards; None where it is damaged: it goes, and features are packed again."""
    try:
        return index.load(store, store.at(folder))
    except UNREADABLE:
        return None


def _has(place: Place, uri: str, ids: set[str]) -> bool:
    with place.store.reading(place.store.at(uri)) as path:
        return holds(path, ids)


def _versions(place: Place, ids: set[str], shards: set[str]) -> list[str]:
    """Versions of the dataset that list a track or name a shard; those that cannot be read, too."""
    found = []
    for uri in (u for u in artifacts.folders(place) if u.startswith("dataset/")):
        try:
            listed = marking.tracks_in(place.store, uri).keys()
            whole = f"{uri}/artifact.json" in place.files
            if not whole or ids & listed or shards & data.shards_of(place, uri):
                found.append(uri)
        except UNREADABLE:
            found.append(uri)
    return found


def _undecide(store: Store, ids: set[str], entries: list[Entry], all_known: bool) -> list[str]:
    """Takes groups that only these tracks were in out of what was decided for ever; others keep their split."""
    groups = _read(store, store.groups(), {"sounds": {}, "kept": {}})
    splits = _read(store, store.splits(), {})

    def group_of(sound: str) -> str:
        return groups["sounds"].get(sound, [sound])[0]

    others = {e.group for e in entries if e.track_id not in ids}
    gone = {e.group for e in entries if e.track_id in ids} | _sounds(store, ids) if all_known else set()
    alive = others | {group_of(sound) for sound in others}
    dead = (gone | {group_of(sound) for sound in gone}) - alive
    changed = _write(store, store.splits(), splits, {g: s for g, s in splits.items() if g not in dead})
    sounds = {s: d for s, d in groups["sounds"].items() if s not in gone - others}
    kept = {g: t for g, t in groups["kept"].items() if t not in ids}
    changed += _write(store, store.groups(), groups, {**groups, "sounds": sounds, "kept": kept})
    report = store.dataset_report()
    # Of the last assembly, and soon of none: the next one writes it.
    if report.exists() and any(
        f'"{t}"' in (text := report.read_text("utf-8")) or f"{t} (" in text for t in ids
    ):
        remove(store, store.uri(report))
        changed.append(store.uri(report))
    return changed


def _sounds(store: Store, ids: set[str]) -> set[str]:
    found = set()
    for path in (store.raw_json(t) for t in ids):
        if path.exists():
            try:
                found.add(index.sound_of(store.read_json(path)))
            except UNREADABLE:
                continue  # A torn provenance; the indexes have it.
    return found


def _rewrite(place: Place, folder: str, entries: dict[str, Entry], old: list[str], ids: set[str]) -> list[str]:
    """Packs what stays of some shards, then saves the index without the tracks."""
    store = place.store
    kept = {t: e for t, e in entries.items() if t not in ids}
    for uri in old:
        name = uri.rsplit("/", maxsplit=1)[-1]
        staying = sorted((e for e in kept.values() if e.shard == name), key=lambda e: e.row_start)
        try:
            table = data.open_shard(place, uri)
        except UNREADABLE:
            # Not in the index, the others' features are packed again.
            kept = {t: e for t, e in kept.items() if e.shard != name}
            continue
        if staying:
            # Taken, not sliced: a slice may be written with what is around it.
            rows = [table.take(pa.array(np.arange(e.row_start, e.row_start + e.rows))) for e in staying]
            index.pack(store, store.at(folder), list(zip(staying, rows, strict=True)))
    changed = []
    if old or kept.keys() != entries.keys():
        index.save(store, store.at(folder), kept)
        changed.append(f"{folder}/{data.INDEX}")
    health = store.at(f"{folder}/health.json")
    if health.exists() and changed:
        # Figures of shards and tracks, measured again where they are missing.
        before: dict[str, Any] = store.read_json(health)
        after = {
            "shards": {n: f for n, f in before["shards"].items() if f"{folder}/{n}" not in old},
            "tracks": {t: f for t, f in before["tracks"].items() if t not in ids},
        }
        changed += _write(store, health, before, after)
    return changed


def _read(store: Store, path: UPath, default: dict[str, Any]) -> dict[str, Any]:
    return store.read_json(path) if path.exists() else default


def _write(store: Store, path: UPath, before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    if after == before:
        return []
    store.write_json(path, after)
    return [store.uri(path)]
