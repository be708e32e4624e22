"""The temporal family: sequences read where they lie, an autoencoder and a GAN over them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from melodygan_core.catalogue.tracks import save
from melodygan_core.codec import TemporalAutoencoder
from melodygan_core.config import FeatureConfig, TemporalAutoencoderConfig, TemporalGanConfig
from melodygan_core.dataset import Dataset, SpanDataset
from melodygan_core.errors import InputError
from melodygan_core.prior.gan.losses import R1Weight
from melodygan_core.prior.gan.noise import coordinates, piece_noise
from melodygan_core.prior.gan.temporal import Discriminator, Generator
from melodygan_core.storage.store import Store
from melodygan_core.training import distributed
from tests.core.made import (
    TEMPORAL_AUTOENCODER,
    TEMPORAL_GAN,
    TINY,
    assemble,
    put_features,
    put_tracks,
    track,
)

FEATURE = FeatureConfig(n_mels=20, n_mfcc=5)


def model(config: TemporalAutoencoderConfig = TEMPORAL_AUTOENCODER) -> TemporalAutoencoder:
    torch.manual_seed(0)
    return TemporalAutoencoder(config, FEATURE).eval()


# Sequences.


def test_stretches_are_the_rows_as_they_lie(store: Store) -> None:
    names = [f"t{i}" for i in range(8)]
    made = put_tracks(store, names)
    dataset = Dataset(store, assemble(store))
    spans = SpanDataset(dataset, "train", ["mix"])
    assert sum(s.segments for s in spans.all) == len(dataset.rows("train", ["mix"]))
    for span in spans.all:
        track = made[dataset.tracks[span.track]["track_id"]]
        rows = [i for i, stem in enumerate(track.stem) if stem == "mix"]
        truth = track.log_mel[rows].reshape(-1, TINY.n_mels).astype(np.float32)
        first = span.position * TINY.segment_frames
        assert np.array_equal(spans.read(span), truth[first : first + len(spans.read(span))])
        assert np.array_equal(spans.read(span, 3, 7), truth[first + 3 : first + 10])


def test_a_gap_ends_a_stretch(store: Store) -> None:
    names = [f"t{i}" for i in range(8)]
    for name in names:
        put_features(store, name, segments=6, unusable=[("mix", 2)])
    save(store, [track(n) for n in names])
    dataset = Dataset(store, assemble(store))
    spans = SpanDataset(dataset, "test", ["mix"])
    assert {(s.position, s.segments) for s in spans.all} == {(0, 2), (3, 3)}
    long = SpanDataset(dataset, "test", ["mix"], 3 * TINY.segment_frames)
    assert {(s.position, s.segments) for s in long.all} == {(3, 3)}
    with pytest.raises(InputError, match="25 frames of consecutive usable mix"):
        SpanDataset(dataset, "test", ["mix"], 3 * TINY.segment_frames + 1)


def test_every_start_is_drawn_and_none_crosses_a_border(store: Store) -> None:
    put_tracks(store, [f"t{i}" for i in range(8)])
    dataset = Dataset(store, assemble(store))
    size = TINY.segment_frames
    spans = SpanDataset(dataset, "train", ["mix"], size)
    pieces = spans.sample(3000, np.random.default_rng(0))
    assert pieces.shape == (3000, size, TINY.n_mels)
    seen = {p.tobytes() for p in pieces}
    starts = {
        spans.read(s, start, size).tobytes() for s in spans.all for start in range(s.segments * size - size + 1)
    }
    assert seen <= starts
    assert len(seen) > 0.99 * len(starts)


# The autoencoder.


@given(st.integers(1, 5), st.integers(0, 2**31))
def test_a_shift_by_whole_tokens_shifts_the_latents(tokens: int, seed: int) -> None:
    ae, frame = model(), TEMPORAL_AUTOENCODER.token_frames
    log_mel = torch.randn(1, 40 * frame, FEATURE.n_mels, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        whole, shifted = ae.encode(log_mel), ae.encode(log_mel[:, tokens * frame :])
    edge = TEMPORAL_AUTOENCODER.reach
    inside = whole[:, tokens + edge : 40 - edge]
    assert torch.allclose(inside, shifted[:, edge : 40 - tokens - edge], atol=1e-4)
    # Not because all latents are alike.
    assert float((inside[:, 1:] - inside[:, :-1]).abs().max()) > 1e-3


def test_latents_are_bounded_and_slower_than_frames() -> None:
    ae = model()
    with torch.no_grad():
        made = ae.encode(100 * torch.randn(2, 64, FEATURE.n_mels))
    assert made.shape == (2, 8, TEMPORAL_AUTOENCODER.latent_dim)
    assert float(made.abs().max()) <= 1
    assert ae.latent_rate == pytest.approx(FEATURE.frame_rate / 8)
    assert ae.decode(made).shape == (2, 64, FEATURE.n_mels)


def test_frames_that_are_no_whole_tokens_are_refused() -> None:
    with pytest.raises(InputError, match="frames is 63; allowed: multiples of token_frames = 8"):
        model().encode(torch.zeros(1, 63, FEATURE.n_mels))
    with pytest.raises(InputError, match="latent_dim is 160; allowed: below a token's 160"):
        TemporalAutoencoder(replace(TEMPORAL_AUTOENCODER, latent_dim=160), FEATURE)


# The noise.


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
def test_a_longer_piece_begins_like_a_shorter_one(truncation: float) -> None:
    short = piece_noise(TEMPORAL_GAN, 24, 77, truncation)
    long = piece_noise(TEMPORAL_GAN, 317, 77, truncation)
    assert torch.equal(long[: len(short)], short)
    assert not torch.equal(long[len(short) : 2 * len(short)], short)
    assert not torch.equal(piece_noise(TEMPORAL_GAN, 24, 78, truncation), short)


# The GAN.


@pytest.mark.parametrize("config", [TEMPORAL_GAN, replace(TEMPORAL_GAN, patch_tokens=32)])
def test_a_token_depends_on_no_more_than_the_margins_beside_it(config: TemporalGanConfig) -> None:
    torch.manual_seed(0)
    generator, margin = Generator(config, 12, 0).eval(), config.margin
    noise = piece_noise(config, 8 * margin, 1, 0.0)[None]
    with torch.no_grad():
        together = generator(noise)
        alone = [generator(noise[:, k * margin : (k + 3) * margin]) for k in range(8)]
    assert together.shape == (1, 8 * margin, 12)
    assert torch.allclose(together, torch.cat(alone, dim=1), atol=1e-5)
    # And by no less: what lies just beyond the border is heard on this side of it.
    noise[:, 5 * margin :] += 1
    with torch.no_grad():
        assert not torch.allclose(generator(noise)[:, 4 * margin - 1], together[:, 4 * margin - 1], atol=1e-3)


def test_every_layer_of_noise_and_every_style_is_heard() -> None:
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
def test_the_discriminator_judges_batches_of_any_size(n: int) -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(TEMPORAL_GAN, 12, 2)
    logits = discriminator(torch.randn(n, 2 * TEMPORAL_GAN.patch_tokens, 12), torch.zeros(n, dtype=torch.int64))
    assert logits.shape == (n,)
    assert bool(logits.isfinite().all())


def test_the_penalty_rises_while_the_discriminator_is_too_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = R1Weight(1.0, 0.5)
    for _ in range(10):
        weight.update(torch.ones(8))
    assert float(weight.gamma) == pytest.approx(R1Weight.RATE**10)
    for _ in range(10_000):
        weight.update(-torch.ones(8))
    assert float(weight.gamma) == pytest.approx(1 / R1Weight.RANGE)
    # Half a batch in another process counts as well.
    weight = R1Weight(1.0, 0.5)
    with monkeypatch.context() as patch:
        patch.setattr(distributed, "mean", lambda part: (part + 1) / 2)
        weight.update(torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0]))
    assert float(weight.gamma) == pytest.approx(R1Weight.RATE)
    constant = R1Weight(3.0, None)
    constant.update(torch.ones(8))
    assert float(constant.gamma) == 3.0
