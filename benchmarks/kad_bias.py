"""KAD of sets of one distribution whose rows come in tracks: the estimate by track, and the one without tracks.

The table of docs/results.md, in a quarter of a minute: `.venv/bin/python benchmarks/kad_bias.py`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from melodygan_core import metrics

REPETITIONS = 200
# Tracks or pieces, and windows of each: the orchestral music of docs/results.md.
TEST, VALIDATION, GENERATED = (7, 25), (6, 25), (80, 3)
DIM = 20


def windows(layout: tuple[int, int], seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Rows (tracks x windows, DIM), a random mean per track plus noise, and the track of each row."""
    count, per_track = layout
    rng = np.random.default_rng(seed)
    means = rng.standard_normal((count, 1, DIM))
    rows = means + 0.5 * rng.standard_normal((count, per_track, DIM))
    return rows.reshape(-1, DIM), np.repeat(np.arange(count), per_track)


def distances(seed: int, by_track: bool) -> list[float]:
    """KAD x1000 of validation and generated rows to test rows, and the excess of the second."""
    drawn = [windows(layout, 3 * seed + k) for k, layout in enumerate((TEST, VALIDATION, GENERATED))]
    rows = [found for found, _ in drawn]
    tracks = [track if by_track else np.arange(len(track)) for _, track in drawn]
    validation, generated = (metrics.kad(rows[0], rows[k], tracks[0], tracks[k]) for k in (1, 2))
    return [validation, generated, generated - validation]


def main() -> None:
    print("| estimate | real validation | perfect generator | excess |\n|---|---|---|---|")
    for name, by_track in (("windows as independent", False), ("by track", True)):
        values = np.array([distances(seed, by_track) for seed in range(REPETITIONS)])
        errors = values.std(axis=0, ddof=1) / np.sqrt(REPETITIONS)
        cells = [f"{mean:.0f} +- {error:.0f}" for mean, error in zip(values.mean(axis=0), errors, strict=True)]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
