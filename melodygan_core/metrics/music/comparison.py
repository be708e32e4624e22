"""Distributions of measures over the excerpts of a set, distances between them, and a shuffled control."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import ks_2samp, rankdata

from melodygan_core.config import require
from melodygan_core.metrics.music.measures import INTERVALS, MEASURES, Measures
from melodygan_core.metrics.music.notes import IntervalModel

# Pieces of the control: of unequal length, so that the borders themselves have no pulse.
SHUFFLED_S = (0.2, 0.6)
_FADE_S = 0.005
# With fewer excerpts on a side a distance of distributions says nothing.
MIN_EXCERPTS = 5


# One measure of one set.
Row = dict[str, Any]


@dataclass(frozen=True)
class MeasuredSet:
    """The measures of the excerpts of one set.

    Attributes:
        excerpts: Of each excerpt.
        groups: The track or piece that each excerpt is of.
    """

    excerpts: Sequence[Measures]
    groups: Sequence[object]


def time_shuffled(wav: NDArray[np.floating], sample_rate: int, seed: int) -> NDArray[np.float32]:
    """Returns the sound cut into pieces of 0.2 to 0.6 s, in random order, with fades of 5 ms at their borders.

    It keeps timbre, level and key, and loses metre, melody, progressions and form.

    Args:
        wav: (samples,) or (channels, samples), at least 1.2 s.
        sample_rate: Hz.
        seed: Of the lengths and the order.

    Raises:
        InputError: too short.
    """
    samples = wav.shape[-1]
    low, high = (round(s * sample_rate) for s in SHUFFLED_S)
    require(samples >= 2 * high, "samples", samples, f"at least {2 * high} ({2 * SHUFFLED_S[1]:g} s)")
    rng = np.random.default_rng(seed)
    edges = [0]
    while samples - edges[-1] > high:
        edges.append(edges[-1] + int(rng.integers(low, high)))
    # A copy: the fades change it.
    pieces = np.split(np.array(wav, np.float32), edges[1:], axis=-1)
    fade = np.linspace(0, 1, round(_FADE_S * sample_rate), dtype=np.float32)
    for piece in pieces:
        size = min(len(fade), piece.shape[-1] // 2)
        piece[..., :size] = piece[..., :size] * fade[:size]
        piece[..., piece.shape[-1] - size :] = piece[..., piece.shape[-1] - size :] * fade[:size][::-1]
    return np.concatenate([pieces[k] for k in rng.permutation(len(pieces))], axis=-1)


def ks_distance(first: ArrayLike, second: ArrayLike) -> float:
    """Returns the Kolmogorov-Smirnov distance of two samples: the largest difference of their distributions."""
    return float(ks_2samp(np.asarray(first), np.asarray(second), method="asymp").statistic)


def auc(first: ArrayLike, second: ArrayLike) -> float:
    """Returns the probability that a value of the first sample is above one of the second; ties count half.

    1 or 0 tells the two apart without error, 0.5 not at all.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    ranks = rankdata(np.concatenate([a, b]))[: len(a)]
    return float((ranks.sum() - len(a) * (len(a) + 1) / 2) / (len(a) * len(b)))


def effect_size(first: ArrayLike, second: ArrayLike) -> float:
    """Returns Cohen's d: the difference of the means over the pooled standard deviation."""
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    # 0 where neither sample varies.
    pooled = float(np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2))
    return float((a.mean() - b.mean()) / pooled) if pooled > 0 else 0.0


def values_of(sets: Mapping[str, MeasuredSet], reference: str) -> dict[str, dict[str, list[float]]]:
    """Returns the values of every measure: set, measure, one value per excerpt that has it.

    `interval_bigrams` is the mean log2 probability of an excerpt's melodic bigrams in the reference; an excerpt
    is not compared with its own track.

    Args:
        sets: Name to measured set.
        reference: Name of the set that the others are compared with.
    """
    known = sets[reference]
    model = IntervalModel([(g, e.intervals) for g, e in zip(known.groups, known.excerpts, strict=True)])
    found: dict[str, dict[str, list[float]]] = {}
    for name, members in sets.items():
        values: dict[str, list[float]] = {measure: [] for measure in MEASURES}
        for group, excerpt in zip(members.groups, members.excerpts, strict=True):
            for measure, value in excerpt.values.items():
                values[measure].append(value)
            if (typical := model.typicality(excerpt.intervals, leave_out=group)) is not None:
                values[INTERVALS].append(typical)
        found[name] = values
    return found


def compare_music(sets: Mapping[str, MeasuredSet], reference: str) -> list[Row]:
    """Compares every set with the reference, measure by measure.

    Args:
        sets: Name to measured set, the reference among them.
        reference: Its name.

    Returns:
        One row per measure and set: `measure`, `set`, `n` excerpts that have it, `median`, the quartiles `low`
        and `high`, `ks` to the reference (None for itself) and `note`, which says why a figure is missing. The
        figures are None with fewer than five excerpts.
    """
    values = values_of(sets, reference)
    rows: list[Row] = []
    for measure in MEASURES:
        for name, members in sets.items():
            own, of_reference = values[name][measure], values[reference][measure]
            row: Row = {"measure": measure, "set": name, "n": len(own)}
            enough = len(own) >= MIN_EXCERPTS
            quartiles = np.percentile(own, [25, 50, 75]).tolist() if enough else [None] * 3
            row["low"], row["median"], row["high"] = quartiles
            comparable = enough and name != reference and len(of_reference) >= MIN_EXCERPTS
            row["ks"] = ks_distance(own, of_reference) if comparable else None
            row["note"] = "" if enough else _why(measure, members)
            rows.append(row)
    return rows


def mean_ks(rows: Sequence[Row], name: str) -> float | None:
    """Returns the mean KS distance of a set over the measures that have one; None without any."""
    found = [row["ks"] for row in rows if row["set"] == name and row["ks"] is not None]
    return float(np.mean(found)) if found else None


def _why(measure: str, members: MeasuredSet) -> str:
    reasons = Counter(e.missing[measure] for e in members.excerpts if measure in e.missing)
    if reasons:
        return reasons.most_common(1)[0][0]
    if measure == INTERVALS and (any(INTERVALS in e.missing for e in members.excerpts)):
        return "too few notes"
    return f"too few excerpts ({len(members.excerpts)} of at least {MIN_EXCERPTS})"
