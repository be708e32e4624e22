from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from melodygan_core import codec, latents
from melodygan_core.codec import DenseAutoencoder
from melodygan_core.codec.dense.task import vectors
from melodygan_core.config import SPLITS
from melodygan_core.dataset import Dataset
from tests.core.made import AUTOENCODER, Family


def test_training_rows_are_standardised(family: Family) -> None:
    table = latents.load(family.latents, family.store)
    training = table.latents[table.split == "train"].reshape(-1, 8).astype(np.float64)
    assert np.abs(training.mean(axis=0)).max() < 1e-4
    assert np.abs(training.std(axis=0) - 1).max() < 1e-4


def test_values_are_what_the_encoder_gives_and_splits_are_the_datasets(family: Family) -> None:
    table = latents.load(family.latents, family.store)
    data = Dataset(family.store, family.dataset)
    model = codec.load(Path(str(family.store.at(family.autoencoder.uri))))
    assert isinstance(model, DenseAutoencoder)
    assert table.latents.shape[1:] == (1, 8)
    first = 0
    for split in SPLITS:
        part = vectors(data, split, AUTOENCODER)
        rows = slice(first, first + len(part))
        first += len(part)
        with torch.no_grad():
            expected = torch.cat([model.encode(block) for block in part.blocks()]).numpy()
        np.testing.assert_allclose(
            table.latents[rows, 0] * table.std + table.mean, expected, rtol=1e-4, atol=1e-4
        )
        assert set(table.split[rows]) == {split}
        assert table.track_id[rows].tolist() == [data.tracks[t]["track_id"] for t in part.rows.track]
        assert table.index[rows].tolist() == data.start(part.rows).tolist()
        assert table.tags[rows] == [tuple(data.tracks[t]["tags"]) for t in part.rows.track]
    assert first == len(table.latents) == family.latents.metrics["rows"]
    assert set(table.stem) == {"mix"}


def test_no_track_is_in_two_splits(family: Family) -> None:
    table = latents.load(family.latents, family.store)
    of = {t: set(table.split[table.track_id == t]) for t in table.track_id}
    assert len(of) == 9
    assert all(len(s) == 1 for s in of.values())


def test_live_directions_are_counted(family: Family) -> None:
    metrics = family.latents.metrics
    share = np.array(metrics["explained_by_component"])
    assert metrics["latent_dim"] == len(share) == 8
    assert abs(share.sum() - 1) < 1e-6
    assert metrics["dims_for_95_percent"] == int(np.flatnonzero(np.cumsum(share) >= 0.95)[0]) + 1
    assert metrics["active_dims"] == int((share > 0.01 / 8).sum())


def test_encoding_twice_is_a_no_op(family: Family) -> None:
    assert latents.encode(family.autoencoder, family.dataset, family.store) == family.latents
