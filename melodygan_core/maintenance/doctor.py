"""What `melodygan doctor` prints about a store: its findings, the repair, and a summary."""

from __future__ import annotations

from melodygan_core.maintenance import check, erasure
from melodygan_core.maintenance.check import BAD, Report
from melodygan_core.maintenance.erasure.sentences import listed
from melodygan_core.maintenance.repair import repair_store
from melodygan_core.storage import Store


def verify(root: str, *, quick: bool, repair: bool) -> tuple[list[str], bool]:
    """Checks a store, and repairs it if asked.

    Args:
        root: Folder or URI of the store.
        quick: Hash nothing.
        repair: Remove what is incomplete, damaged or not needed.

    Returns:
        Lines for the user, the summary last; and whether the store is good, or was repaired.

    Raises:
        InputError: the store does not exist.
    """
    store = Store(root)
    report = check.check_store(store, hashes=not quick)
    lines = []
    for kind in dict.fromkeys(f.kind for f in report.findings):
        lines += _section(kind, [f"{f.path}: {f.sentence}" for f in report.of(kind)])
    if not report.of("damaged"):
        lines += _section("made from forgotten tracks", [erasure.mark_line(m) for m in erasure.marks(store)])
    if older := check.older_models(store):
        lines.append(f"superseded: {older}")
    if not repair:
        return [*lines, summary(report)], report.good
    removed = repair_store(store, report)
    lines += _section("repaired (`melodygan run` makes what is needed again); removed", removed)
    after = check.check_store(store, hashes=False)
    # A finding by hash that is still there was held by another run.
    stayed = [f for f in report.of(*BAD) if f.remove and not set(f.remove) & set(removed)]
    return [*lines, summary(after)], after.good and not stayed


def summary(report: Report) -> str:
    """A report on one line."""
    parts = [f"{len(report.of(k))} {k}" for k in BAD if report.of(k)] or ["nothing incomplete or damaged"]
    parts += [f"{len(report.of(k))} {k}" for k in ("stale", "orphaned", "superseded") if report.of(k)]
    parts += [f"{report.busy} not checked because another run is writing them"] if report.busy else []
    checked = "verified" if report.hashed else "checked without hashes"
    return f"store: {report.files} files, {_size(report.bytes)} {checked}, {', '.join(parts)}"


def _section(title: str, found: list[str]) -> list[str]:
    return [f"{title}: {len(found)}", *listed(found)] if found else []


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
