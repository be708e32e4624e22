"""Distances of sets of windows to the reference, with intervals by track, and what they were measured on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from melodygan_core import metrics
from melodygan_core.config import EvaluationConfig, FeatureConfig, GenerationConfig, config_id
from melodygan_core.evaluation.sets import Windows
from melodygan_core.metrics import KadSums
from melodygan_core.storage import Artifact

# Two evaluations may be compared only if all of these are equal: see `measurement_setup`.
SETUP = ("test_tracks", "stems", "spectral", "embedding", "window_s", "max_windows", "generation")

_FIGURES = (
    *(f"{figure}{end}" for figure in ("kad", "excess_kad") for end in ("", "_low", "_high")),
    "fad_inf",
    "density",
    "coverage",
)
_ORDER = ("real_baseline", "vocoder", "codec", "generated")
# Measured without codec and prior.
_COMMON = ("real_baseline", "vocoder")
# Given explicitly: a column of one table may be empty, and must have the same type in all.
SCHEMA = pa.schema(
    [
        ("window_s", pa.float64()),
        ("set", pa.string()),
        ("n", pa.int64()),
        ("tracks", pa.int64()),
        *((figure, pa.float64()) for figure in _FIGURES),
        ("note", pa.string()),
    ]
)


def measurement_setup(
    test_tracks: Iterable[str],
    stems: Sequence[str],
    feature: FeatureConfig,
    config: EvaluationConfig,
    generation: GenerationConfig,
) -> dict[str, str | float]:
    """Returns what distances depend on besides the models, as figures of the evaluation.

    Args:
        test_tracks: Track ids of the reference.
        stems: Stems of the models.
        feature: Log-mel that is embedded.
        config: Windows; the first length is the one that releases are compared by.
        generation: Settings of the generated pieces, with the evaluation's own count and seed.

    Returns:
        One value for each name of SETUP.
    """
    return {
        "test_tracks": config_id(sorted(test_tracks)),
        "stems": ",".join(stems),
        "spectral": feature.spectral_id,
        "embedding": metrics.EMBEDDING,
        "window_s": config.windows_s[0],
        "max_windows": config.max_windows,
        "generation": config_id(generation),
    }


def compare(sets: dict[str, Windows], config: EvaluationConfig) -> list[dict[str, Any]]:
    """Compares every set with the reference.

    Args:
        sets: Windows of `reference` (test tracks), `real_baseline` (validation tracks), and any others.
        config: Neighbours, number of resamples, seed.

    Returns:
        One row per set except the reference. All rows have the same keys: `set`, `n` (windows), `tracks`
        (tracks or pieces), the figures and `note`. A figure is None where it cannot be computed; where it is
        missing for want of tracks, `note` says so. `excess_kad` is the KAD minus that of the real baseline;
        the real baseline has none.
    """
    sigma = _bandwidth(sets["reference"])
    names = [name for name in sets if name != "reference"]
    return [_row(name, sets, sigma, config) for name in names]


def to_table(rows: list[dict[str, Any]]) -> pa.Table:
    """Returns rows of `compare`, each with its `window_s`, as a table of SCHEMA."""
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _bandwidth(reference: Windows) -> float | None:
    # One bandwidth for all sets; of a single track there is none, and no KAD either.
    if metrics.too_few_groups(reference.groups):
        return None
    return metrics.median_distance(reference.embeddings, reference.groups)


def _row(name: str, sets: dict[str, Windows], sigma: float | None, config: EvaluationConfig) -> dict[str, Any]:
    reference, baseline, members = sets["reference"], sets["real_baseline"], sets[name]
    row: dict[str, Any] = {
        "set": name,
        "n": len(members.embeddings),
        "tracks": metrics.fewest_groups(members.groups),
        **dict.fromkeys(_FIGURES),
        "note": metrics.too_few_groups(reference.groups, members.groups),
    }
    if row["note"]:
        return row
    sums = _sums(reference, members, sigma)
    row["kad"] = sums.kad()
    row["kad_low"], row["kad_high"] = _interval(sums.kad, [reference, members], config)
    if len(members.embeddings) >= metrics.fewest_for_fad(members.embeddings.shape[1]):
        row["fad_inf"] = metrics.fad_infinity(reference.embeddings, members.embeddings, seed=config.seed)
    row["density"], row["coverage"] = metrics.density_coverage(
        reference.embeddings, members.embeddings, config.neighbours
    )
    if name == "real_baseline":
        return row
    if too_few := metrics.too_few_groups(baseline.groups):
        row["note"] = f"no excess over the real baseline: {too_few}"
        return row
    real = _sums(reference, baseline, sigma)

    def excess(r: NDArray[np.int64], b: NDArray[np.int64], s: NDArray[np.int64]) -> float:
        return sums.kad(r, s) - real.kad(r, b)

    row["excess_kad"] = row["kad"] - real.kad()
    row["excess_kad_low"], row["excess_kad_high"] = _interval(excess, [reference, baseline, members], config)
    return row


def _sums(reference: Windows, members: Windows, sigma: float | None) -> KadSums:
    return metrics.kad_sums(reference.embeddings, members.embeddings, reference.groups, members.groups, sigma)


def _interval(statistic: Any, sets: list[Windows], config: EvaluationConfig) -> tuple[float, float]:
    counts = [metrics.fewest_groups(s.groups) for s in sets]
    return metrics.bootstrap_by_group(statistic, counts, n=config.bootstrap, seed=config.seed)


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
