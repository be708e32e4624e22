"""What there is of each track: raw wav, stems, features; and the catalogue that names them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from melodygan_core import catalogue, features
from melodygan_core.errors import MelodyGANError
from melodygan_core.features.table import footer
from melodygan_core.maintenance.inspection.listing import lock_name
from melodygan_core.maintenance.inspection.report import Finding, Place, Unit
from melodygan_core.storage.store import Store, sha256_of

UNREADABLE = (OSError, ValueError, TypeError, AttributeError, KeyError, pa.ArrowException, MelodyGANError)


def units(place: Place) -> Iterator[Unit]:
    """Everything that is of one track, and the catalogue."""
    yield Unit("catalogue.parquet", ("catalogue",), partial(_catalogue, place))
    listed = _listed(place.store)
    for track_id in sorted({u.split("/")[-1].split(".")[0] for u in place.below("raw", 1)}):
        yield Unit(f"raw/{track_id}", (f"raw/{track_id}",), partial(_raw, place, track_id, listed))
    stems: dict[str, list[str]] = {}
    for uri in place.below("stems", 2):
        stems.setdefault(uri.rsplit("/", maxsplit=1)[-1], []).append(f"{uri}/stems.json")
        yield Unit(uri, (lock_name(uri),), partial(_stems, place, uri))
    for uri in place.below("features", 2):
        track_id = uri.rsplit("/", maxsplit=1)[-1].split(".")[0]
        yield Unit(uri, (lock_name(uri),), partial(_features, place, uri, stems.get(track_id, [])))


def _listed(store: Store) -> frozenset[str] | None:
    try:
        return frozenset(t.track_id for t in catalogue.load(store)) if store.catalogue().exists() else None
    except UNREADABLE:
        return None


def _catalogue(place: Place) -> list[Finding]:
    found = []
    rule = "restore it, or remove it: the next run lists the sources anew"
    for path, read, remedy in (
        (place.store.catalogue(), catalogue.load, rule),
        (place.store.forgotten(), catalogue.forgotten, "restore it, or forget its tracks once more"),
    ):
        try:
            read(place.store)
        except UNREADABLE as error:
            uri = place.store.uri(path)
            found.append(Finding(uri, "damaged", f"cannot be read ({short(error)}): {remedy}"))
    return found


def short(error: BaseException) -> str:
    """An error on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


def read_object(store: Store, path: UPath) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ValueError: it is none.
    """
    value = store.read_json(path)
    if not isinstance(value, dict):
        raise ValueError(f"a {type(value).__name__}, not an object")
    return value


def compare(place: Place, path: UPath, sha256: str, size: int | None) -> str:
    """How a file differs from what was written down of it; empty when it does not."""
    if size is not None and (found := path.stat().st_size) != size:
        return f"has {found} bytes, not the {size} that were written"
    if place.hashes:
        with place.store.reading(path) as local:
            if sha256_of(local) != sha256:
                return "does not have the SHA-256 that was written down: it has changed since"
    return ""


def _gone(place: Place, uri: str, track_id: str, remove: tuple[str, ...]) -> list[Finding]:
    if track_id not in place.forgotten:
        return []
    return [Finding(uri, "orphaned", "its track was forgotten; mending removes what is left", remove)]


def _raw(place: Place, track_id: str, listed: frozenset[str] | None) -> list[Finding]:
    store = place.store
    wav, provenance, error = store.raw_wav(track_id), store.raw_json(track_id), store.raw_error(track_id)
    both = store.uri(provenance), store.uri(wav)
    found = _gone(place, both[1], track_id, (*both, store.uri(error)))
    if found:
        return found
    if wav.exists() != provenance.exists():
        there, other = both if provenance.exists() else both[::-1]
        found.append(
            Finding(there, "torn", f"there is no {other}; mending removes it, to fetch it again", (there,))
        )
    elif wav.exists():
        found += _sound(place, wav, provenance, both)
        if not found and error.exists():
            uri = store.uri(error)
            found.append(
                Finding(uri, "orphaned", "the track was fetched after all; mending removes it", (uri,))
            )
        if listed is not None and track_id not in listed:
            found.append(Finding(both[1], "orphaned", "the catalogue does not name its track; it is kept"))
    if error.exists():
        try:
            str(read_object(store, error)["reason"])
        except UNREADABLE as problem:
            uri = store.uri(error)
            found.append(
                Finding(uri, "damaged", f"cannot be read ({short(problem)}); mending removes it", (uri,))
            )
    return found


def _sound(place: Place, wav: UPath, provenance: UPath, both: tuple[str, str]) -> Iterator[Finding]:
    again = "mending removes it and its provenance, to fetch it again"
    try:
        made = read_object(place.store, provenance)
        difference = compare(place, wav, str(made["sha256"]), made.get("bytes"))
    except UNREADABLE as error:
        yield Finding(both[0], "damaged", f"cannot be read ({short(error)}); {again}", both)
        return
    if difference:
        yield Finding(both[1], "mismatch", f"{difference}; {again}", both)


def _stems(place: Place, uri: str) -> list[Finding]:
    folder = place.store.at(uri)
    found = _gone(place, uri, folder.name, (uri,))
    if found or not folder.exists():
        return found
    again = "mending removes the folder, to separate it again"
    if not (folder / "stems.json").exists():
        return [Finding(uri, "torn", f"has no stems.json, which is written last; {again}", (uri,))]
    try:
        return list(_differing_stems(place, uri, again))[:1]
    except UNREADABLE as error:
        return [Finding(uri, "damaged", f"cannot be read ({short(error)}); {again}", (uri,))]


def _differing_stems(place: Place, uri: str, again: str) -> Iterator[Finding]:
    store, folder = place.store, place.store.at(uri)
    made = read_object(store, folder / "stems.json")
    for stem, facts in made["stems"].items():
        path = folder / f"{stem}.wav"
        if not path.exists():
            yield Finding(uri, "torn", f"has no {stem}.wav; {again}", (uri,))
        elif difference := compare(place, path, facts["sha256"], facts["bytes"]):
            yield Finding(store.uri(path), "mismatch", f"{difference}; {again}", (uri,))
    if not store.raw_json(folder.name).exists():
        yield Finding(uri, "orphaned", "the raw wav that it was made from is not there; it is kept")
    elif made["raw_sha256"] != read_object(store, store.raw_json(folder.name))["sha256"]:
        yield Finding(uri, "stale", f"was made from another raw wav than the present one; {again}", (uri,))


def _features(place: Place, uri: str, stems: list[str]) -> list[Finding]:
    path = place.store.at(uri)
    found = _gone(place, uri, path.stem, (uri,))
    if found or path.suffix != ".parquet" or not path.exists():
        return found
    again = "mending removes it, to extract it again"
    try:
        return list(_differing_features(place, uri, stems, again))[:1]
    except UNREADABLE as error:
        return [Finding(uri, "damaged", f"cannot be read ({short(error)}); {again}", (uri,))]


def _differing_features(place: Place, uri: str, stems: list[str], again: str) -> Iterator[Finding]:
    store, path = place.store, place.store.at(uri)
    facts, made_by = footer(path), uri.split("/")[1]
    summary = json.loads(facts["summary"]) if "summary" in facts else {}
    with store.reading(path) as local:
        # A table has no hash of its own: to unpack all of it finds most of what can have changed.
        rows = features.read(local).num_rows if place.hashes else pq.read_metadata(local).num_rows
    if facts.get("feature_id") != made_by or rows != summary.get("segments", rows):
        what = f"holds {rows} segments of {facts.get('feature_id')!r}, not what its name and summary say"
        yield Finding(uri, "mismatch", f"{what}; {again}", (uri,))
    present = [hashlib.sha256(store.at(s).read_bytes()).hexdigest() for s in stems if store.at(s).exists()]
    if not present:
        yield Finding(uri, "orphaned", "the stems that it was made from are not there; it is kept")
    elif facts.get("stems_sha256") not in present:
        yield Finding(uri, "stale", f"was made from other stems than the present ones; {again}", (uri,))
