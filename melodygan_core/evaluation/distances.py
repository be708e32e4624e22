"""Distances of sets of windows to the reference, with intervals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melodygan_core import metrics
from melodygan_core.config import EvaluationConfig
from melodygan_core.evaluation.sets import Windows


def compare(sets: dict[str, Windows], config: EvaluationConfig) -> list[dict[str, Any]]:
    """One row a set: its distances to the reference, with intervals by track."""
    reference, floor = sets["reference"], sets["floor"]
    sigma = metrics.median_distance(reference.embeddings)

    def kad(r: NDArray, s: NDArray) -> float:
        return metrics.kad(r, s, sigma)

    floor_kad = kad(reference.embeddings, floor.embeddings)
    table = []
    for name, members in sets.items():
        if name == "reference":
            continue
        low, high = _interval(kad, [reference, members], config)
        row: dict[str, Any] = {
            "set": name,
            "n": len(members.embeddings),
            "tracks": len(np.unique(members.groups)),
            "kad": kad(reference.embeddings, members.embeddings),
            "kad_low": low,
            "kad_high": high,
        }
        if len(members.embeddings) >= metrics.fewest_for_fad(members.embeddings.shape[1]):
            row["fad_inf"] = metrics.fad_infinity(reference.embeddings, members.embeddings, seed=config.seed)
        row["density"], row["coverage"] = metrics.density_coverage(
            reference.embeddings, members.embeddings, config.neighbours
        )
        if name != "floor":

            def excess(r: NDArray, f: NDArray, s: NDArray) -> float:
                return kad(r, s) - kad(r, f)

            row["excess_kad"] = row["kad"] - floor_kad
            row["excess_kad_low"], row["excess_kad_high"] = _interval(
                excess, [reference, floor, members], config
            )
        table.append(row)
    return table


def _interval(
    statistic: Callable[..., float], sets: list[Windows], config: EvaluationConfig
) -> tuple[float, float]:
    return metrics.bootstrap_by_group(
        statistic, [(s.embeddings, s.groups) for s in sets], n=config.bootstrap, seed=config.seed
    )
