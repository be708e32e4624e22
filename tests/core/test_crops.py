"""Positions of crops in spans of different lengths."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from melodygan_core.dataset import CropSampler

LENGTHS = st.lists(st.integers(0, 30), min_size=1, max_size=8)


def inside(lengths: list[int], size: int) -> tuple[CropSampler, dict[int, set[int]]]:
    """A sampler over spans with gaps of three between them, and the expected positions, by enumeration."""
    first = [sum(lengths[:k]) + 3 * k for k in range(len(lengths))]
    every = {k: set(range(f, f + n - size + 1)) for k, (f, n) in enumerate(zip(first, lengths, strict=True))}
    return CropSampler(first, lengths, size), {k: v for k, v in every.items() if v}


@given(LENGTHS, st.integers(1, 12), st.integers(0, 99))
def test_every_position_is_sampled_and_no_other(lengths: list[int], size: int, seed: int) -> None:
    sampler, every = inside(lengths, size)
    assert bool(sampler) == bool(every)
    if not every:
        return
    drawn, span = sampler.sample(4000, np.random.default_rng(seed))
    for place, k in zip(drawn.tolist(), span.tolist(), strict=True):
        assert place in every[k]
    # Each of at most 240 positions is missed with a probability below e^-16.
    assert set(drawn.tolist()) == set().union(*every.values())


@given(LENGTHS, st.integers(1, 12), st.integers(1, 40))
def test_evenly_spaced_crops_do_not_overlap(lengths: list[int], size: int, at_most: int) -> None:
    sampler, every = inside(lengths, size)
    if not every:
        return
    positions, span = sampler.evenly_spaced(at_most)
    assert 1 <= len(positions) == min(at_most, sum(n // size for n in lengths))
    assert all(b - a >= size for a, b in pairwise(positions.tolist()))
    assert all(p in every[k] for p, k in zip(positions.tolist(), span.tolist(), strict=True))
