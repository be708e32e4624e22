"""What `melodygan forget` prints: what is gone for good, what stays, and what `--undo` restores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from melodygan_core.maintenance.erasure.lineage import Mark
from melodygan_core.maintenance.erasure.removal import ForgetReport
from melodygan_core.storage import Store

# Of a list; a store may hold a million files.
MAX_LISTED = 20
UNDO = "`melodygan forget --undo` restores no file: it only lets the next run fetch"


def confirmation(store: Store, track_ids: Sequence[str]) -> str:
    """The question before tracks are forgotten."""
    them = "it" if len(track_ids) == 1 else "them"
    return (
        f"Remove {', '.join(track_ids)} from {store.root}? Gone for good: raw wavs, stems, features, pictures, "
        f"rows in every dataset, latent tables and galleries. {UNDO} {them} again. Forget {them}"
    )


def describe(report: ForgetReport) -> list[str]:
    """The result, line by line."""
    them = "it" if len(report.track_ids) == 1 else "them"
    lines = [
        f"forgotten: {', '.join(report.track_ids)}; gone for good: {len(report.removed)} files and folders",
        *listed(report.removed),
        f"{UNDO} {them} again, where a source still lists {them}.",
    ]
    models = [m for m in report.marks if m.trained_on]
    if models:
        counts = ", ".join(f"{n} {name}" for name, n in Counter(m.name for m in models).items())
        lines.append(
            f"Kept, and trained on {them} ({counts}); to remove what was learned, train again, then delete the "
            "folders:"
        )
    lines += [f"  {mark.uri}: {mark_line(mark)}" for mark in report.marks]
    if report.running:
        lines.append(
            f"Running, not touched: {', '.join(report.running)}. Run `melodygan forget` again afterwards."
        )
    return lines


def undone(track_ids: Sequence[str]) -> list[str]:
    """The result of `--undo`, line by line."""
    return [
        f"{track_id} may be listed and fetched again by the next run; its files stay removed"
        for track_id in track_ids
    ]


def listed(found: Sequence[str]) -> list[str]:
    """At most MAX_LISTED lines of a list, indented, and how many more there are."""
    more = [f"  and {len(found) - MAX_LISTED} more"] if len(found) > MAX_LISTED else []
    return [*(f"  {line}" for line in found[:MAX_LISTED]), *more]


def mark_line(mark: Mark) -> str:
    """How an artifact depends on forgotten tracks, on one line."""
    roles = {"train": "was trained on", "validation": "was selected with", "test": "was compared with"}
    parts = [
        f"{role} {', '.join(t for t, s in mark.tracks.items() if s == split)}"
        for split, role in roles.items()
        if split in mark.tracks.values()
    ]
    return f"{mark.name} {mark.version} {' and '.join(parts)}"
