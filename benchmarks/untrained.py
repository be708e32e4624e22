"""Releases at the size of the preset `small` with random weights, which cost as much time as trained ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PIPELINE = "temporal_gan"
# Log magnitude around which the spectra lie: the sound of random weights is neither silent nor clipped.
_LEVEL = -3.0


def write_release(folder: Path, pipeline: str = PIPELINE) -> None:
    """Writes a release with a refiner and the neural vocoder.

    Args:
        folder: New.
        pipeline: Over the temporal codec.
    """
    import torch

    from melodygan_core import vocoder
    from melodygan_core.codec.refiner.model import Refiner
    from melodygan_core.config import to_dict
    from melodygan_core.config.presets import PRESETS
    from melodygan_core.config.registry import codec_component, prior_component
    from melodygan_core.prior import LatentSpace
    from melodygan_core.release.manifest import FILE, Component, Manifest, folder_sha256
    from melodygan_core.storage import dump_json
    from melodygan_core.training.checkpoint import save_weights

    preset = PRESETS["small"]
    row, feature = preset.pipelines[pipeline], to_dict(preset.features)
    codec_config, prior_config = preset.codecs[row.codec], preset.priors[row.codec][row.prior]
    torch.manual_seed(0)
    codec = codec_component(row.codec).load().model(codec_config, preset.features)
    codec.log_mel_mean.fill_(_LEVEL)
    values = codec.token_frames * preset.features.n_bands + preset.features.n_stereo
    refiner = Refiner(preset.refiner, values, codec.latent_dim)
    refiner.noise_std.fill_(0.3)
    space = LatentSpace(torch.zeros(codec.latent_dim), torch.ones(codec.latent_dim))
    prior = prior_component(row.codec, row.prior).load().model(prior_config, space)
    model = vocoder.NeuralVocoder(preset.vocoder, preset.features)
    for module in (refiner.change, model.head[1]):
        torch.nn.init.normal_(module.get_parameter("weight"), std=0.01)
    statistics = {"conditions": [], "mean": space.mean.tolist(), "std": space.std.tolist()}
    parts: dict[str, tuple[str, dict[str, torch.nn.Module], dict[str, Any]]] = {
        "codec": (
            row.codec,
            {"model": codec},
            {"codec": row.codec, "config": to_dict(codec_config), "feature": feature},
        ),
        "refiner": (
            "flow",
            {"model": refiner},
            {"config": to_dict(preset.refiner), "values": values, "latent_dim": codec.latent_dim},
        ),
        "prior": (
            f"{row.codec}/{row.prior}",
            {"": prior},
            {"codec": row.codec, "prior": row.prior, "config": to_dict(prior_config), **statistics},
        ),
        "vocoder": (
            row.vocoder,
            {"model": model},
            {"config": to_dict(preset.vocoder), "feature": feature},
        ),
    }
    components = {}
    for name, (kind, modules, config) in parts.items():
        (folder / name).mkdir(parents=True)
        save_weights(folder / name, modules, config)
        components[name] = Component(kind, name, folder_sha256(folder / name))
    manifest = Manifest(
        pipeline=pipeline,
        version="untrained",
        components=components,
        models={},
        sources={"tracks": [], "licences": [], "stems": ["mix"], "dataset": ""},
        generation=to_dict(preset.generation),
        evaluation={},
        griffin_lim=to_dict(preset.griffin_lim),
    )
    dump_json(folder / FILE, manifest.to_dict())
