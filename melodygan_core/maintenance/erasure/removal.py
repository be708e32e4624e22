"""Forgets tracks: first the tombstone, so that no source brings a track back, then its files, kind by kind.

It may be killed at any time and run again, because each part looks for what still exists. Each part is removed
under the lock of the stage that makes it, so that a stage that is working on the track finishes first.
"""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow.parquet as pq

from melodygan_core import catalogue
from melodygan_core.catalogue import Tombstone, Track
from melodygan_core.errors import InputError
from melodygan_core.maintenance.check import artifacts, leftovers
from melodygan_core.maintenance.check.report import Snapshot
from melodygan_core.maintenance.erasure import copies, dataset, lineage
from melodygan_core.maintenance.erasure.lineage import Mark
from melodygan_core.maintenance.tracks import resolve
from melodygan_core.storage import Store, kinds
from melodygan_core.storage.kinds import ARTIFACTS, COPY, GALLERY, MODEL, SHARD_COPY, USE, Parsed
from melodygan_core.storage.listing import Stat, newest, store_files, unfinished_folders

WAIT_S = 3600.0
# The table of a set that `augment` made: one row for each variation.
TABLE = "metadata.csv"
# Tables that hold something of each track.
TABLES = ("latents.parquet", "plans.parquet")


@dataclass(frozen=True)
class ForgetReport:
    """What `forget` did.

    Attributes:
        track_ids: The forgotten tracks.
        removed: URIs of what was removed, or rewritten without them.
        marks: What was made from them and stays.
        running: Locks of running trainings, whose state was not touched. If they learn from a track, their
            model is marked when it is done; run `forget` again then, to remove their state.
    """

    track_ids: list[str]
    removed: list[str]
    marks: list[Mark]
    running: list[str]


def forget(store: Store, names: Sequence[str]) -> ForgetReport:
    """Removes tracks with everything that they can be heard in or rebuilt from, for good.

    Sources do not list them again until `undo`.

    Removed are raw wavs, stems, features, fingerprints, pictures, variations in augmented sets, their rows in
    every shard, versions of the dataset, latent tables and galleries with them, the state of interrupted
    trainings, results of jobs that were made from their sound, files that were added in the studio, and their
    rows in the catalogue. What stays: models, evaluations, samples, releases and results made with those alone
    (`marks` lists them: weights may hold what was learned, and only training again removes it), Dagster's event
    log, copies outside the store, and a user's own file that a `path:` source names.

    Args:
        store: Whose tracks.
        names: track_ids or URLs.

    Raises:
        InputError: a name is of no track.
        TransientError: a stage held a track for an hour.
    """
    track_ids = resolve(store, names)
    ids = set(track_ids)
    _write_tombstones(store, track_ids)
    removed = dataset.remove_tracks(store, ids)
    removed += _remove_derived(store, ids)
    removed += copies.remove_copies(store, ids)
    removed += _remove_own(store, ids)
    removed += _remove_rows(lineage.artifact_snapshot(store), ids)
    unfinished, running = _remove_unfinished(store, ids)
    found = [m for m in lineage.marks(store) if ids & m.tracks.keys()]
    return ForgetReport(track_ids, sorted({*removed, *unfinished}), found, running)


def undo(store: Store, names: Sequence[str]) -> list[str]:
    """Removes tombstones, so that the next run may list and fetch the tracks again; restores no file.

    Returns:
        The track_ids.

    Raises:
        InputError: a name is of no forgotten track.
    """
    track_ids = resolve(store, names)
    with store.lock_for(store.forgotten()):
        tombstones = catalogue.forgotten(store)
        for track_id in track_ids:
            if tombstones.pop(track_id, None) is None:
                allowed = f"one of the {len(tombstones)} that were forgotten"
                raise InputError(f"track must be {allowed}, got {track_id!r}")
        catalogue.save_forgotten(store, tombstones)
    return track_ids


def _write_tombstones(store: Store, track_ids: Sequence[str]) -> None:
    when = datetime.now(UTC).isoformat(timespec="seconds")
    with store.lock_for(store.forgotten()):
        tracks, tombstones = catalogue.load(store), catalogue.forgotten(store)
        for track_id in track_ids:
            if track_id not in tombstones:
                url = _url(store, track_id, tracks)
                tombstones[track_id] = Tombstone(catalogue.url_sha256(url) if url else "", when)
        catalogue.save_forgotten(store, tombstones)
        rest = [t for t in tracks if t.track_id not in track_ids]
        if rest != tracks:
            catalogue.save(store, rest)


def _url(store: Store, track_id: str, tracks: Sequence[Track]) -> str:
    for track in tracks:
        if track.track_id == track_id:
            return track.url
    for path in (store.raw_json(track_id), store.raw_error(track_id)):
        if path.exists():
            with contextlib.suppress(ValueError, AttributeError):
                return str(store.read_json(path).get("url", ""))
    return ""


def _remove_derived(store: Store, ids: set[str]) -> list[str]:
    """Removes the tables of latents and plans, and the galleries, that were made from tracks."""
    snapshot = lineage.artifact_snapshot(store)
    known = lineage.read_lineage(snapshot)
    by_uri = {a.uri: a for a in known.present}
    removed = []
    for uri, parsed in {**snapshot.of(MODEL), **snapshot.of(GALLERY)}.items():
        tables = [f"{uri}/{name}" for name in TABLES if f"{uri}/{name}" in snapshot.files]
        if parsed.kind is MODEL and not tables:
            continue
        artifact = by_uri.get(uri)
        # An incomplete folder is of no use, and its tracks are unknown: it is removed, too.
        if artifact is not None:
            tracks = (
                _tracks_in(store, tables[0])
                if tables
                else known.tracks_of(artifact.name, artifact.version).keys()
            )
            if not ids & tracks:
                continue
            if tables:
                lineage.leave(store, [artifact], known)
        with store.lock(parsed.lock, WAIT_S):
            removed += artifacts.drop(store, uri)
    return removed


def _tracks_in(store: Store, table: str) -> set[str]:
    with store.reading(store.at(table)) as path:
        return set(pq.read_table(path, columns=["track_id"])["track_id"].unique().to_pylist())


def _remove_own(store: Store, ids: set[str]) -> list[str]:
    """Removes every file and folder that belongs to one of the tracks, finished or not."""
    parsed = [kinds.parse(uri) for uri in (*store_files(store), *(u for u, _ in unfinished_folders(store)))]
    found = {p.track_uri: p.lock for p in parsed if p.track_id in ids}
    removed = []
    for uri, lock in sorted(found.items()):
        with store.lock(lock, WAIT_S):
            removed += [uri] if store.remove(store.at(uri)) else []
    return removed


def _remove_rows(snapshot: Snapshot, ids: set[str]) -> list[str]:
    """Removes the rows of tracks from the tables of augmented sets."""
    store, removed = snapshot.store, []
    gone = {f"{track_id}.wav" for track_id in ids}
    for folder in snapshot.of(USE):
        uri = f"{folder}/{TABLE}"
        if uri not in snapshot.files:
            continue
        reader = csv.DictReader(io.StringIO(store.at(uri).read_text("utf-8")))
        rows = list(reader)
        remaining = [row for row in rows if row.get("source_file") not in gone]
        if len(remaining) < len(rows):
            text = io.StringIO()
            writer = csv.DictWriter(text, reader.fieldnames or [], lineterminator="\n")
            writer.writeheader()
            writer.writerows(remaining)
            with store.writing(store.at(uri)) as temporary:
                temporary.write_text(text.getvalue(), "utf-8")
            removed.append(uri)
    return removed


def _remove_unfinished(store: Store, ids: set[str]) -> tuple[list[str], list[str]]:
    """Removes what killed runs left that may hold a track: scratch, unfinished artifacts, training state.

    Returns:
        URIs of what was removed, and the locks of what another run holds.
    """
    removed, running = [], []
    for uri, lock in _unfinished(store, ids):
        with store.try_locks([lock]) as free:
            if not free:
                running.append(lock)
            elif store.remove(store.locate(uri)):
                removed.append(uri)
    return removed, sorted(set(running))


def _unfinished(store: Store, ids: set[str]) -> Iterator[tuple[str, str]]:
    tracks = lineage.read_lineage(lineage.artifact_snapshot(store)).tracks.values()
    learned = any(ids & listed.keys() for listed in tracks)
    for parsed, path in leftovers.scratch(store):
        if parsed.kind.scratch == "training":
            wanted = learned
        else:
            wanted = parsed.track_id in ids or (_may_hold_any(parsed) and Stat(0, newest(path)).quiet)
        if wanted:
            yield parsed.uri, parsed.lock
    tops = tuple(dict.fromkeys(kind.top for kind in ARTIFACTS))
    uris = (*store_files(store, tops), *(u for u, _ in unfinished_folders(store)))
    unfinished = {p.temporary: p.lock for p in map(kinds.parse, uris) if p.temporary and p.kind.top in tops}
    yield from sorted(unfinished.items())
    for path in sorted(store.work_base.glob(SHARD_COPY.glob.removeprefix("work/"))):
        if dataset.holds(path, ids):
            uri = f"work/{path.relative_to(store.work_base).as_posix()}"
            yield uri, kinds.lock_name(uri)


def _may_hold_any(parsed: Parsed) -> bool:
    """Whether scratch is not of one track: a copy of several, or a catalogue run's."""
    return parsed.kind is COPY or not parsed.track_id
