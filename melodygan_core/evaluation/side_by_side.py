"""Puts the evaluations of several families into one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from melodygan_core.storage import Artifact

_ORDER = ("real_baseline", "vocoder", "codec", "generated")
# Measured without codec and prior.
_COMMON = ("real_baseline", "vocoder")


def side_by_side(evaluations: Sequence[Artifact]) -> list[dict[str, Any]]:
    """Returns the rows of all evaluations, by window length and set.

    The real baseline and the vocoder appear once, with an empty `pipeline`, where all evaluations measured the
    same. All other rows name their pipeline.

    Args:
        evaluations: One per pipeline, of one dataset.
    """
    tables = {e.group: e.metrics["table"] for e in evaluations}
    rows: list[dict[str, Any]] = []
    for pipeline, table in tables.items():
        for row in table:
            shared = row["set"] in _COMMON and all(row in other for other in tables.values())
            named = {
                "window_s": row["window_s"],
                "set": row["set"],
                "pipeline": "" if shared else pipeline,
                **row,
            }
            if named not in rows:
                rows.append(named)
    return sorted(rows, key=lambda r: (r["window_s"], _ORDER.index(r["set"])))
