"""`forget`: first the tombstone, so that nobody brings the track back; then what is left of it, part by part.

It may be killed anywhere and run again: each part looks for what is there. Every part is taken away under the
lock of the stage that makes it, so that a stage that is at work on the track is waited for.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow.parquet as pq

from melodygan_core import catalogue
from melodygan_core.catalogue import Tombstone, Track
from melodygan_core.errors import InputError
from melodygan_core.maintenance.erasure import marking, shards, uses
from melodygan_core.maintenance.erasure.marking import Mark
from melodygan_core.maintenance.inspection import artifacts, leftovers
from melodygan_core.maintenance.inspection.listing import (
    TEMPORARY,
    Stat,
    files,
    final,
    holding,
    is_of,
    lock_name,
    newest,
    remove,
    temporary_folders,
)
from melodygan_core.storage.store import Store

WAIT_S = 3600.0
# A track's name in these is a mark or a list of sources, no sound; or they are rewritten, not removed.
KEPT = ("samples", "evaluations", "releases", "models", "records", "marks", "dataset")


@dataclass(frozen=True)
class Forgotten:
    """What forgetting came to.

    Attributes:
        track_ids: Which tracks.
        removed: URIs of what was taken away or written anew without them.
        marks: What was made from them and stays.
        running: Trainings that were at work, with state in the store that was not touched: if they learn from a
            track, their model is marked when it is done. Forget once more then, to remove what they left.
    """

    track_ids: list[str]
    removed: list[str]
    marks: list[Mark]
    running: list[str]


def resolve(store: Store, names: Sequence[str]) -> list[str]:
    """The track_ids that names stand for, each once.

    Args:
        store: Whose tracks.
        names: track_ids, or URLs as a source lists them.

    Raises:
        InputError: a name of no track that is or was here.
    """
    tracks, stones = catalogue.load(store), catalogue.forgotten(store)
    ids = {t.track_id for t in tracks} | set(stones)
    urls = {catalogue.url_sha256(t.url): t.track_id for t in tracks}
    urls |= {s.url_sha256: track_id for track_id, s in stones.items() if s.url_sha256}
    found = []
    for name in names:
        url = catalogue.canonical_url(name) if re.match("https?:", name, re.IGNORECASE) else name
        track_id = name if name in ids else urls.get(catalogue.url_sha256(url), "")
        if not track_id and re.fullmatch(r"[A-Za-z0-9_-]+", name) and _left(store, name):
            track_id = name
        if not track_id:
            raise InputError(
                f"track is {name[:200]!r}; allowed: the track_id or url of one of {len(ids)} tracks"
            )
        found.append(track_id)
    return list(dict.fromkeys(found))


def _left(store: Store, track_id: str) -> bool:
    # Of a track that a lost or damaged catalogue does not name.
    return any(
        p.exists() for p in (store.raw_wav(track_id), store.raw_json(track_id), store.raw_error(track_id))
    )


def forget(store: Store, names: Sequence[str]) -> Forgotten:
    """Removes tracks with everything that their sound can be heard in or rebuilt from, and keeps them away.

    Gone are: raw wav, stems, features, fingerprints, pictures, variations in augmented sets; their rows in
    every shard; versions of the dataset, latent tables and galleries with them, and the state of interrupted
    trainings; their row of the catalogue. What stays: models, evaluations, samples, releases and what was made
    with them (`marks` names them: weights may hold what was learned, and only training again is rid of it),
    Dagster's log of events, copies that were made outside the store, and a person's own file that a `path:`
    source names.

    Args:
        store: Where they are.
        names: track_ids or URLs.

    Raises:
        InputError: a name of no track.
        TransientError: a stage held a track for an hour.
    """
    track_ids = resolve(store, names)
    ids = set(track_ids)
    _bury(store, track_ids)
    removed = shards.take_out(store, ids)
    removed += _take_folders(store, ids)
    removed += _take_files(store, ids)
    removed += uses.take_rows(store, marking.artifact_place(store), ids)
    unfinished, running = _take_unfinished(store, ids)
    found = [m for m in marking.marks(store) if ids & m.tracks.keys()]
    return Forgotten(track_ids, sorted({*removed, *unfinished}), found, running)


def recall(store: Store, names: Sequence[str]) -> list[str]:
    """Takes tombstones away: the next run of the catalogue may list the tracks again.

    Raises:
        InputError: a name of no track that was forgotten.
    """
    track_ids = resolve(store, names)
    with store.lock("catalogue"):
        stones = catalogue.forgotten(store)
        for track_id in track_ids:
            if stones.pop(track_id, None) is None:
                raise InputError(
                    f"track is {track_id!r}; allowed: one of the {len(stones)} that were forgotten"
                )
        catalogue.save_forgotten(store, stones)
    return track_ids


def _bury(store: Store, track_ids: Sequence[str]) -> None:
    when = datetime.now(UTC).isoformat(timespec="seconds")
    with store.lock("catalogue"):
        tracks, stones = catalogue.load(store), catalogue.forgotten(store)
        for track_id in track_ids:
            if track_id not in stones:
                url = _url(store, track_id, tracks)
                stones[track_id] = Tombstone(catalogue.url_sha256(url) if url else "", when)
        catalogue.save_forgotten(store, stones)
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


def _take_folders(store: Store, ids: set[str]) -> list[str]:
    """Removes latent tables and galleries that were made from tracks."""
    place = marking.artifact_place(store)
    known = marking.lineage(place)
    by_uri = {a.uri: a for a in known.there}
    removed = []
    for uri in artifacts.folders(place):
        top, *_ = uri.split("/")
        latents = top == "models" and f"{uri}/latents.parquet" in place.files
        if not (latents or top == "gallery"):
            continue
        made = by_uri.get(uri)
        # One without its artifact.json is half of one: nobody can use it, and nobody knows of what it is.
        if made is None or (
            ids & _listed(store, uri) if latents else ids & known.tracks_of(made.name, made.version).keys()
        ):
            if made is not None and latents:
                marking.leave(store, [made], known)
            with store.lock(lock_name(uri), WAIT_S):
                removed += artifacts.drop(store, uri)
    return removed


def _listed(store: Store, uri: str) -> set[str]:
    with store.reading(store.at(f"{uri}/latents.parquet")) as path:
        return set(pq.read_table(path, columns=["track_id"])["track_id"].unique().to_pylist())


def _take_files(store: Store, ids: set[str]) -> list[str]:
    """Removes whatever bears the name of a track, finished or not."""
    found = set()
    for uri in [*files(store), *(u for u, _ in temporary_folders(store))]:
        for track_id in ids:
            if uri.split("/")[0] not in KEPT and is_of(uri, track_id):
                found.add(_root(uri, track_id))
    removed = []
    for uri in sorted(found):
        with store.lock(lock_name(uri), WAIT_S):
            removed += [uri] if remove(store, uri) else []
    return removed


def _root(uri: str, track_id: str) -> str:
    """The file or folder that bears the track's name."""
    parts = uri.split("/")
    depth = next(i for i, part in enumerate(parts) if is_of(part, track_id))
    return "/".join(parts[: depth + 1])


def _take_unfinished(store: Store, ids: set[str]) -> tuple[list[str], list[str]]:
    """Removes what killed runs left that may hold a track: scratch, unfinished folders, state of trainings."""
    removed, running = [], []
    for uri in _unfinished(store, ids):
        locks = leftovers.scratch_locks(uri) if uri.startswith("work/") else (lock_name(uri),)
        with holding(store, locks) as free:
            if not free:
                running.append(locks[0])
            elif remove(store, uri):
                removed.append(uri)
    return removed, sorted(set(running))


def _unfinished(store: Store, ids: set[str]) -> Iterator[str]:
    learned = any(
        ids & tracks.keys() for tracks in marking.lineage(marking.artifact_place(store)).tracks.values()
    )
    for path in leftovers.scratch(store.work_base):
        uri = f"work/{path.relative_to(store.work_base).as_posix()}"
        kind = uri.split("/")[1]
        training = kind not in ("scratch", "separation", "copies")
        # What bears no name of a track is a catalogue run's, older than names, or a copy of more than a track.
        unnamed = kind == "copies" or (not training and "." not in path.name)
        named = any(is_of(leftovers.copied(path.name) if kind == "copies" else path.name, t) for t in ids)
        if named or (training and learned) or (unnamed and Stat(0, newest(path)).quiet):
            yield uri
    tops = tuple(artifacts.FOLDERS)
    unfinished = {_temporary_root(u) for u in files(store, tops) if final(u) != u}
    unfinished |= {u for u, _ in temporary_folders(store) if u.split("/")[0] in tops}
    yield from sorted(unfinished)
    # Copies that this machine made to map shards of a store elsewhere into memory.
    copies = store.work_base / "shards"
    for path in sorted(copies.glob("*.arrow")) if copies.is_dir() else []:
        if shards.holds(path, ids):
            yield f"work/shards/{path.name}"


def _temporary_root(uri: str) -> str:
    parts: list[str] = []
    for part in uri.split("/"):
        parts.append(part)
        if TEMPORARY.match(part):
            break
    return "/".join(parts)
