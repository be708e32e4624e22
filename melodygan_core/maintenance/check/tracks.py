"""Checks the raw wav, stems and features of each track, and the catalogue."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import partial

import pyarrow.parquet as pq
from upath import UPath

from melodygan_core import catalogue, features
from melodygan_core.features.table import footer
from melodygan_core.maintenance.check.report import (
    UNREADABLE,
    Finding,
    Snapshot,
    Unit,
    difference,
    read_object,
    repair_sentence,
    short,
)
from melodygan_core.storage import Store, kinds
from melodygan_core.storage.kinds import FEATURES, RAW_ERROR, RAW_JSON, RAW_WAV, STEMS, Parsed


def units(snapshot: Snapshot) -> Iterator[Unit]:
    """The catalogue, then everything that belongs to one track."""
    yield Unit(kinds.CATALOGUE.path, (kinds.CATALOGUE.lock,), partial(_catalogue, snapshot))
    listed = _listed(snapshot.store)
    # Provenance, sound and failure of a track have one lock.
    raw = {p.lock: p.track_id for k in (RAW_WAV, RAW_JSON, RAW_ERROR) for p in snapshot.of(k).values()}
    for lock, track_id in sorted(raw.items()):
        yield Unit(lock, (lock,), partial(_raw, snapshot, track_id, listed))
    stems: dict[str, list[str]] = {}
    for uri, parsed in snapshot.of(STEMS).items():
        stems.setdefault(parsed.track_id, []).append(f"{uri}/{STEMS.marker}")
        yield Unit(uri, (parsed.lock,), partial(_stems, snapshot, parsed))
    for uri, parsed in snapshot.of(FEATURES).items():
        yield Unit(uri, (parsed.lock,), partial(_features, snapshot, parsed, stems.get(parsed.track_id, [])))


def _listed(store: Store) -> frozenset[str] | None:
    try:
        return frozenset(t.track_id for t in catalogue.load(store)) if store.catalogue().exists() else None
    except UNREADABLE:
        return None


def _catalogue(snapshot: Snapshot) -> list[Finding]:
    found = []
    store = snapshot.store
    for path, read, remedy in (
        (store.catalogue(), catalogue.load, "restore it, or remove it: the next run lists the sources again"),
        (store.forgotten(), catalogue.forgotten, "restore it, or forget its tracks again"),
    ):
        try:
            read(store)
        except UNREADABLE as error:
            found.append(Finding(store.uri(path), "damaged", f"cannot be read ({short(error)}): {remedy}"))
    return found


def _of_forgotten_track(snapshot: Snapshot, uri: str, track_id: str, remove: tuple[str, ...]) -> list[Finding]:
    if track_id not in snapshot.forgotten:
        return []
    return [Finding(uri, "orphaned", "its track was forgotten; repair removes what is left of it", remove)]


def _raw(snapshot: Snapshot, track_id: str, listed: frozenset[str] | None) -> list[Finding]:
    store = snapshot.store
    wav, provenance, error = store.raw_wav(track_id), store.raw_json(track_id), store.raw_error(track_id)
    both = store.uri(provenance), store.uri(wav)
    failure = store.uri(error)
    found = _of_forgotten_track(snapshot, both[1], track_id, (*both, failure))
    if found:
        return found
    again = repair_sentence("it", RAW_WAV.remake)
    if wav.exists() != provenance.exists():
        present, absent = both if provenance.exists() else both[::-1]
        found.append(Finding(present, "incomplete", f"{absent} does not exist; {again}", (present,)))
    elif wav.exists():
        found += _sound(snapshot, wav, provenance, both)
        if not found and error.exists():
            what = "the track was fetched after it had failed; repair removes the record of the failure"
            found.append(Finding(failure, "orphaned", what, (failure,)))
        if listed is not None and track_id not in listed:
            found.append(Finding(both[1], "orphaned", "the catalogue does not list its track; it is kept"))
    if error.exists():
        try:
            str(read_object(store, error)["reason"])
        except UNREADABLE as problem:
            what = f"cannot be read ({short(problem)}); {again}"
            found.append(Finding(failure, "damaged", what, (failure,)))
    return found


def _sound(snapshot: Snapshot, wav: UPath, provenance: UPath, both: tuple[str, str]) -> Iterator[Finding]:
    again = repair_sentence("the track's wav and provenance", RAW_WAV.remake)
    try:
        recorded = read_object(snapshot.store, provenance)
        wrong = difference(snapshot, wav, str(recorded["sha256"]), recorded.get("bytes"))
    except UNREADABLE as error:
        yield Finding(both[0], "damaged", f"cannot be read ({short(error)}); {again}", both)
        return
    if wrong:
        yield Finding(both[1], "mismatch", f"{wrong}; {again}", both)


def _stems(snapshot: Snapshot, parsed: Parsed) -> list[Finding]:
    uri, folder = parsed.uri, snapshot.store.at(parsed.uri)
    found = _of_forgotten_track(snapshot, uri, parsed.track_id, (uri,))
    if found or not folder.exists():
        return found
    again = repair_sentence("the folder", STEMS.remake)
    if not (folder / STEMS.marker).exists():
        what = f"has no {STEMS.marker}, which is written last; {again}"
        return [Finding(uri, "incomplete", what, (uri,))]
    try:
        return list(_stem_problems(snapshot, parsed, again))[:1]
    except UNREADABLE as error:
        return [Finding(uri, "damaged", f"cannot be read ({short(error)}); {again}", (uri,))]


def _stem_problems(snapshot: Snapshot, parsed: Parsed, again: str) -> Iterator[Finding]:
    store, uri = snapshot.store, parsed.uri
    recorded = read_object(store, store.at(uri) / STEMS.marker)
    for stem, facts in recorded["stems"].items():
        path = store.at(uri) / f"{stem}.wav"
        if not path.exists():
            yield Finding(uri, "incomplete", f"has no {stem}.wav; {again}", (uri,))
        elif wrong := difference(snapshot, path, facts["sha256"], facts["bytes"]):
            yield Finding(store.uri(path), "mismatch", f"{wrong}; {again}", (uri,))
    provenance = store.raw_json(parsed.track_id)
    if not provenance.exists():
        yield Finding(uri, "orphaned", "the raw wav that it was made from does not exist; it is kept")
    elif recorded["raw_sha256"] != read_object(store, provenance)["sha256"]:
        yield Finding(uri, "stale", f"was made from a raw wav that has changed; {again}", (uri,))


def _features(snapshot: Snapshot, parsed: Parsed, stems: list[str]) -> list[Finding]:
    uri = parsed.uri
    found = _of_forgotten_track(snapshot, uri, parsed.track_id, (uri,))
    if found or not snapshot.store.at(uri).exists():
        return found
    again = repair_sentence("it", FEATURES.remake)
    try:
        return list(_feature_problems(snapshot, parsed, stems, again))[:1]
    except UNREADABLE as error:
        return [Finding(uri, "damaged", f"cannot be read ({short(error)}); {again}", (uri,))]


def _feature_problems(snapshot: Snapshot, parsed: Parsed, stems: list[str], again: str) -> Iterator[Finding]:
    store, uri = snapshot.store, parsed.uri
    facts = footer(store.at(uri))
    summary = json.loads(facts["summary"]) if "summary" in facts else {}
    with store.reading(store.at(uri)) as local:
        # A table has no hash of its own: decompressing all of it finds most changes.
        rows = features.read(local).num_rows if snapshot.hashes else pq.read_metadata(local).num_rows
    if facts.get("feature_id") != parsed.fields["feature_id"] or rows != summary.get("segments", rows):
        what = f"holds {rows} segments of {facts.get('feature_id')!r}, unlike its name and summary"
        yield Finding(uri, "mismatch", f"{what}; {again}", (uri,))
    present = [hashlib.sha256(store.at(s).read_bytes()).hexdigest() for s in stems if store.at(s).exists()]
    if not present:
        yield Finding(uri, "orphaned", "the stems that it was made from do not exist; it is kept")
    elif facts.get("stems_sha256") not in present:
        yield Finding(uri, "stale", f"was made from stems that have changed; {again}", (uri,))
