"""Checks a whole store; what another run is writing is neither reported nor touched.

Whoever writes for longer than a moment holds the lock of what it writes, and a killed holder releases it. So a
finding is confirmed under that lock by a second look. What is written without a lock takes moments, and is left
alone for an hour. Locks belong to one machine: where several machines write to a store, check and repair it
while none of them does.
"""

from __future__ import annotations

from collections.abc import Iterator

from tqdm.auto import tqdm

from melodygan_core import catalogue
from melodygan_core.errors import InputError
from melodygan_core.maintenance.check import artifacts, dataset, leftovers, tracks
from melodygan_core.maintenance.check.report import Finding, Report, Snapshot, Unit
from melodygan_core.storage import Store
from melodygan_core.storage.listing import store_files


def check_store(store: Store, *, hashes: bool = True) -> Report:
    """Checks everything in a store; changes nothing.

    Args:
        store: A local folder or any fsspec URI.
        hashes: Whether to compare contents with their hashes, which reads every byte. Otherwise only existence,
            sizes, and the parts that name other parts.

    Raises:
        InputError: the store does not exist.
    """
    store.require_exists()
    snapshot = take_snapshot(store, hashes)
    findings: list[Finding] = []
    repairable = set()
    busy = 0
    for unit in tqdm(list(units(snapshot)), desc="check", unit="unit", mininterval=1.0):
        # Most units are good: the lock is only taken to confirm a finding.
        if not unit.check():
            continue
        with store.try_locks(unit.locks) as free:
            found = unit.check() if free else []
        busy += not free
        findings += found
        if any(f.remove for f in found):
            repairable.add(unit.name)
    size = sum(s.bytes for s in snapshot.files.values())
    return Report(tuple(findings), len(snapshot.files), size, busy, hashes, frozenset(repairable))


def take_snapshot(store: Store, hashes: bool) -> Snapshot:
    """The files of a store as they are now."""
    try:
        forgotten = frozenset(catalogue.forgotten(store))
    except InputError:
        forgotten = frozenset()  # The damaged list is its own finding.
    return Snapshot(store, store_files(store), hashes, forgotten)


def units(snapshot: Snapshot) -> Iterator[Unit]:
    """Everything to check, in the order of the stages."""
    for part in (tracks, dataset, artifacts, leftovers):
        yield from part.units(snapshot)
