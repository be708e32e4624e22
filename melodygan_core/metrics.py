"""How far a generated set of sounds is from a real one: an embedding of log-mels, and distances of sets.

Every distance takes `embeddings: (n, dim)` and computes in float64; none reads a file or picks a device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist, pdist

from melodygan_core.config import require

Embeddings = NDArray[np.float64]
Labels = Sequence[Any] | NDArray[Any]

EMBEDDING = "log-mel-modulation-1"
BAND_GROUPS = 8
# Edges of the modulation bands: 12 half octaves.
MODULATION_HZ = tuple(0.5 * 2 ** (i / 2) for i in range(13))
MIN_FRAME_RATE = 60.0
MIN_WINDOW_S = 0.5

# Chosen on 3 s windows of orchestral music so that each of the four kinds of dimension has a like share in
# the distance, and a fluctuation below the floor counts as none. Fixed: they never follow the sets compared.
MEAN_SCALE, SPREAD_SCALE, CONTRAST_SCALE, MODULATION_SCALE = 1.5, 0.75, 0.4, 3.0
POWER_FLOOR = 1e-3


def embed(log_mel: ArrayLike, frame_rate: float) -> Embeddings:
    """Level, spread, contrast and modulation spectrum of groups of mel bands; fixed, nothing is learned.

    Per group of neighbouring bands: the mean of the log-mel over time, the log of its standard deviation, the
    log of the step from band to band of the means, and the log power of its fluctuations in modulation bands
    of half an octave from 0.5 to 32 Hz. Means alone cannot tell music from its time average, the modulation
    spectrum can; noise fluctuates much as music does, and has no contrast between bands. Scales are
    constants, so the distance of two sets does not depend on what else was embedded. Sets that are compared
    need the same length of window, mel bands and frame rate.

    Args:
        log_mel: (n, n_mels, frames), natural log of magnitudes; at least 16 bands and 0.5 s.
        frame_rate: Frames a second, at least 60.

    Returns:
        (n, 120): 8 means, 8 spreads, 8 contrasts, 8 groups x 12 modulation bands.

    Raises:
        InputError: wrong shape, too short, too low a frame rate, or values that are not finite.
    """
    values = np.asarray(log_mel)
    require(
        values.ndim == 3 and values.shape[1] >= 2 * BAND_GROUPS,
        "log_mel.shape",
        values.shape,
        f"(n, n_mels, frames) with at least {2 * BAND_GROUPS} bands",
    )
    require(frame_rate >= MIN_FRAME_RATE, "frame_rate", frame_rate, f"at least {MIN_FRAME_RATE:g} a second")
    fewest = int(np.ceil(MIN_WINDOW_S * frame_rate))
    require(values.shape[2] >= fewest, "frames", values.shape[2], f"at least {fewest} ({MIN_WINDOW_S} s)")
    require(bool(np.isfinite(values).all()), "log_mel", "not finite", "finite values")
    # One window at a time: the spectra of a whole set would need gigabytes.
    return np.stack([_embed_one(window.astype(np.float64), frame_rate) for window in values])


def _embed_one(log_mel: NDArray[np.float64], frame_rate: float) -> Embeddings:
    frames = log_mel.shape[1]
    mean = log_mel.mean(axis=1)
    fluctuation = log_mel - mean[:, None]
    taper = np.hanning(frames + 1)[:frames]
    power = np.abs(np.fft.rfft(fluctuation * taper, axis=1)) ** 2 * 2 / (frames * (taper**2).sum())
    starts = np.linspace(0, len(log_mel), BAND_GROUPS, endpoint=False).round().astype(int)
    sizes = np.diff([*starts, len(log_mel)])
    # The step out of a group belongs to none.
    steps = np.square(np.diff(mean, append=mean[-1]))
    steps[starts[1:] - 1] = 0.0
    means = np.add.reduceat(mean, starts) / sizes
    variances = np.add.reduceat(fluctuation.var(axis=1), starts) / sizes
    contrasts = np.add.reduceat(steps, starts) / (sizes - 1)
    modulations = np.add.reduceat(power @ _modulation_bands(frames, frame_rate), starts) / sizes[:, None]
    return np.concatenate(
        [
            means / MEAN_SCALE,
            0.5 * np.log(variances + POWER_FLOOR) / SPREAD_SCALE,
            0.5 * np.log(contrasts + POWER_FLOOR) / CONTRAST_SCALE,
            np.log(modulations + POWER_FLOOR).ravel() / MODULATION_SCALE,
        ]
    )


def _modulation_bands(frames: int, frame_rate: float) -> NDArray[np.float64]:
    """(frames // 2 + 1, bands): how much of each FFT bin, taken as an interval, lies in each band."""
    width = frame_rate / frames
    upper = (np.arange(frames // 2 + 1)[:, None] + 0.5) * width
    low, high = np.array(MODULATION_HZ[:-1]), np.array(MODULATION_HZ[1:])
    overlap = np.minimum(upper, high) - np.maximum(upper - width, low)
    return np.clip(overlap, 0.0, None) / width


def median_distance(embeddings: Embeddings) -> float:
    """Median pairwise Euclidean distance of (n, dim): the bandwidth of KAD."""
    return float(np.median(pdist(embeddings)))


def mean_distance(embeddings: NDArray[np.floating]) -> float:
    """Mean pairwise Euclidean distance of (n, dim): how diverse a set is."""
    return float(pdist(embeddings).mean())


def kad(reference: Embeddings, generated: Embeddings, bandwidth: float | None = None) -> float:
    """Kernel audio distance: 1000 times the unbiased squared MMD with an RBF kernel (arXiv 2502.15602).

    The U-statistic has mean 0 for two sets of one distribution and may be negative; it is not clipped.

    Args:
        reference: (n, dim), n at least 2.
        generated: (m, dim), m at least 2.
        bandwidth: Sigma of exp(-d^2 / (2 sigma^2)); the median pairwise distance of the reference by default.

    Raises:
        InputError: too few rows, other widths, values that are not finite, or a bandwidth of 0.
    """
    reference, generated = _pair(reference, generated)
    within = pdist(reference)
    sigma = float(np.median(within)) if bandwidth is None else bandwidth
    require(sigma > 0, "bandwidth", sigma, "above 0 (are the rows of the reference all equal?)")

    def mean_kernel(distances: NDArray[np.floating]) -> float:
        return float(np.exp(-0.5 * np.square(distances / sigma)).mean())

    cross = mean_kernel(cdist(reference, generated))
    return 1000.0 * (mean_kernel(within) + mean_kernel(pdist(generated)) - 2.0 * cross)


def fad(reference: Embeddings, generated: Embeddings) -> float:
    """Frechet audio distance: |difference of means|^2 + tr(A + B - 2 (A B)^(1/2)) (arXiv 1812.08466).

    With X'X = A and Y'Y = B the last trace is the sum of the singular values of X Y', which needs no square
    root of a near-singular product and so stays exact with fewer rows than dimensions.

    Args:
        reference: (n, dim), n at least 2.
        generated: (m, dim), m at least 2.

    Raises:
        InputError: too few rows, other widths, or values that are not finite.
    """
    reference, generated = _pair(reference, generated)
    factors = [_covariance_factor(rows) for rows in (reference, generated)]
    cross = np.linalg.svd(factors[0] @ factors[1].T, compute_uv=False).sum()
    shift = np.square(reference.mean(axis=0) - generated.mean(axis=0)).sum()
    return float(shift + sum(np.square(factor).sum() for factor in factors) - 2.0 * cross)


def _covariance_factor(rows: Embeddings) -> Embeddings:
    """R (at most dim, dim) with R'R the covariance."""
    centred = (rows - rows.mean(axis=0)) / np.sqrt(len(rows) - 1)
    return np.asarray(np.linalg.qr(centred, mode="r"))


def fewest_for_fad(dim: int) -> int:
    """Generated rows that `fad_infinity` needs for embeddings of this width."""
    return 2 * max(50, dim)


def fad_infinity(reference: Embeddings, generated: Embeddings, steps: int = 15, seed: int = 0) -> float:
    """FAD extrapolated to infinitely many generated rows (arXiv 2311.01616).

    FAD is biased by about a constant over n: it is computed on random subsets of the generated rows, from
    the larger of 50 and dim up to all of them, and regressed on 1/n; the intercept is the result.

    Args:
        reference: (n, dim).
        generated: (m, dim), m at least twice the smallest subset.
        steps: Sizes of subsets, evenly spaced.
        seed: Of the subsets.

    Raises:
        InputError: too few generated rows.
    """
    reference, generated = _pair(reference, generated)
    fewest = fewest_for_fad(generated.shape[1])
    smallest = fewest // 2
    require(len(generated) >= fewest, "n of generated", len(generated), f"at least {fewest} rows")
    rng = np.random.default_rng(seed)
    sizes = np.linspace(smallest, len(generated), steps).astype(int)
    values = [fad(reference, generated[rng.permutation(len(generated))[:size]]) for size in sizes]
    return float(np.polyfit(1.0 / sizes, values, 1)[1])


def density_coverage(reference: Embeddings, generated: Embeddings, k: int) -> tuple[float, float]:
    """Density and coverage (arXiv 2002.09797), over balls around each reference row to its k-th neighbour.

    Args:
        reference: (n, dim), more than k rows.
        generated: (m, dim).
        k: Neighbours, itself not counted.

    Returns:
        density: Mean number of balls that hold a generated row, over k; about 1 for one distribution, and
            it may exceed 1.
        coverage: Share of the balls that hold a generated row, in [0, 1].
    """
    reference, generated = _pair(reference, generated)
    require(1 <= k < len(reference), "k", k, f"1 to {len(reference) - 1}, one less than the reference's rows")
    # Column 0 of the sorted distances is the row itself.
    radii = np.partition(cdist(reference, reference), k, axis=1)[:, k]
    inside = cdist(reference, generated) < radii[:, None]
    return float(inside.sum(axis=0).mean() / k), float(inside.any(axis=1).mean())


def nearest_distances(queries: Embeddings, database: Embeddings) -> NDArray[np.float64]:
    """Euclidean distance of each query to its nearest row of the database, exact: a copy is at 0.

    Args:
        queries: (n, dim).
        database: (m, dim).

    Returns:
        (n,).
    """
    queries, database = _pair(queries, database, fewest=1)
    # Blocks of about 64 MB of distances.
    step = max(1, 8_000_000 // len(database))
    blocks = [queries[i : i + step] for i in range(0, len(queries), step)]
    return np.concatenate([cdist(block, database).min(axis=1) for block in blocks])


def bootstrap_by_group(
    statistic: Callable[..., float],
    sets: Sequence[tuple[Embeddings, Labels]],
    n: int = 200,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Interval of a statistic of some sets whose rows come in dependent groups (the windows of one track).

    The classic bootstrap draws groups with replacement: repeated rows are at distance 0 of one another, and
    a U-statistic or a neighbour distance takes them for structure. So each resample is a random half of the
    groups of each set, **without** replacement. The spread of a mean over half of the groups, drawn
    so, is the spread of the mean over all (the delete-half jackknife: (1 - 1/2) / (G / 2) = 1 / G); with an
    odd number, larger and smaller halves take turns by chance. For a degenerate statistic (KAD of two
    sets of one distribution) it is wider than need be. Halves also shift a statistic that depends on n or
    on the share of pairs within one track, so the quantiles are taken of the deviations from their median
    and laid around the statistic of all rows.

    Args:
        statistic: Takes the embeddings of each set, in the order of `sets`.
        sets: Embeddings (n, dim) and a label a row, of each.
        n: Resamples.
        seed: Of the resamples.
        level: Share of the interval.

    Returns:
        low, high.

    Raises:
        InputError: fewer than two groups in a set, or labels that do not match the rows.
    """
    draws = [_half(groups, len(rows), f"set {i}") for i, (rows, groups) in enumerate(sets)]
    require(0 < level < 1, "level", level, "between 0 and 1")
    rng = np.random.default_rng(seed)
    halves = ([rows[draw(rng)] for draw, (rows, _) in zip(draws, sets, strict=True)] for _ in range(n))
    values = np.array([statistic(*half) for half in halves])
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(values - np.median(values), [tail, 100.0 - tail])
    centre = statistic(*(rows for rows, _ in sets))
    return float(centre + low), float(centre + high)


def _half(groups: Labels, rows: int, name: str) -> Callable[[np.random.Generator], NDArray[np.bool_]]:
    require(len(groups) == rows, f"labels of {name}", len(groups), f"one a row, {rows}")
    labels, of_row = np.unique(np.asarray(groups), return_inverse=True)
    require(len(labels) >= 2, f"groups of {name}", len(labels), "at least 2, to resample by group")

    def draw(rng: np.random.Generator) -> NDArray[np.bool_]:
        kept = rng.permutation(len(labels))[: (len(labels) + int(rng.integers(2))) // 2]
        return np.isin(of_row, kept)

    return draw


def _pair(first: Embeddings, second: Embeddings, fewest: int = 2) -> tuple[Embeddings, Embeddings]:
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    for rows in (first, second):
        require(
            rows.ndim == 2 and len(rows) >= fewest,
            "embeddings shape",
            rows.shape,
            f"(n, dim) with n at least {fewest}",
        )
        require(bool(np.isfinite(rows).all()), "embeddings", "not finite", "finite values")
    require(first.shape[1] == second.shape[1], "dim", (first.shape[1], second.shape[1]), "equal in both sets")
    return first, second
