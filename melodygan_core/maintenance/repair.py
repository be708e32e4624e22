"""Removes what a check found incomplete, damaged, stale or orphaned, so that the next run makes it again."""

from __future__ import annotations

from melodygan_core.maintenance.check.report import Report, Snapshot, Unit
from melodygan_core.maintenance.check.run import take_snapshot, units
from melodygan_core.storage import Store


def repair_store(store: Store, report: Report) -> list[str]:
    """Removes what can be made again.

    Each finding is confirmed once more under the lock of its writer. What is good stays, and so does what
    another run holds.

    Args:
        store: The store that was checked.
        report: What `check_store` returned.

    Returns:
        URIs of what was removed.
    """
    snapshot = take_snapshot(store, report.hashed)
    removed = _repair(snapshot, [u for u in units(snapshot) if u.name in report.repairable])
    # Records, datasets and indexes may have named what is gone now.
    while removed and (more := _repair(after := take_snapshot(store, False), list(units(after)))):
        removed += more
    return removed


def _repair(snapshot: Snapshot, found: list[Unit]) -> list[str]:
    store = snapshot.store
    removed: list[str] = []
    for unit in found:
        if not any(f.remove for f in unit.check()):
            continue
        with store.try_locks(unit.locks) as free:
            uris = [uri for f in unit.check() for uri in f.remove] if free else []
            removed += [uri for uri in dict.fromkeys(uris) if store.remove(store.locate(uri))]
    return removed
