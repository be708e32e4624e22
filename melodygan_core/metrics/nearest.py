"""Exact search for the nearest position of a database, as a test for copies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from melodygan_core.errors import InputError

# Positions per block: 32 MB of distances.
_BLOCK = 4096


@dataclass(frozen=True)
class Nearest:
    """Result of a nearest-neighbour search.

    Attributes:
        distances: Name of the query set to (n,) Euclidean distances to the nearest place of the database.
        positions: Positions in the database that were searched.
        comparisons: Distances that were computed.
    """

    distances: dict[str, Tensor]
    positions: int
    comparisons: int


def nearest_segments(queries: Mapping[str, Tensor], database: Iterable[Tensor], size: int) -> Nearest:
    """Finds the distance of each query segment to the nearest position of a database, exactly.

    A position is every run of `size` bins: a copy does not begin where the dataset cuts its segments.

    Args:
        queries: Name to segments (n, size, n_mels).
        database: Sequences (bins, n_mels), searched one at a time; shorter ones than `size` have no position.
        size: Bins per segment.

    Raises:
        InputError: the database has no position.
    """
    flat = {name: segments.flatten(1) for name, segments in queries.items()}
    nearest = {name: torch.full((len(segments),), torch.inf) for name, segments in flat.items()}
    searched = 0
    for sequence in database:
        if len(sequence) < size:
            continue
        for positions in sequence.unfold(0, size, 1).split(_BLOCK):
            # unfold puts the bins last.
            block = positions.transpose(1, 2).flatten(1)
            searched += len(block)
            for name, segments in flat.items():
                nearest[name] = torch.minimum(nearest[name], torch.cdist(segments, block).amin(dim=1))
    if not searched:
        raise InputError(f"the database must have a sequence of at least {size} bins, got none")
    return Nearest(nearest, searched, searched * sum(map(len, flat.values())))
