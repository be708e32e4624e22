"""Untrained releases in memory, whose every network changes what goes through it, and their exports."""

from __future__ import annotations

import torch
from torch import nn

from melodygan_core.codec.dense import DenseCodec
from melodygan_core.codec.refiner.model import Refiner
from melodygan_core.codec.temporal import TemporalCodec
from melodygan_core.config import (
    FeatureConfig,
    GenerationConfig,
    GriffinLimConfig,
    RefinerConfig,
    VocoderConfig,
    replace,
    to_dict,
)
from melodygan_core.pipeline import Pipeline
from melodygan_core.prior import LatentSpace, Prior
from melodygan_core.prior.flow.temporal import TemporalFlow
from melodygan_core.prior.gan import DenseGan, TemporalGan
from melodygan_core.release import Manifest, Release
from melodygan_core.release.manifest import NO_REFINER, Component
from melodygan_core.vocoder import NeuralVocoder, load_vocoder, neural_vocoder
from tests.core.made import (
    DENSE_CODEC,
    DENSE_GAN,
    FEATURE,
    TEMPORAL_CODEC,
    TEMPORAL_FLOW,
    TEMPORAL_GAN,
    VOCODER,
)

CPU = torch.device("cpu")
CONDITIONS = ("fast", "slow", '<b>&"quoted"</b>')
HOSTILE_TITLE = "<script>alert(1)</script> & 'Lied' \u202e"
GENERATION = GenerationConfig(count=2, duration_s=2.0, seed=7)
REFINER = RefinerConfig(width=16, blocks=1, kernel=3, steps=2)
SOURCES = {
    "dataset": "made",
    "stems": ["mix"],
    "tracks": [
        {
            "track_id": "a",
            "title": HOSTILE_TITLE,
            "url": "https://example.org/a?b=<c>",
            "licence": "CC0-1.0",
            "rights": "open",
        },
        {"track_id": "b", "title": "Second", "url": "javascript:alert(2)", "licence": "", "rights": "unknown"},
    ],
    "licences": ["CC0-1.0", "unknown"],
    "rights": ["open", "unknown"],
}


def awake(module: nn.Module, seed: int = 1) -> nn.Module:
    """The module with parameters that are all random: heads that begin at zero would hide their inputs."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in module.parameters():
            if value.ndim > 1:
                value.copy_(torch.randn(value.shape, generator=rng) / value[0].numel() ** 0.5)
            else:
                value.add_(0.1 * torch.randn(value.shape, generator=rng))
    return module.eval()


def release_of(pipeline: str, feature: FeatureConfig = FEATURE, vocoder: str = "neural") -> Release:
    """An untrained release; the temporal codec has a refiner, and every prior has conditions.

    Args:
        pipeline: `temporal_gan`, `temporal_flow` or `dense_gan`.
        feature: Of the codec and the vocoder.
        vocoder: `neural` or `griffin_lim`.
    """
    torch.manual_seed(0)
    codec, prior = _dense(feature) if pipeline == "dense_gan" else _temporal(pipeline, feature)
    griffin_lim = GriffinLimConfig(iterations=4)
    sound = neural_vocoder(_vocoder(feature), feature)
    if vocoder == "griffin_lim":
        sound = load_vocoder("griffin_lim", feature, None, griffin_lim)
    kind = pipeline.partition("_")[0]
    components = {
        "codec": Component(kind, "codec", ""),
        "refiner": NO_REFINER,
        "prior": Component(pipeline.replace("_", "/"), "prior", ""),
        "vocoder": Component(vocoder, "vocoder", ""),
    }
    manifest = Manifest(
        pipeline=pipeline,
        version="untrained",
        components=components,
        models={"prior": "1"},
        sources=SOURCES,
        generation=to_dict(GENERATION),
        evaluation={"kad": 1.5},
        griffin_lim=to_dict(griffin_lim),
    )
    made = Pipeline(pipeline, codec, prior, sound, CPU)
    return Release(made, GENERATION, manifest, {})


def _space(dim: int) -> LatentSpace:
    rng = torch.Generator().manual_seed(3)
    return LatentSpace(torch.randn(dim, generator=rng) / 4, 0.5 + torch.rand(dim, generator=rng), CONDITIONS)


def _dense(feature: FeatureConfig) -> tuple[DenseCodec, Prior]:
    codec = DenseCodec(DENSE_CODEC, feature)
    awake(codec)
    prior = DenseGan(DENSE_GAN, _space(codec.latent_dim))
    awake(prior)
    return codec, prior


def _temporal(pipeline: str, feature: FeatureConfig) -> tuple[TemporalCodec, Prior]:
    codec = TemporalCodec(TEMPORAL_CODEC, feature)
    awake(codec)
    codec.log_mel_mean.fill_(-2.0)
    refiner = Refiner(REFINER, codec.config.token_frames * feature.n_bands + feature.n_stereo, codec.latent_dim)
    awake(refiner)
    refiner.noise_std.fill_(0.3)
    codec.refiner = refiner
    space = _space(codec.latent_dim)
    if pipeline == "temporal_gan":
        prior: Prior = TemporalGan(TEMPORAL_GAN, space)
    else:
        prior = TemporalFlow(replace(TEMPORAL_FLOW, condition="tag"), space)
        prior.model.whitening.fit(
            torch.randn(200, codec.latent_dim, generator=torch.Generator().manual_seed(5)), 0.01
        )
    awake(prior)
    return codec, prior


def _vocoder(feature: FeatureConfig, config: VocoderConfig = VOCODER) -> NeuralVocoder:
    model = NeuralVocoder(config, feature)
    for value in model.head.parameters():
        nn.init.normal_(value, std=0.05)
    return model.eval()
