"""The temporal family from its dataset to its samples, and trainings that are killed on the way."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from melodygan_core import codec, latents, vocoder
from melodygan_core.codec import TemporalAutoencoder
from melodygan_core.dataset import Dataset, SpanDataset
from melodygan_core.errors import InputError
from melodygan_core.generation import pieces
from melodygan_core.pipeline import Models
from melodygan_core.prior import gan
from melodygan_core.prior.gan.temporal_setup import Sequences
from melodygan_core.storage.store import Artifact
from melodygan_core.training import MetricsCallback
from melodygan_core.training.checkpoint import WEIGHTS_FILE
from tests.core.made import (
    FEATURE,
    GENERATION,
    TEMPORAL_AUTOENCODER,
    TEMPORAL_GAN,
    VOCODER,
    Family,
)


def test_training_makes_it_better_than_the_mean(temporal_family: Family) -> None:
    metrics = temporal_family.autoencoder.metrics
    history = metrics["history"]
    assert history[-1]["validation/loss"] < 0.7 * history[0]["validation/loss"]
    assert metrics["test/explained_variance"] > 0.3
    assert (temporal_family.autoencoder.name, temporal_family.autoencoder.family) == (
        "temporal/autoencoder_checkpoint",
        "temporal",
    )


def model_of(temporal_family: Family) -> TemporalAutoencoder:
    made = codec.load(Path(str(temporal_family.store.at(temporal_family.autoencoder.uri))))
    assert isinstance(made, TemporalAutoencoder)
    return made


def test_the_table_holds_what_the_encoder_says_of_whole_stretches(temporal_family: Family) -> None:
    table, ae = latents.load(temporal_family.latents, temporal_family.store), model_of(temporal_family)
    spans = SpanDataset(Dataset(temporal_family.store, temporal_family.dataset), "train", ["mix"])
    with torch.no_grad():
        truth = torch.cat([ae.encode(torch.from_numpy(spans.read(s))[None])[0] for s in spans.all])
    found = table.latents[table.split == "train"] * table.std + table.mean
    assert np.allclose(found.reshape(-1, TEMPORAL_AUTOENCODER.latent_dim), truth, atol=1e-5)
    standardised = table.latents[table.split == "train"].reshape(-1, TEMPORAL_AUTOENCODER.latent_dim)
    assert np.allclose(standardised.mean(axis=0), 0, atol=1e-4)
    assert np.allclose(standardised.std(axis=0), 1, atol=1e-3)


def test_sequences_follow_the_time_of_one_track(temporal_family: Family) -> None:
    table = latents.load(temporal_family.latents, temporal_family.store)
    sequences = Sequences(table, "train", 6)
    drawn, rows = sequences.sample(50, np.random.default_rng(0))
    flat = table.latents.reshape(-1, TEMPORAL_AUTOENCODER.latent_dim)
    per_row = table.latents.shape[1]
    for sequence, row in zip(drawn.numpy(), rows, strict=True):
        places = [k for k in range(row * per_row, (row + 1) * per_row) if np.array_equal(flat[k], sequence[0])]
        assert any(np.array_equal(flat[k : k + 6], sequence) for k in places)
        last = (places[0] + 5) // per_row
        assert table.track_id[row] == table.track_id[last]
    with pytest.raises(InputError, match="train has no 100000 consecutive latents"):
        Sequences(table, "train", 100_000)


def test_ten_minutes_begin_like_thirty_seconds(temporal_family: Family) -> None:
    models = temporal_family.models
    rate = models.feature.frame_rate
    short, long = (models.sample(math.ceil(s * rate), 5, None, 2.0) for s in (30, 600))
    tokens = math.ceil(30 * rate / TEMPORAL_AUTOENCODER.token_frames)
    assert len(short.latents) == tokens
    assert torch.allclose(long.latents[:tokens], short.latents, atol=1e-5)
    assert long.log_mel.shape == (models.feature.n_mels, math.ceil(600 * rate))
    assert bool(long.log_mel.isfinite().all())


def test_a_gan_of_another_family_is_refused(temporal_family: Family, family: Family) -> None:
    folders = [Path(str(temporal_family.store.at(a.uri))) for a in (temporal_family.autoencoder, family.gan)]
    with pytest.raises(InputError, match="the autoencoder is temporal and the GAN dense; allowed: one family"):
        Models.load(folders[0], folders[1], None, GENERATION)


def test_samples_are_one_latent_a_token_and_carry_their_provenance(temporal_family: Family) -> None:
    folder = Path(str(temporal_family.store.at(temporal_family.samples.uri)))
    assert not (folder / "vectors.parquet").exists()
    table = pq.read_table(folder / "latents.parquet")
    tokens = math.ceil(
        (math.ceil(GENERATION.duration_s * FEATURE.frame_rate) + 1) / TEMPORAL_AUTOENCODER.token_frames
    )
    assert table["sample"].to_pylist() == [k for k in range(3) for _ in range(tokens)]
    assert table["position"].to_pylist() == 3 * list(range(tokens))
    made = next(pieces(temporal_family.models, GENERATION)).composed
    values = np.array(table["latents"].to_pylist(), np.float32)[:tokens]
    assert np.array_equal(values, made.latents.numpy())
    told = json.loads((folder / "sample-000.json").read_text("utf-8"))
    assert told["models"] == {
        a.name: a.version for a in (temporal_family.autoencoder, temporal_family.gan, temporal_family.vocoder)
    }


# Killed trainings.

TRAININGS: dict[str, tuple[Any, Callable[[Family, Any, MetricsCallback], Artifact]]] = {
    "vocoder": (VOCODER, lambda f, c, o: vocoder.train(f.dataset, f.store, c, o)),
    "autoencoder": (TEMPORAL_AUTOENCODER, lambda f, c, o: codec.train(f.dataset, f.store, c, o)),
    "gan": (TEMPORAL_GAN, lambda f, c, o: gan.train(f.latents, f.autoencoder, f.store, c, o)),
}


@pytest.mark.parametrize("name", TRAININGS)
def test_a_killed_training_ends_as_an_undisturbed_one(own_temporal: Family, name: str) -> None:
    base, train = TRAININGS[name]
    # It saves after every step, so that it goes on from where it was killed; half of them with discriminators.
    optimizer = replace(base.optimizer, checkpoint_every_s=0.0, max_steps=8, eval_every=2)
    config, store = replace(base, optimizer=optimizer), own_temporal.store
    straight = train(own_temporal, config, lambda step, figures: None)
    weights = load_file(str(store.at(straight.uri) / WEIGHTS_FILE))
    shutil.rmtree(str(store.at(straight.uri)))
    seen: list[int] = []

    def dies(step: int, figures: dict[str, float]) -> None:
        seen.append(step)
        if seen in ([2, 4], [2, 4, 4, 6]):
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train(own_temporal, config, dies)
        torch.manual_seed(4321)
    again = train(own_temporal, config, dies)
    # What an observer broke off was not saved yet.
    assert seen == [2, 4, 4, 6, 6, 8]
    found = load_file(str(store.at(again.uri) / WEIGHTS_FILE))
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[k], weights[k]) for k in weights)
    assert again.sha256 == straight.sha256
    assert again.metrics["history"] == straight.metrics["history"]
    # Its scratch is gone.
    assert not (store.work_base / ".".join(again.uri.split("/")[1:])).exists()
