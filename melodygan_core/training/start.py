"""Weights that a training begins with: one part of a release, with what the release was trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from melodygan_core.config import ConfigModel, FeatureConfig, config_id, from_dict, require, to_dict
from melodygan_core.errors import InputError
from melodygan_core.storage import Artifact, dump_json
from melodygan_core.storage.start import FILE, NAME

# Of the fields of features: it shapes nothing.
_WORKERS = "workers"


@dataclass(frozen=True)
class Start:
    """One part of a release, whose weights a training begins with.

    Attributes:
        part: `codec`, `refiner`, `prior` or `vocoder`.
        folder: Checkpoint of the part; its hash is that of the release's manifest.
        sha256: Hash over the files of the folder.
        pipeline: Of the release.
        version: Of the release.
        sources: Training tracks of the release with licences and rights, as its manifest has them.
        codec_id: `id` of the codec of the same release: a refiner and a prior fit no other latents.
    """

    part: str
    folder: Path
    sha256: str
    pipeline: str
    version: str
    sources: dict[str, Any]
    codec_id: str

    @property
    def id(self) -> str:
        """Changes with the weights and with what they were trained on."""
        return start_id(self.part, self.sha256, self.sources)

    @property
    def described(self) -> dict[str, str]:
        """Which release and part it is, for the config of a checkpoint."""
        facts = {"pipeline": self.pipeline, "version": self.version}
        return {**facts, "part": self.part, "sha256": self.sha256}


def start_id(part: str, sha256: str, sources: dict[str, Any]) -> str:
    """The id of a part of a release with what it was trained on."""
    return config_id(part, sha256, sources)


def identity(start: Start | None) -> list[Any]:
    """What the version of a checkpoint depends on besides its data and config; nothing for random weights."""
    return [] if start is None else [{NAME: start.id}]


def inputs(start: Start | None) -> dict[str, str]:
    """The inputs that a checkpoint has besides its data."""
    return {} if start is None else {NAME: start.id}


def record(start: Start | None, folder: Path) -> dict[str, Any]:
    """Writes the provenance of starting weights into the folder of a checkpoint.

    Returns:
        What the config of the checkpoint says of them; nothing for random weights.
    """
    if start is None:
        return {}
    dump_json(folder / FILE, {"id": start.id, **start.described, "sources": start.sources})
    return {"start": start.described}


def check_part(start: Start, part: str) -> None:
    """Checks that starting weights are those of a kind of model.

    Raises:
        InputError: they are another part of a release.
    """
    require(start.part == part, f"part of `{NAME}`", start.part, part)


def check_codec(start: Start, checkpoint: Artifact) -> None:
    """Checks that a codec began with the weights of the same release.

    Raises:
        InputError: it did not, so that its latents are others.
    """
    found = checkpoint.inputs.get(NAME, "random weights")
    if found != start.codec_id:
        raise InputError(
            f"{NAME} must be the release that {checkpoint.name} {checkpoint.version} began with, because the"
            f" {start.part} fits no other latents, got {start.pipeline} {start.version}"
        )


def check_features(own: FeatureConfig, start: Start, stored: FeatureConfig) -> None:
    """Checks that features are made as those that starting weights were trained on.

    Raises:
        InputError: a setting differs; names it.
    """
    values = to_dict(own)
    for name, value in to_dict(stored).items():
        if name != _WORKERS:
            require(
                values[name] == value, f"features.{name}", values[name], f"{value!r}, as in {_release(start)}"
            )


def check_settings(
    name: str, own: ConfigModel, start: Start, stored: ConfigModel, build: Callable[[Any], nn.Module]
) -> None:
    """Checks that a network of one config has the shapes of a network of another config.

    Args:
        name: Of the config, such as `codecs.temporal`, before the name of a setting.
        own: Of the network that is trained.
        start: What it begins with.
        stored: The config of that.
        build: A network of a config; it is built on the meta device, where no size costs anything.

    Raises:
        InputError: a setting makes other shapes; names it.
    """

    def shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]] | None:
        try:
            with torch.device("meta"):
                state = build(from_dict(type(own), config)).state_dict()
        except InputError:
            # A setting that cannot be changed alone.
            return None
        return {key: tuple(value.shape) for key, value in state.items()}

    values, theirs = to_dict(own), to_dict(stored)
    wanted = shapes(values)
    if wanted == shapes(theirs):
        return
    differing = [field for field in theirs if values[field] != theirs[field]]
    for field in differing:
        same = shapes({**values, field: theirs[field]}) == wanted
        require(same, f"{name}.{field}", values[field], f"{theirs[field]!r}, as in {_release(start)}")
    raise InputError(f"{name} must be that of {_release(start)}, got other values of {', '.join(differing)}")


def _release(start: Start) -> str:
    return f"the {start.part} of the release {start.pipeline} {start.version} that training starts from"
