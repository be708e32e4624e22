"""The evaluations of several families as one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from melodygan_core.storage.store import Artifact

_ORDER = ("floor", "vocoder", "autoencoder", "generated")


def side_by_side(evaluations: Sequence[Artifact]) -> list[dict[str, Any]]:
    """Rows by length of window: the floor and the vocoder's ceiling once, then each family's own.

    Args:
        evaluations: One a family, of one dataset.
    """
    tables = {e.family: e.metrics["table"] for e in evaluations}
    rows: list[dict[str, Any]] = []
    for family, table in tables.items():
        for row in table:
            # The floor, and what the vocoder alone makes, are of no family where all have measured the same.
            shared = row["set"] in ("floor", "vocoder") and all(row in other for other in tables.values())
            named = {"window_s": row["window_s"], "set": row["set"], "family": "" if shared else family, **row}
            if named not in rows:
                rows.append(named)
    return sorted(rows, key=lambda r: (r["window_s"], _ORDER.index(r["set"])))
