"""The temporal GAN: its noise, its networks, its training data, pieces, and trainings that are killed."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from melodygan_core import codec, latents, prior, vocoder
from melodygan_core.codec.temporal import TemporalCodec
from melodygan_core.config import TemporalGanConfig, replace
from melodygan_core.dataset import Dataset, SpanDataset
from melodygan_core.errors import InputError
from melodygan_core.generation import pieces
from melodygan_core.pipeline import PipelineArtifacts
from melodygan_core.prior.gan import TemporalGan
from melodygan_core.prior.gan.layers import coordinates, piece_noise
from melodygan_core.prior.gan.losses import R1Weight
from melodygan_core.prior.gan.temporal import Discriminator, Generator
from melodygan_core.prior.sequences import Sequences
from melodygan_core.storage import Artifact
from melodygan_core.training import MetricsCallback, distributed, ignore
from melodygan_core.training.checkpoint import WEIGHTS_FILE
from tests.core.made import FEATURE, GENERATION, TEMPORAL_CODEC, TEMPORAL_FLOW, TEMPORAL_GAN, VOCODER, Trained

# Noise.


@given(st.integers(1, 60), st.integers(1, 30), st.integers(0, 2**31))
def test_style_keeps_the_variance_of_its_anchors(tokens: int, spacing: int, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    count = 2 + (tokens - 1) // spacing
    style = coordinates(
        torch.randn(1, count, 20_000, generator=rng), tokens, spacing, torch.zeros(1, dtype=torch.int64)
    )
    assert style.shape == (1, tokens, 20_000)
    assert torch.allclose(style.var(dim=2), torch.ones(1), atol=0.08)


def test_style_passes_through_its_anchors() -> None:
    anchors = torch.randn(2, 4, 5)
    style = coordinates(anchors, 9, 4, torch.tensor([0, 3]))
    assert torch.allclose(style[0, [0, 4, 8]], anchors[0, :3])
    assert torch.allclose(style[1, [1, 5]], anchors[1, 1:3])


@pytest.mark.parametrize("truncation", [0.0, 2.0])
def test_the_noise_of_a_longer_piece_begins_with_that_of_a_shorter_one(truncation: float) -> None:
    short = piece_noise(TEMPORAL_GAN, 24, 77, truncation)
    long = piece_noise(TEMPORAL_GAN, 317, 77, truncation)
    assert torch.equal(long[: len(short)], short)
    assert not torch.equal(long[len(short) : 2 * len(short)], short)
    assert not torch.equal(piece_noise(TEMPORAL_GAN, 24, 78, truncation), short)


# Networks.


@pytest.mark.parametrize("config", [TEMPORAL_GAN, replace(TEMPORAL_GAN, patch_tokens=32)])
def test_a_token_depends_on_the_margins_beside_it_and_no_further(config: TemporalGanConfig) -> None:
    torch.manual_seed(0)
    generator, margin = Generator(config, 12, 0).eval(), config.margin
    noise = piece_noise(config, 8 * margin, 1, 0.0)[None]
    with torch.no_grad():
        together = generator(noise)
        alone = [generator(noise[:, k * margin : (k + 3) * margin]) for k in range(8)]
    assert together.shape == (1, 8 * margin, 12)
    assert torch.allclose(together, torch.cat(alone, dim=1), atol=1e-5)
    # It does depend on them: what lies just beyond a border changes the last token before it.
    noise[:, 5 * margin :] += 1
    with torch.no_grad():
        assert not torch.allclose(generator(noise)[:, 4 * margin - 1], together[:, 4 * margin - 1], atol=1e-3)


def test_every_value_of_the_noise_changes_the_output() -> None:
    torch.manual_seed(0)
    generator = Generator(TEMPORAL_GAN, 12, 2).eval()
    for name, value in generator.named_parameters():
        if name.endswith("noise_scale"):
            torch.nn.init.ones_(value)
    noise = piece_noise(TEMPORAL_GAN, 16, 1, 0.0)[None].repeat(2, 1, 1).requires_grad_(True)
    generator(noise, torch.tensor([0, 1])).square().sum().backward()
    assert noise.grad is not None
    assert bool((noise.grad.abs().sum(dim=(0, 1)) > 0).all())


@pytest.mark.parametrize("n", [1, 3, 8, 13])
def test_the_discriminator_takes_batches_of_any_size(n: int) -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(TEMPORAL_GAN, 12, 2)
    logits = discriminator(torch.randn(n, 2 * TEMPORAL_GAN.patch_tokens, 12), torch.zeros(n, dtype=torch.int64))
    assert logits.shape == (n,)
    assert bool(logits.isfinite().all())


def test_the_weight_of_the_penalty_rises_while_logits_of_real_data_are_positive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weight = R1Weight(1.0, 0.5)
    for _ in range(10):
        weight.update(torch.ones(8))
    assert float(weight.gamma) == pytest.approx(R1Weight.RATE**10)
    for _ in range(10_000):
        weight.update(-torch.ones(8))
    assert float(weight.gamma) == pytest.approx(1 / R1Weight.RANGE)
    # The half of the batch in another process counts as well: alone, these logits would lower the weight.
    weight = R1Weight(1.0, 0.5)
    with monkeypatch.context() as patch:
        patch.setattr(distributed, "global_mean", lambda part: (part + 1) / 2)
        weight.update(torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0]))
    assert float(weight.gamma) == pytest.approx(R1Weight.RATE)
    weight.update(torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0]))
    assert float(weight.gamma) == pytest.approx(1.0)
    constant = R1Weight(3.0, None)
    constant.update(torch.ones(8))
    assert float(constant.gamma) == 3.0


# Training data.


def test_the_latent_table_holds_what_the_encoder_makes_of_whole_spans(temporal_trained: Trained) -> None:
    store = temporal_trained.store
    table = latents.load(temporal_trained.latents, store)
    model = codec.load(Path(str(store.at(temporal_trained.codec.uri))))
    assert isinstance(model, TemporalCodec)
    spans = SpanDataset(Dataset(store, temporal_trained.dataset), "train", ["mix"])
    with torch.no_grad():
        columns = [
            {name: torch.from_numpy(spans.read(s, name))[None] for name in model.columns} for s in spans.all
        ]
        truth = torch.cat([model.encode(features)[0] for features in columns])
    training = table.latents[table.split == "train"]
    found = training * table.std + table.mean
    assert np.allclose(found.reshape(-1, TEMPORAL_CODEC.latent_dim), truth, atol=1e-5)
    standardised = training.reshape(-1, TEMPORAL_CODEC.latent_dim)
    assert np.allclose(standardised.mean(axis=0), 0, atol=1e-4)
    assert np.allclose(standardised.std(axis=0), 1, atol=1e-3)


def test_sequences_are_consecutive_latents_of_one_track(temporal_trained: Trained) -> None:
    table = latents.load(temporal_trained.latents, temporal_trained.store)
    sequences = Sequences(table, "train", 6)
    sampled, rows, _ = sequences.sample(50, np.random.default_rng(0))
    flat = table.latents.reshape(-1, TEMPORAL_CODEC.latent_dim)
    per_row = table.latents.shape[1]
    for sequence, row in zip(sampled.numpy(), rows, strict=True):
        positions = [
            k for k in range(row * per_row, (row + 1) * per_row) if np.array_equal(flat[k], sequence[0])
        ]
        assert any(np.array_equal(flat[k : k + 6], sequence) for k in positions)
        last = (positions[0] + 5) // per_row
        assert table.track_id[row] == table.track_id[last]
    with pytest.raises(InputError, match="train has no 100000 consecutive latents"):
        Sequences(table, "train", 100_000)


# Pieces.


def test_ten_minutes_begin_with_the_same_thirty_seconds(temporal_trained: Trained) -> None:
    pipeline = temporal_trained.open()
    rate = pipeline.feature.frame_rate
    short, long = (pipeline.sample(math.ceil(s * rate), 5, None, 2.0) for s in (30, 600))
    tokens = math.ceil(30 * rate / TEMPORAL_CODEC.token_frames)
    assert len(short.latents) == tokens
    assert torch.allclose(long.latents[:tokens], short.latents, atol=1e-5)
    assert long.decoded.spectrum.shape == (1, math.ceil(600 * rate), pipeline.feature.n_bands)
    assert bool(long.decoded.spectrum.isfinite().all())


def test_a_loaded_prior_has_its_config_and_a_border_per_margin(temporal_trained: Trained) -> None:
    loaded = prior.load(Path(str(temporal_trained.store.at(temporal_trained.prior.uri))))
    assert isinstance(loaded, TemporalGan) and loaded.config == TEMPORAL_GAN
    assert loaded.border_tokens == TEMPORAL_GAN.margin
    made = loaded.sample(11, seed=3)
    assert made.shape == (11, TEMPORAL_CODEC.latent_dim)
    assert torch.equal(made, loaded.sample(11, seed=3)) and not torch.equal(made, loaded.sample(11, seed=4))


def test_a_prior_over_another_codec_is_refused(temporal_trained: Trained, dense: Trained) -> None:
    mixed = PipelineArtifacts("mixed", temporal_trained.codec, dense.prior, None, "griffin_lim")
    message = (
        "prior must be one over the latents of temporal/autoencoder_checkpoint, got 'dense/gan_checkpoint'"
    )
    with pytest.raises(InputError, match=message):
        mixed.open(temporal_trained.store)


def test_samples_have_one_latent_per_token_and_carry_their_provenance(temporal_trained: Trained) -> None:
    folder = Path(str(temporal_trained.store.at(temporal_trained.samples.uri)))
    assert not (folder / "vectors.parquet").exists()
    table = pq.read_table(folder / "latents.parquet")
    frames = math.ceil(GENERATION.duration_s * FEATURE.frame_rate) + 1
    tokens = math.ceil(frames / TEMPORAL_CODEC.token_frames)
    assert table["sample"].to_pylist() == [k for k in range(3) for _ in range(tokens)]
    assert table["position"].to_pylist() == 3 * list(range(tokens))
    made = next(pieces(temporal_trained.open(), GENERATION)).sample
    values = np.array(table["latents"].to_pylist(), np.float32)[:tokens]
    assert np.array_equal(values, made.latents.numpy())
    provenance = json.loads((folder / "sample-000.json").read_text("utf-8"))
    assert provenance["pipeline"] == "temporal_gan"
    assert provenance["models"] == {
        a.name: a.version for a in (temporal_trained.codec, temporal_trained.prior, temporal_trained.vocoder)
    }


# Killed trainings.

TRAININGS: dict[str, tuple[Any, Callable[[Trained, Any, MetricsCallback], Artifact]]] = {
    "vocoder": (VOCODER, lambda t, c, m: vocoder.train(t.dataset, t.store, c, m)),
    "codec": (TEMPORAL_CODEC, lambda t, c, m: codec.train("temporal", t.dataset, t.store, c, m)),
    "gan": (TEMPORAL_GAN, lambda t, c, m: prior.train("gan", t.latents, t.codec, t.store, c, m)),
    "flow": (
        replace(TEMPORAL_FLOW, condition="tag", level_db=3.0),
        lambda t, c, m: prior.train("flow", t.latents, t.codec, t.store, c, m),
    ),
}


@pytest.mark.parametrize("name", TRAININGS)
@pytest.mark.slow
def test_a_killed_training_ends_as_an_undisturbed_one(own_temporal: Trained, name: str) -> None:
    base, train = TRAININGS[name]
    # The state is saved after every step, so that it resumes where it was killed; half the steps have a
    # discriminator.
    optimizer = replace(base.optimizer, checkpoint_every_s=0.0, max_steps=8, eval_every=2)
    config, store = replace(base, optimizer=optimizer), own_temporal.store
    straight = train(own_temporal, config, ignore)
    weights = load_file(str(store.at(straight.uri) / WEIGHTS_FILE))
    shutil.rmtree(str(store.at(straight.uri)))
    seen: list[int] = []

    def interrupt(step: int, figures: dict[str, float]) -> None:
        seen.append(step)
        if seen in ([2, 4], [2, 4, 4, 6]):
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train(own_temporal, config, interrupt)
        torch.manual_seed(4321)
    again = train(own_temporal, config, interrupt)
    # The step of an interrupted callback was not saved yet.
    assert seen == [2, 4, 4, 6, 6, 8]
    found = load_file(str(store.at(again.uri) / WEIGHTS_FILE))
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[k], weights[k]) for k in weights)
    assert again.sha256 == straight.sha256
    assert again.metrics["history"] == straight.metrics["history"]
    # Its training state is deleted.
    assert not (store.work_base / again.uri.replace("models", "training")).exists()
