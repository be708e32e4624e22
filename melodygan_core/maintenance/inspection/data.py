"""The dataset: indexes, the shards that they and the versions of the dataset name, splits and the report."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from melodygan_core.config import SPLITS
from melodygan_core.dataset import index
from melodygan_core.maintenance.inspection.listing import lock_name
from melodygan_core.maintenance.inspection.report import Finding, Place, Unit
from melodygan_core.maintenance.inspection.tracks import UNREADABLE, read_object, short

INDEX = "index.parquet"


def units(place: Place) -> Iterator[Unit]:
    """What all versions of the dataset share, and the shards that each of them names."""
    for folder in place.below("dataset/shards", 1):
        yield Unit(folder, ("dataset",), partial(_shards, place, folder))
    for uri in place.below("dataset", 1):
        if f"{uri}/artifact.json" in place.files:
            yield Unit(f"{uri}/tracks.parquet", ("dataset", lock_name(uri)), partial(_version, place, uri))
    yield Unit("dataset/splits.json", ("dataset",), partial(_splits, place))
    for path in (place.store.groups(), place.store.dataset_report()):
        yield Unit(place.store.uri(path), ("dataset",), partial(_object, place, path))


def shards_of(place: Place, uri: str) -> set[str]:
    """URIs of the shards that a version of the dataset names."""
    folder = read_object(place.store, place.store.at(f"{uri}/manifest.json"))["shards"]
    with place.store.reading(place.store.at(f"{uri}/tracks.parquet")) as path:
        names = pq.read_table(path, columns=["shard"])["shard"].to_pylist()
    return {f"{folder}/{name}" for name in names}


def open_shard(place: Place, uri: str) -> pa.Table:
    """A shard, mapped into memory.

    Raises:
        OSError, ArrowException: it is damaged.
    """
    with place.store.reading(place.store.at(uri)) as path:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _named(place: Place) -> set[str] | None:
    """Every shard that some version of the dataset names; None where one cannot be read."""
    named = set()
    for uri in place.below("dataset", 1):
        if place.store.at(f"{uri}/artifact.json").exists():
            try:
                named |= shards_of(place, uri)
            except UNREADABLE:
                return None
    return named


def _shards(place: Place, folder: str) -> list[Finding]:
    store = place.store
    listing, again = f"{folder}/{INDEX}", "mending removes the index, to pack the features again"
    try:
        entries = index.load(store, store.at(folder))
    except UNREADABLE as error:
        return [Finding(listing, "damaged", f"cannot be read ({short(error)}); {again}", (listing,))]
    found = []
    named = {f"{folder}/{e.shard}" for e in entries.values() if e.shard}
    for uri in sorted(named):
        if not store.at(uri).exists():
            found.append(Finding(uri, "missing", f"{listing} names it; {again}", (listing,)))
        elif reason := _wrong_rows(place, uri, [e for e in entries.values() if uri.endswith(f"/{e.shard}")]):
            found.append(Finding(uri, "damaged", f"{reason}; mending removes it and the index", (uri, listing)))
    versions = _named(place)
    for uri in place.below(folder, 1):
        # An index that is gone names nothing, and its shards are packed again under the same names.
        known = versions is None or uri in versions or uri in named
        if known or not uri.endswith(".arrow") or not place.quiet(uri):
            continue
        found.append(Finding(uri, "orphaned", "no index and no version names it; mending removes it", (uri,)))
    return found


def _wrong_rows(place: Place, uri: str, entries: list[index.Entry]) -> str:
    """What is wrong with a shard; the index knows how many rows each track has, and what they sum to."""
    try:
        table = open_shard(place, uri)
        for entry in entries:
            rows = table.slice(entry.row_start, entry.rows)
            if rows.num_rows != entry.rows or set(rows["track_id"].to_pylist()) - {entry.track_id}:
                return f"does not hold the {entry.rows} rows of {entry.track_id}"
            if place.hashes and not index.adds_up(rows, entry):
                return f"the values of {entry.track_id} do not sum to what was written: they have changed since"
    except UNREADABLE as error:
        return f"cannot be read ({short(error)})"
    return ""


def _version(place: Place, uri: str) -> list[Finding]:
    store = place.store
    if not store.at(f"{uri}/artifact.json").exists():
        return []
    try:
        shards = sorted(shards_of(place, uri))
        missing = [s for s in shards if not store.at(s).exists()]
        damaged = [s for s in shards if s not in missing and _wrong_rows(place, s, [])]
        with store.reading(store.at(f"{uri}/tracks.parquet")) as path:
            tracks = set(pq.read_table(path, columns=["track_id"])["track_id"].to_pylist())
    except UNREADABLE as error:
        return [Finding(uri, "damaged", f"cannot be read ({short(error)}); mending removes the folder", (uri,))]
    if damaged:
        what = f"cannot be read; mending removes it and {uri}, to assemble it again"
        return [Finding(s, "damaged", what, (s, uri)) for s in damaged]
    if missing:
        what = f"{uri} names it; mending removes that version, to assemble it again"
        return [Finding(s, "missing", what, (uri,)) for s in missing]
    if tracks & place.forgotten:
        listed = ", ".join(sorted(tracks & place.forgotten))
        return [Finding(uri, "orphaned", f"lists {listed}, which was forgotten: forget it once more")]
    return []


def _splits(place: Place) -> list[Finding]:
    path = place.store.splits()
    try:
        if path.exists() and not set(read_object(place.store, path).values()) <= set(SPLITS):
            raise ValueError("a split of another name")
    except UNREADABLE as error:
        # Made anew, tracks that were trained on would be tested on.
        uri = place.store.uri(path)
        return [Finding(uri, "damaged", f"cannot be read ({short(error)}): restore it from a backup")]
    return []


def _object(place: Place, path: UPath) -> list[Finding]:
    try:
        if path.exists():
            read_object(place.store, path)
    except UNREADABLE as error:
        uri = place.store.uri(path)
        again = "mending removes it, to decide and say it again"
        return [Finding(uri, "damaged", f"cannot be read ({short(error)}); {again}", (uri,))]
    return []
