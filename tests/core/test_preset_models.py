"""Every preset's models are built and take one batch through on the CPU."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from melodygan_core.codec.dense import DenseCodec
from melodygan_core.codec.temporal import TemporalCodec
from melodygan_core.config import registry
from melodygan_core.config.presets import PRESETS, preset
from melodygan_core.piece_files import frames_of
from melodygan_core.pipeline import Pipeline
from melodygan_core.prior import LatentSpace
from melodygan_core.prior.flow.network import VelocityNetwork
from melodygan_core.prior.gan import dense, temporal
from melodygan_core.vocoder import FlowVocoder, NeuralVocoder, neural_vocoder
from melodygan_core.vocoder.flow import WaveformFlow
from melodygan_core.vocoder.flow.spectra import Residual

NAMES = [pytest.param(name, marks=[pytest.mark.slow] if name in ("base", "large") else []) for name in PRESETS]


@pytest.mark.parametrize("name", PRESETS)
def test_every_registered_codec_and_prior_is_built(name: str) -> None:
    made = preset(name)
    with torch.device("meta"):
        for codec in registry.codec_names():
            kind = registry.codec_component(codec).load()
            model = kind.model(made.codecs[codec], made.features)
            assert model.latent_dim == made.codecs[codec].latent_dim
            assert made.features.segment_frames % model.token_frames == 0
    for codec, prior in registry.prior_names():
        width = made.codecs[codec].latent_dim
        space = LatentSpace(torch.zeros(width), torch.ones(width))
        with torch.device("meta"):
            built = registry.prior_component(codec, prior).load().model(made.priors[codec][prior], space)
        assert built.latent_dim == width


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_s_dense_models_take_one_batch(name: str) -> None:
    made = preset(name)
    config, gan = made.codecs["dense"], made.priors["dense"]["gan"]
    torch.manual_seed(0)
    model = DenseCodec(config, made.features)
    assert made.features.segment_frames % config.time_bins == 0
    vector = torch.randn(2, model.vector_dim)
    latents = model.encode_vectors(vector)
    F.mse_loss(model(vector), vector).backward()
    norms = [float(p.grad.norm()) for p in model.parameters() if p.grad is not None]
    assert len(norms) == len(list(model.parameters()))
    assert latents.shape == (2, config.latent_dim)
    assert bool(torch.tensor(norms).isfinite().all())
    generator = dense.Generator(gan, config.latent_dim, 2)
    discriminator = dense.Discriminator(gan, config.latent_dim, 2)
    condition = torch.tensor([0, 1])
    logits = discriminator(generator(torch.randn(2, gan.noise_dim), condition), condition)
    logits.sum().backward()
    assert logits.shape == (2,)
    assert generator.head.weight.grad is not None
    assert float(generator.head.weight.grad.abs().sum()) > 0


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_s_temporal_models_and_vocoder_take_one_batch(name: str) -> None:
    made = preset(name)
    config, gan, feature = made.codecs["temporal"], made.priors["temporal"]["gan"], made.features
    torch.manual_seed(0)
    model, vocoder = TemporalCodec(config, feature), NeuralVocoder(made.vocoder, feature)
    generator = temporal.Generator(gan, config.latent_dim, 2)
    discriminator = temporal.Discriminator(gan, config.latent_dim, 2)
    condition = torch.tensor([0, 1])
    latents = generator(torch.randn(2, gan.patch_tokens + 2 * gan.margin, gan.noise_dim), condition)
    logits = discriminator(torch.cat([latents, latents], dim=1), condition)
    spectrum = torch.randn(2, 16, feature.n_bands)
    part = spectrum[:, : 2 * config.token_frames]
    stereo = torch.randn(2, part.shape[1], feature.n_stereo)
    decoded = model({feature.spectrum: part, "stereo": stereo})
    assert decoded.stereo is not None
    wav = vocoder((spectrum + decoded.spectrum).transpose(1, 2))
    flow = VelocityNetwork(made.priors["temporal"]["flow"], config.latent_dim, 2)
    tokens = torch.randn(2, made.priors["temporal"]["flow"].window_tokens, config.latent_dim)
    velocity = flow(tokens, torch.rand(2), tokens, torch.zeros_like(tokens[..., :1]), condition)
    assert velocity.shape == tokens.shape
    loss = wav.square().sum() + (velocity - tokens).square().mean() + decoded.stereo.square().sum()
    (logits.sum() + loss).backward()
    assert wav.shape == (2, 15 * feature.hop_length)
    for part in (model, vocoder, generator, discriminator, flow):
        grads = [p.grad for p in part.parameters() if p.grad is not None]
        assert grads and all(bool(g.isfinite().all()) for g in grads)


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_s_flow_vocoder_takes_one_batch(name: str) -> None:
    made = preset(name)
    torch.manual_seed(0)
    neural = NeuralVocoder(made.vocoder, made.features).eval()
    model = FlowVocoder(neural, WaveformFlow(made.flow_vocoder, made.features))
    frames = made.features.n_fft // made.features.hop_length + 1
    wav = model(torch.randn(2, made.features.n_bands, frames) - 4, seed=[1, 2])
    assert wav.shape == (2, (frames - 1) * made.features.hop_length) and bool(wav.isfinite().all())
    first = torch.rand(2, made.features.n_fft // 2 + 1, frames)
    conditions = torch.randn(2, 2 * made.features.n_bands, frames)
    predicted = model.flow(first, torch.rand(2), Residual(first, model.flow.noise_std), conditions)
    predicted.square().mean().backward()
    grads = [p.grad for p in model.flow.parameters() if p.grad is not None]
    assert len(grads) == len(list(model.flow.parameters()))
    assert all(bool(g.isfinite().all()) for g in grads)


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_s_pipelines_take_one_batch(name: str) -> None:
    made = preset(name)
    feature = made.features
    torch.manual_seed(0)
    vocoder = neural_vocoder(NeuralVocoder(made.vocoder, feature).eval(), feature)
    for codec, prior in registry.prior_names():
        model = registry.codec_component(codec).load().model(made.codecs[codec], feature).eval()
        space = LatentSpace(torch.zeros(model.latent_dim), torch.ones(model.latent_dim), ("a", "b"))
        config = made.priors[codec][prior]
        built = registry.prior_component(codec, prior).load().model(config, space).eval()
        pipeline = Pipeline(f"{codec}_{prior}", model, built, vocoder, torch.device("cpu"))
        frames = 2 * feature.segment_frames
        features = {name: torch.randn(2, frames, feature.columns[name]) for name in model.columns}
        latents = pipeline.encode(features)
        assert latents.shape == (2, frames // model.token_frames, model.latent_dim)
        assert torch.equal(pipeline.decode(latents).spectrum, pipeline.reconstruct(features).spectrum)
        wanted = frames_of(1.0, feature)
        sample = pipeline.sample(wanted, seed=1, condition=1)
        assert sample.decoded.spectrum.shape == (1, wanted, feature.n_bands)
        assert sample.latents.shape == (model.tokens_for(wanted), model.latent_dim)
        wav = pipeline.sound(sample.decoded)
        channels = 1 if sample.decoded.stereo is None else 2
        assert wav.shape == (1, channels, (wanted - 1) * feature.hop_length) and bool(wav.isfinite().all())
