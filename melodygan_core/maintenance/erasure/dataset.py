"""Removes tracks from the dataset: from shards, indexes, splits and groups, and the versions that list them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from upath import UPath

from melodygan_core.dataset import index, leakage
from melodygan_core.dataset.index import Entry
from melodygan_core.maintenance.check import artifacts
from melodygan_core.maintenance.check.dataset import INDEX, open_shard, shards_in, shards_of
from melodygan_core.maintenance.check.report import UNREADABLE, Snapshot
from melodygan_core.maintenance.erasure import lineage
from melodygan_core.storage import Store
from melodygan_core.storage.kinds import DATASET, SHARDS

WAIT_S = 3600.0


def remove_tracks(store: Store, ids: set[str]) -> list[str]:
    """Removes tracks from everything in `dataset/`, whatever its features; rows of other tracks stay equal.

    A shard with a track is rewritten without it, under a new name. A version of the dataset that lists a track,
    or names such a shard, is removed with its record; the next assembly makes it again as far as possible.

    Returns:
        URIs of what was removed or rewritten.
    """
    with store.lock(SHARDS.lock, WAIT_S):
        snapshot = lineage.artifact_snapshot(store)
        folders = list(snapshot.of(SHARDS))
        indexes = {folder: _entries(store, folder) for folder in folders}
        old = {f: [s for s in shards_in(snapshot, f) if _has(snapshot, s, ids)] for f in folders}
        versions = _versions(snapshot, ids, {s for found in old.values() for s in found})
        known = lineage.read_lineage(snapshot)
        lineage.leave(store, [a for a in known.present if a.uri in versions], known)
        # Without a readable index the other tracks of a group are unknown: the group stays.
        all_known = None not in indexes.values()
        packed = [e for found in indexes.values() if found for e in found.values()]
        sounds = _sounds(store, ids)
        changed = _remove_groups(store, ids, packed, sounds, all_known)
        sounds |= {e.group for e in packed if e.track_id in ids}
        gone = sounds - {e.group for e in packed if e.track_id not in ids}
        for folder, entries in indexes.items():
            if entries is not None:
                changed += _rewrite(snapshot, folder, entries, old[folder], ids)
            elif store.remove(store.at(damaged := f"{folder}/{INDEX}")):
                changed.append(damaged)
            changed += _rewrite_health(store, folder, old[folder], ids, gone)
        for uri in versions:
            with store.lock_for(store.at(uri), WAIT_S):
                changed += artifacts.drop(store, uri)
        for uri in (s for found in old.values() for s in found):
            changed += [uri] if store.remove(store.at(uri)) else []
        return changed


def holds(path: Path, ids: set[str]) -> bool:
    """Whether a local shard has, or may have because it is damaged, rows of some tracks."""
    try:
        with pa.memory_map(str(path)) as source:
            column = pa.ipc.open_file(source).read_all()["track_id"]
            return bool(ids & set(column.unique().to_pylist()))
    except (OSError, KeyError, pa.ArrowException):
        return True


def _entries(store: Store, folder: str) -> dict[str, Entry] | None:
    """The index of a folder of shards; None where it is damaged and must be built again."""
    try:
        return index.load(store, store.at(folder))
    except UNREADABLE:
        return None


def _has(snapshot: Snapshot, uri: str, ids: set[str]) -> bool:
    with snapshot.store.reading(snapshot.store.at(uri)) as path:
        return holds(path, ids)


def _versions(snapshot: Snapshot, ids: set[str], shards: set[str]) -> list[str]:
    """Versions of the dataset that list a track or name a shard, and those that cannot be read."""
    found = []
    for uri in snapshot.of(DATASET):
        try:
            listed = lineage.tracks_in(snapshot.store, uri).keys()
            complete = f"{uri}/{DATASET.marker}" in snapshot.files
            if not complete or ids & listed or shards & shards_of(snapshot, uri):
                found.append(uri)
        except UNREADABLE:
            found.append(uri)
    return found


def _remove_groups(
    store: Store, ids: set[str], entries: list[Entry], own: set[str], all_known: bool
) -> list[str]:
    """Removes groups that only these tracks were in; all other groups keep their split."""
    groups = _read(store, store.groups(), {"sounds": {}, "kept": {}})
    splits = _read(store, store.splits(), {})

    def group_of(sound: str) -> str:
        return groups["sounds"].get(sound, [sound])[0]

    others = {e.group for e in entries if e.track_id not in ids}
    gone = {e.group for e in entries if e.track_id in ids} | own if all_known else set()
    needed = others | {group_of(sound) for sound in others}
    unused = (gone | {group_of(sound) for sound in gone}) - needed
    changed = _write(store, store.splits(), splits, {g: s for g, s in splits.items() if g not in unused})
    sounds = {s: d for s, d in groups["sounds"].items() if s not in gone - others}
    remaining = {g: t for g, t in groups["kept"].items() if t not in ids}
    changed += _write(store, store.groups(), groups, {**groups, "sounds": sounds, "kept": remaining})
    report = store.dataset_report()
    # It describes the last assembly; the next one writes it again.
    if report.exists() and any(
        f'"{t}"' in (text := report.read_text("utf-8")) or f"{t} (" in text for t in ids
    ):
        store.remove(report)
        changed.append(store.uri(report))
    return changed


def _sounds(store: Store, ids: set[str]) -> set[str]:
    found = set()
    for path in (store.raw_json(t) for t in ids):
        if path.exists():
            try:
                found.add(index.sound_of(store.read_json(path)))
            except UNREADABLE:
                continue  # Damaged; the indexes have the sound, too.
    return found


def _rewrite(
    snapshot: Snapshot, folder: str, entries: dict[str, Entry], old: list[str], ids: set[str]
) -> list[str]:
    """Packs the other tracks of some shards again, then saves the index without the removed tracks."""
    store = snapshot.store
    remaining = {t: e for t, e in entries.items() if t not in ids}
    for uri in old:
        name = uri.rsplit("/", maxsplit=1)[-1]
        staying = sorted((e for e in remaining.values() if e.shard == name), key=lambda e: e.row_start)
        try:
            table = open_shard(snapshot, uri)
        except UNREADABLE:
            # The features of tracks that are not in the index are packed again.
            remaining = {t: e for t, e in remaining.items() if e.shard != name}
            continue
        if staying:
            # Taken, not sliced: a slice may be written with the rows around it.
            rows = [table.take(pa.array(np.arange(e.row_start, e.row_start + e.rows))) for e in staying]
            index.pack(store, store.at(folder), list(zip(staying, rows, strict=True)))
    if not old and remaining.keys() == entries.keys():
        return []
    index.save(store, store.at(folder), remaining)
    return [f"{folder}/{INDEX}"]


def _rewrite_health(store: Store, folder: str, old: list[str], ids: set[str], gone: set[str]) -> list[str]:
    """Removes figures of rewritten shards, removed tracks and sounds; missing ones are computed again."""
    path = store.dataset_health(store.at(folder).name)
    try:
        before: dict[str, Any] = _read(store, path, {})
        near = before.get(leakage.NEAR, {})
        after = {
            "shards": {n: f for n, f in before.get("shards", {}).items() if f"{folder}/{n}" not in old},
            "tracks": {t: f for t, f in before.get("tracks", {}).items() if t not in ids},
            leakage.NEAR: {
                s: {o: error for o, error in others.items() if o not in gone}
                for s, others in near.items()
                if s not in gone
            },
        }
        return _write(store, path, before, after) if before else []
    except UNREADABLE:
        return [store.uri(path)] if store.remove(path) else []


def _read(store: Store, path: UPath, default: dict[str, Any]) -> dict[str, Any]:
    return store.read_json(path) if path.exists() else default


def _write(store: Store, path: UPath, before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    if after == before:
        return []
    store.write_json(path, after)
    return [store.uri(path)]
