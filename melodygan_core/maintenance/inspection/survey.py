"""One pass over a store, and mending what it found.

What another run is writing is neither reported nor touched: whoever writes for longer than a moment holds the
lock of what it writes (a killed holder frees it), so a bad verdict is only given, and anything is only removed,
under that lock, after a second look. What is written without one takes moments, and is let alone for an hour.
Locks are of one machine: where several write one store, mend while none of them does.
"""

from __future__ import annotations

from collections.abc import Iterator

from tqdm.auto import tqdm

from melodygan_core import catalogue
from melodygan_core.errors import InputError
from melodygan_core.maintenance.inspection import artifacts, data, leftovers, tracks
from melodygan_core.maintenance.inspection.listing import files, holding, remove
from melodygan_core.maintenance.inspection.report import Finding, Place, Report, Unit
from melodygan_core.storage.store import Store


def inspect(store: Store, *, hashes: bool = True) -> Report:
    """Looks at everything that a store holds; changes nothing.

    Args:
        store: A local folder or any fsspec URI.
        hashes: Compare contents with their hashes: reads every byte. Without, only what is there, its sizes,
            and the parts of it that name other parts.
    """
    place = _place(store, hashes)
    findings: list[Finding] = []
    repairable = set()
    busy = 0
    for unit in tqdm(list(_units(place)), desc="doctor", unit="thing", mininterval=1.0):
        # Most is whole: a lock is only taken to look again at what is not.
        if not unit.check():
            continue
        with holding(store, unit.locks) as free:
            found = unit.check() if free else []
        busy += not free
        findings += found
        if any(f.remove for f in found):
            repairable.add(unit.name)
    size = sum(s.bytes for s in place.files.values())
    return Report(tuple(findings), len(place.files), size, busy, hashes, frozenset(repairable))


def repair(store: Store, report: Report) -> list[str]:
    """Removes what an inspection found torn, damaged, stale or orphaned, so that the next run makes it again.

    Every finding is confirmed once more under the lock of whoever writes it; what is whole stays, and what
    another run holds stays, too.

    Args:
        store: That was inspected.
        report: What `inspect` said.

    Returns:
        URIs of what was removed.
    """
    place = _place(store, report.hashed)
    removed = _mend(place, [u for u in _units(place) if u.name in report.repairable])
    # What is gone now may have been named by others: a record, a dataset, an index.
    while removed and (more := _mend(after := _place(store, hashes=False), list(_units(after)))):
        removed += more
    return removed


def _mend(place: Place, units: list[Unit]) -> list[str]:
    removed: list[str] = []
    for unit in units:
        if not any(f.remove for f in unit.check()):
            continue
        with holding(place.store, unit.locks) as free:
            uris = [uri for f in unit.check() for uri in f.remove] if free else []
            removed += [uri for uri in dict.fromkeys(uris) if remove(place.store, uri)]
    return removed


def _place(store: Store, hashes: bool) -> Place:
    try:
        stones = frozenset(catalogue.forgotten(store))
    except InputError:
        stones = frozenset()  # Damaged: its own finding.
    return Place(store, files(store), hashes, stones)


def _units(place: Place) -> Iterator[Unit]:
    for part in (tracks, data, artifacts, leftovers):
        yield from part.units(place)
