"""The latent table: what priors learn from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from melodygan_core import codec, latents
from melodygan_core.codec.dense import DenseCodec
from melodygan_core.codec.dense.task import vectors
from melodygan_core.config import SPLITS
from melodygan_core.dataset import Dataset
from tests.core.made import DENSE_CODEC, Trained


def test_training_rows_are_standardised(dense: Trained) -> None:
    table = latents.load(dense.latents, dense.store)
    training = table.latents[table.split == "train"].reshape(-1, 8).astype(np.float64)
    assert np.abs(training.mean(axis=0)).max() < 1e-4
    assert np.abs(training.std(axis=0) - 1).max() < 1e-4


def test_rows_are_the_encoder_s_latents_in_the_dataset_s_splits(dense: Trained) -> None:
    table = latents.load(dense.latents, dense.store)
    data = Dataset(dense.store, dense.dataset)
    model = codec.load(Path(str(dense.store.at(dense.codec.uri))))
    assert isinstance(model, DenseCodec)
    assert table.latents.shape[1:] == (1, 8)
    first = 0
    for split in SPLITS:
        part = vectors(data, split, DENSE_CODEC)
        rows = slice(first, first + len(part))
        first += len(part)
        with torch.no_grad():
            expected = torch.cat([model.encode_vectors(block) for block in part.blocks()]).numpy()
        np.testing.assert_allclose(
            table.latents[rows, 0] * table.std + table.mean, expected, rtol=1e-4, atol=1e-4
        )
        assert set(table.split[rows]) == {split}
        assert table.track_id[rows].tolist() == [data.tracks[t]["track_id"] for t in part.rows.track]
        assert table.index[rows].tolist() == data.start(part.rows).tolist()
        assert table.tags[rows] == [tuple(data.tracks[t]["tags"]) for t in part.rows.track]
    assert first == len(table.latents) == dense.latents.metrics["rows"]
    assert set(table.stem) == {"mix"}


def test_no_track_is_in_two_splits(dense: Trained) -> None:
    table = latents.load(dense.latents, dense.store)
    of = {t: set(table.split[table.track_id == t]) for t in table.track_id}
    assert len(of) == 9
    assert all(len(s) == 1 for s in of.values())


def test_active_directions_are_counted(dense: Trained) -> None:
    metrics = dense.latents.metrics
    share = np.array(metrics["explained_by_component"])
    assert metrics["latent_dim"] == len(share) == 8
    assert abs(share.sum() - 1) < 1e-6
    assert metrics["dims_for_95_percent"] == int(np.flatnonzero(np.cumsum(share) >= 0.95)[0]) + 1
    assert metrics["active_dims"] == int((share > 0.01 / 8).sum())


def test_encoding_twice_is_a_no_op(dense: Trained) -> None:
    assert latents.encode(dense.codec, dense.dataset, dense.store) == dense.latents


def test_a_table_belongs_to_its_codec(dense: Trained, temporal_trained: Trained) -> None:
    for trained in (dense, temporal_trained):
        made = trained.latents
        assert made.name == f"{trained.codec.group}/latent_table"
        assert made.inputs == {
            "feature_table": dense.dataset.version,
            trained.codec.name: trained.codec.version,
        }
        table = latents.load(made, trained.store)
        assert table.latents.shape == tuple(made.metrics[k] for k in ("rows", "tokens", "latent_dim"))
    assert temporal_trained.latents.metrics["tokens"] == 4
