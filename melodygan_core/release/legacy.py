"""Reads release folders of version 0.1, which had one `family` in place of codec and prior."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from melodygan_core import codec as codecs
from melodygan_core import prior as priors
from melodygan_core import vocoder as vocoders
from melodygan_core.codec import Codec
from melodygan_core.config import require, to_dict
from melodygan_core.prior import Prior
from melodygan_core.release.manifest import MAX_BYTES, NO_REFINER, Component, Manifest, checked_provenance
from melodygan_core.training.checkpoint import config_errors, load_config
from melodygan_core.vocoder import NeuralVocoder

FILE = "config.json"
FAMILIES = ("dense", "temporal")
_RENAMED = {
    "adversarial_weight": "adv_weight",
    "adversarial_from": "disc_start",
    "matching_weight": "feature_matching_weight",
    "critic_channels": "disc_channels",
}


def is_legacy(folder: Path) -> bool:
    """Whether a folder holds a release of version 0.1."""
    return (folder / FILE).is_file() and (folder / "autoencoder").is_dir()


def read(folder: Path) -> Manifest:
    """The manifest that a release of version 0.1 would have; the hashes are in `artifact.json` alone.

    Raises:
        InputError: damaged, or of a family that version 0.1 did not have.
    """
    keys = ("family", "version", "models", "sources", "generation")
    stored = load_config(folder, *keys, file=FILE, max_bytes=MAX_BYTES)
    codec = stored["family"]
    require(codec in FAMILIES, f"family in {folder / FILE}", codec, ", ".join(FAMILIES))
    provenance = checked_provenance(folder / FILE, {**stored, "pipeline": f"{codec}_gan"})
    with config_errors(folder):
        generation = dict(stored["generation"])
        kind, griffin_lim = generation.pop("vocoder", "neural"), generation.pop("griffin_lim", {})
        return Manifest(
            pipeline=provenance.pipeline,
            version=provenance.version,
            components={
                "codec": Component(codec, "autoencoder", ""),
                "prior": Component(f"{codec}/gan", "gan", ""),
                "refiner": NO_REFINER,
                "vocoder": Component(kind, "vocoder", ""),
            },
            models=dict(provenance.models),
            sources=to_dict(provenance.sources),
            generation=generation,
            evaluation=dict(stored.get("evaluation") or {}),
            griffin_lim=dict(griffin_lim),
        )


def _renamed(config: Any) -> Any:
    if not isinstance(config, dict):
        return config
    return {_RENAMED.get(k, k): v for k, v in config.items()}


def load_codec(folder: Path, device: torch.device) -> Codec:
    """The codec of an `autoencoder` folder of version 0.1."""
    stored = load_config(folder, "family", "config", "feature")
    config = {**stored, "codec": stored["family"], "config": _renamed(stored["config"])}
    return codecs.from_config(config, folder, device)


def load_prior(folder: Path, device: torch.device) -> Prior:
    """The prior of a `gan` folder of version 0.1."""
    stored = load_config(folder, "family", "config", "conditions", "mean", "std")
    config = {**stored, "codec": stored["family"], "prior": "gan", "config": _renamed(stored["config"])}
    return priors.from_config(config, folder, device)


def load_vocoder(folder: Path, device: torch.device) -> NeuralVocoder:
    """The neural vocoder of a `vocoder` folder of version 0.1."""
    stored = load_config(folder, "config", "feature")
    return vocoders.from_config({**stored, "config": _renamed(stored["config"])}, folder, device)
