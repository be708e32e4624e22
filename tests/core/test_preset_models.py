"""Every preset's models are built and take one batch through on the CPU."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from melodygan_core.codec.dense import DenseCodec
from melodygan_core.codec.temporal import TemporalCodec
from melodygan_core.config import registry
from melodygan_core.config.presets import PRESETS, preset
from melodygan_core.pipeline import Pipeline, frames_of, neural_vocoder
from melodygan_core.prior import LatentSpace
from melodygan_core.prior.gan import dense, temporal
from melodygan_core.vocoder import NeuralVocoder

NAMES = [pytest.param(name, marks=[pytest.mark.slow] if name == "large" else []) for name in PRESETS]


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
    log_mel = torch.randn(2, 16, feature.n_mels)
    wav = vocoder((log_mel + model(log_mel[:, : 2 * config.token_frames])).transpose(1, 2))
    (logits.sum() + wav.square().sum()).backward()
    assert wav.shape == (2, 15 * feature.hop_length)
    for part in (model, vocoder, generator, discriminator):
        grads = [p.grad for p in part.parameters() if p.grad is not None]
        assert grads and all(bool(g.isfinite().all()) for g in grads)


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
        mfcc = torch.randn(2, frames, feature.n_mfcc if model.uses_mfcc else 0)
        log_mel = torch.randn(2, frames, feature.n_mels)
        latents = pipeline.encode(log_mel, mfcc)
        assert latents.shape == (2, frames // model.token_frames, model.latent_dim)
        assert torch.equal(pipeline.decode(latents), pipeline.reconstruct(log_mel, mfcc))
        wanted = frames_of(1.0, feature)
        sample = pipeline.sample(wanted, seed=1, condition=1)
        assert sample.log_mel.shape == (feature.n_mels, wanted)
        assert sample.latents.shape == (model.tokens_for(wanted), model.latent_dim)
        wav = pipeline.vocode(sample.log_mel[None])
        assert wav.shape == (1, (wanted - 1) * feature.hop_length) and bool(wav.isfinite().all())
