"""Batches that are made ahead of their steps, and the covariance of blocks."""

from __future__ import annotations

import threading
from contextlib import closing

import numpy as np
import pytest
import torch

from melodygan_core.codec.covariance import Covariance
from melodygan_core.codec.dense.task import vectors
from melodygan_core.dataset import Batches, Dataset
from melodygan_core.training import Batch, prefetch
from tests.core.made import DENSE_CODEC, Trained

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("batches")]


def test_every_step_has_its_own_batch_wherever_it_begins() -> None:
    def get_batch(step: int) -> Batch:
        return {"x": torch.full((2,), step)}

    assert [b["x"].tolist() for b in prefetch(get_batch, range(5), CPU)] == [[k, k] for k in range(5)]
    assert [b["x"].tolist() for b in prefetch(get_batch, range(3, 5), CPU)] == [[3, 3], [4, 4]]
    assert list(prefetch(get_batch, range(5, 5), CPU)) == []
    assert threads() == []


def test_two_batches_are_made_ahead_and_leaving_ends_the_thread() -> None:
    drawn, third = [], threading.Event()

    def get_batch(step: int) -> Batch:
        drawn.append(step)
        if step == 2:
            third.set()
        return {"x": torch.tensor([step])}

    with closing(prefetch(get_batch, range(100), CPU)) as batches:
        next(batches)
        assert third.wait(10)
        assert len(threads()) == 1
    assert drawn == [0, 1, 2]
    assert threads() == []


def test_an_error_of_a_batch_is_raised_at_its_step() -> None:
    def get_batch(step: int) -> Batch:
        if step == 2:
            raise ValueError("damaged shard")
        return {"x": torch.tensor([step])}

    batches = prefetch(get_batch, range(9), CPU)
    assert [next(batches)["x"].item() for _ in range(2)] == [0, 1]
    with pytest.raises(ValueError, match="damaged shard"):
        next(batches)
    assert threads() == []


def test_a_covariance_in_blocks_is_that_of_all() -> None:
    x = torch.randn(1000, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 100
    seen = Covariance()
    for block in x.split(77):
        seen.add(block)
    np.testing.assert_allclose(seen.mean, x.mean(dim=0), rtol=1e-12)
    np.testing.assert_allclose(seen.covariance, np.cov(x.numpy().T, bias=True), rtol=1e-9, atol=1e-12)


def test_a_batch_is_drawn_over_all_tracks_and_an_epoch_has_each_segment_once(dense: Trained) -> None:
    data = vectors(Dataset(dense.store, dense.dataset), "train", DENSE_CODEC)
    batches = Batches(len(data), 16, seed=0)
    epoch = [batches[k] for k in range(len(data) // 16)]
    assert len(set(np.concatenate(epoch).tolist())) == 16 * len(epoch)
    for batch in epoch:
        assert len(set(data.rows.track[batch].tolist())) >= 3
