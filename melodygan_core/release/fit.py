"""Whether the parts of a release fit one another, from their configs alone: no weight is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from melodygan_core.config import (
    FeatureConfig,
    FlowVocoderConfig,
    GenerationConfig,
    from_dict,
    require,
    stored_features,
    to_dict,
)
from melodygan_core.config.registry import codec_component, prior_component
from melodygan_core.training.checkpoint import config_errors, load_config


def check_parts(paths: Mapping[str, Path], vocoder: str, generation: GenerationConfig) -> None:
    """Checks the configs of a release's parts by themselves, then against one another.

    Args:
        paths: Folder of `codec`, `prior` and `vocoder`; the last is read if it has a checkpoint.
        vocoder: Name of the vocoder that is wanted; empty for one without a checkpoint.
        generation: How the release makes sound.

    Raises:
        InputError: a value that its config does not allow, or two parts that do not fit; names both values.
    """
    stored = load_config(paths["codec"], "codec", "config", "feature")
    with config_errors(paths["codec"]):
        codec = from_dict(codec_component(stored["codec"]).config, stored["config"])
        feature = stored_features(stored["feature"])
    described = load_config(paths["prior"], "codec", "prior", "config", "conditions", "mean", "std")
    with config_errors(paths["prior"]):
        from_dict(prior_component(described["codec"], described["prior"]).config, described["config"])
    _check_latents(described, codec)
    if generation.condition:
        known = ", ".join(map(str, described["conditions"])) or "empty, as the prior has none"
        found = generation.condition in described["conditions"]
        require(found, "condition of the release", generation.condition, known)
    if vocoder in ("neural", "flow"):
        _check_vocoder(paths["vocoder"], feature, flow=vocoder == "flow")


def _check_latents(described: dict[str, Any], codec: Any) -> None:
    """The prior's statistics have one value for each of the codec's latent."""
    for name in ("mean", "std"):
        width = len(described[name]) if isinstance(described[name], list) else described[name]
        wanted = f"{codec.latent_dim}, the codec's latent_dim"
        require(width == codec.latent_dim, f"length of the prior's {name}", width, wanted)
    conditions = described["conditions"]
    named = isinstance(conditions, list) and all(isinstance(name, str) for name in conditions)
    require(named, "conditions of the prior", conditions, "a list of names")


def _check_vocoder(folder: Path, feature: FeatureConfig, *, flow: bool) -> None:
    """The vocoder was trained on the codec's features, and has a flow if one is wanted."""
    stored = load_config(folder, "config", "feature")
    if flow:
        require("flow" in stored, "vocoder", "flow", "'neural' or 'griffin_lim' where no flow is trained")
        with config_errors(folder):
            from_dict(FlowVocoderConfig, stored["flow"])
    with config_errors(folder):
        own = to_dict(stored_features(stored["feature"]))
    for name, value in to_dict(feature).items():
        # The number of processes shapes nothing.
        if name != "workers":
            require(own[name] == value, f"{name} of the vocoder", own[name], f"{value}, the codec's")
