"""Checks the dataset: indexes, shards, versions, splits, groups and the report."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from melodygan_core.config import SPLITS
from melodygan_core.dataset import index
from melodygan_core.maintenance.check.report import (
    UNREADABLE,
    Finding,
    Snapshot,
    Unit,
    read_object,
    repair_sentence,
    short,
)
from melodygan_core.storage import kinds
from melodygan_core.storage.kinds import DATASET, GROUPS, REPORT, SHARDS, Kind

INDEX = "index.parquet"
SHARD_SUFFIX = ".arrow"


def units(snapshot: Snapshot) -> Iterator[Unit]:
    """What all versions of the dataset share, then the shards that each version names."""
    for uri, parsed in snapshot.of(SHARDS).items():
        yield Unit(uri, (parsed.lock,), partial(_shards, snapshot, uri))
    for uri, parsed in snapshot.of(DATASET).items():
        if f"{uri}/{DATASET.marker}" in snapshot.files:
            locks = SHARDS.lock, parsed.lock
            yield Unit(f"{uri}/tracks.parquet", locks, partial(_version, snapshot, uri))
    yield Unit(kinds.SPLITS.path, (kinds.SPLITS.lock,), partial(_splits, snapshot))
    for kind in (GROUPS, REPORT):
        yield Unit(kind.path, (kind.lock,), partial(_object, snapshot, kind))


def shards_of(snapshot: Snapshot, uri: str) -> set[str]:
    """URIs of the shards that a version of the dataset names."""
    store = snapshot.store
    folder = read_object(store, store.at(f"{uri}/manifest.json"))["shards"]
    with store.reading(store.at(f"{uri}/tracks.parquet")) as path:
        shards = pq.read_table(path, columns=["shard"])["shard"].to_pylist()
    return {f"{folder}/{name}" for name in shards}


def shards_in(snapshot: Snapshot, folder: str) -> list[str]:
    """URIs of the finished shards in a folder of shards."""
    files = (name for name in snapshot.inside(folder) if "/" not in name and not name.startswith("."))
    return [f"{folder}/{name}" for name in files if name.endswith(SHARD_SUFFIX)]


def open_shard(snapshot: Snapshot, uri: str) -> pa.Table:
    """A shard, mapped into memory.

    Raises:
        OSError, ArrowException: it is damaged.
    """
    with snapshot.store.reading(snapshot.store.at(uri)) as path:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _named(snapshot: Snapshot) -> set[str] | None:
    """Every shard that some version of the dataset names; None where a version cannot be read."""
    named = set()
    for uri in snapshot.of(DATASET):
        if snapshot.store.at(f"{uri}/{DATASET.marker}").exists():
            try:
                named |= shards_of(snapshot, uri)
            except UNREADABLE:
                return None
    return named


def _shards(snapshot: Snapshot, folder: str) -> list[Finding]:
    store = snapshot.store
    listing, again = f"{folder}/{INDEX}", repair_sentence("the index", SHARDS.remake)
    try:
        entries = index.load(store, store.at(folder))
    except UNREADABLE as error:
        return [Finding(listing, "damaged", f"cannot be read ({short(error)}); {again}", (listing,))]
    found = []
    named = {f"{folder}/{e.shard}" for e in entries.values() if e.shard}
    for uri in sorted(named):
        if not store.at(uri).exists():
            found.append(Finding(uri, "missing", f"{listing} names it; {again}", (listing,)))
            continue
        own = [e for e in entries.values() if uri == f"{folder}/{e.shard}"]
        if reason := _row_problem(snapshot, uri, own):
            both = repair_sentence("it and the index", SHARDS.remake)
            found.append(Finding(uri, "damaged", f"{reason}; {both}", (uri, listing)))
    versions = _named(snapshot)
    for uri in shards_in(snapshot, folder):
        # A missing index names nothing, and its shards are packed again under the same names.
        known = versions is None or uri in versions or uri in named
        if not known and snapshot.quiet(uri):
            what = "neither the index nor a version names it; repair removes it"
            found.append(Finding(uri, "orphaned", what, (uri,)))
    return found


def _row_problem(snapshot: Snapshot, uri: str, entries: list[index.Entry]) -> str:
    """How a shard differs from its index, which has the number of rows and the sums of each track."""
    try:
        table = open_shard(snapshot, uri)
        for entry in entries:
            rows = table.slice(entry.row_start, entry.rows)
            if rows.num_rows != entry.rows or set(rows["track_id"].to_pylist()) - {entry.track_id}:
                return f"does not hold the {entry.rows} rows of {entry.track_id}"
            if snapshot.hashes and not index.adds_up(rows, entry):
                return f"the values of {entry.track_id} have changed: their sums differ from the index"
    except UNREADABLE as error:
        return f"cannot be read ({short(error)})"
    return ""


def _version(snapshot: Snapshot, uri: str) -> list[Finding]:
    store = snapshot.store
    if not store.at(f"{uri}/{DATASET.marker}").exists():
        return []
    try:
        shards = sorted(shards_of(snapshot, uri))
        missing = [s for s in shards if not store.at(s).exists()]
        damaged = [s for s in shards if s not in missing and _row_problem(snapshot, s, [])]
        with store.reading(store.at(f"{uri}/tracks.parquet")) as path:
            tracks = set(pq.read_table(path, columns=["track_id"])["track_id"].to_pylist())
    except UNREADABLE as error:
        again = repair_sentence("the folder", DATASET.remake)
        return [Finding(uri, "damaged", f"cannot be read ({short(error)}); {again}", (uri,))]
    if damaged:
        again = repair_sentence(f"it and {uri}", DATASET.remake)
        return [Finding(s, "damaged", f"cannot be read; {again}", (s, uri)) for s in damaged]
    if missing:
        again = repair_sentence("that version", DATASET.remake)
        return [Finding(s, "missing", f"{uri} names it; {again}", (uri,)) for s in missing]
    if tracks & snapshot.forgotten:
        listed = ", ".join(sorted(tracks & snapshot.forgotten))
        return [Finding(uri, "orphaned", f"lists the forgotten {listed}: run `melodygan forget` again")]
    return []


def _splits(snapshot: Snapshot) -> list[Finding]:
    path = snapshot.store.splits()
    try:
        if path.exists() and not set(read_object(snapshot.store, path).values()) <= set(SPLITS):
            raise ValueError(f"a split must be one of {', '.join(SPLITS)}")
    except UNREADABLE as error:
        # New splits would test on tracks that models were trained on.
        what = f"cannot be read ({short(error)}): restore it from a backup"
        return [Finding(kinds.SPLITS.path, "damaged", what)]
    return []


def _object(snapshot: Snapshot, kind: Kind) -> list[Finding]:
    path: UPath = snapshot.store.path(kind)
    try:
        if path.exists():
            read_object(snapshot.store, path)
    except UNREADABLE as error:
        what = f"cannot be read ({short(error)}); {repair_sentence('it', kind.remake)}"
        return [Finding(kind.path, "damaged", what, (kind.path,))]
    return []
