"""The evaluations of several families as one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from melodygan_core.store import Artifact

_ORDER = ("floor", "vocoder", "autoencoder", "generated")


def side_by_side(evaluations: Sequence[Artifact]) -> list[dict[str, Any]]:
    """Rows by length of window: the floor and the vocoder's ceiling once, then each family's own.

    Args:
        evaluations: One a family, of one dataset.
    """
    rows: list[dict[str, Any]] = []
    for evaluation in evaluations:
        for row in evaluation.metrics["table"]:
            shared = row["set"] == "floor" or (row["set"] == "vocoder" and _same_vocoder(evaluations))
            family = "" if shared else evaluation.family
            this = {"window_s": row["window_s"], "set": row["set"], "family": family}
            if not any(this.items() <= other.items() for other in rows):
                rows.append({**this, **row})
    return sorted(rows, key=lambda r: (r["window_s"], _ORDER.index(r["set"])))


def _same_vocoder(evaluations: Sequence[Artifact]) -> bool:
    return len({e.inputs["vocoder_checkpoint"] for e in evaluations}) == 1
