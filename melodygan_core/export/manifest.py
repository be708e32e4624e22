"""What an exported folder says of itself: networks with their hashes and shapes, configs, sources."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from melodygan_core.config import (
    FeatureConfig,
    GenerationConfig,
    GriffinLimConfig,
    VocoderConfig,
    from_dict,
    require,
    to_dict,
)
from melodygan_core.config.base import ConfigModel, Rule
from melodygan_core.config.provenance import Line, Sources, are_texts
from melodygan_core.config.registry import prior_component
from melodygan_core.errors import InputError
from melodygan_core.storage import dump_json, load_object, sha256_of

FILE = "export.json"
FORMAT = 1
# An export of a release of 100,000 tracks has a manifest of some 30 MB.
MAX_BYTES = 64_000_000
_MAX_VALUES = 4096

# Length of an axis, or the name of one whose length is chosen at each call.
Shape = tuple[int | Line, ...]
Size = Annotated[int, Field(ge=1, le=1 << 20)]
PlainName = Annotated[
    str,
    Field(max_length=100),
    Rule("the name of a file of the folder", lambda name: Path(name).name == name and "\\" not in name),
]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Bounds = Annotated[tuple[float, ...], Field(max_length=_MAX_VALUES)]


class Port(ConfigModel):
    """An input or output of a network."""

    name: Line
    shape: Shape


class Network(ConfigModel):
    """One ONNX file."""

    name: Line
    file: PlainName
    sha256: Hash
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    max_error: float = Field(ge=0, description="Largest difference to torch at the lengths that were compared.")


class CodecShape(ConfigModel):
    """What of a codec is computed outside its networks."""

    kind: Literal["dense", "temporal"]
    token_frames: Size
    latent_dim: Size
    overlap_frames: int = Field(0, ge=0, description="Frames in which two segments of `dense` cross-fade.")
    noise_values: int = Field(0, ge=0, le=1 << 20, description="Noise of a token; 0 without a refiner.")
    reach_tokens: int = Field(0, ge=0, le=100_000, description="Tokens on each side that a token depends on.")


class PriorShape(ConfigModel):
    """What of a prior is computed outside its networks."""

    kind: Literal["dense/gan", "temporal/gan", "temporal/flow", "temporal/plan"]
    config: dict[str, Any]
    conditions: Annotated[tuple[Line, ...], Field(max_length=10_000)] = ()
    lowest: Bounds = ()
    highest: Bounds = ()

    def read_config(self) -> Any:
        """The config of the prior's class.

        Raises:
            InputError: a value that the config does not allow.
        """
        codec, _, name = self.kind.partition("/")
        return from_dict(prior_component(codec, name).config, self.config)


class VocoderShape(ConfigModel):
    """What of the vocoder is computed outside its networks."""

    kind: Literal["neural", "griffin_lim"]
    iterations: int = Field(0, ge=0, le=100, description="Griffin-Lim iterations of the initial spectrum.")
    config: VocoderConfig | None = None
    griffin_lim: GriffinLimConfig = Field(default_factory=GriffinLimConfig)


class ExportManifest(ConfigModel):
    """The content of `export.json`."""

    format: Literal[1] = FORMAT
    pipeline: Line
    version: Line
    networks: tuple[Network, ...]
    feature: FeatureConfig
    codec: CodecShape
    prior: PriorShape
    vocoder: VocoderShape
    generation: GenerationConfig
    models: Annotated[dict[str, Any], Rule("names with their versions, each text", are_texts)]
    sources: Sources
    evaluation: dict[str, Any]

    @property
    def provenance(self) -> dict[str, Any]:
        """What every sound that is made with the export carries, as with its release."""
        return {
            "release": self.version,
            "pipeline": self.pipeline,
            "models": dict(self.models),
            "sources": to_dict(self.sources),
        }

    @property
    def vocoders(self) -> tuple[str, ...]:
        """The vocoders that it can make sound with."""
        return ("neural", "griffin_lim") if "vocoder" in self.by_name else ("griffin_lim",)

    @property
    def by_name(self) -> dict[str, Network]:
        """The networks by their names."""
        return {network.name: network for network in self.networks}


def is_export(name: str) -> bool:
    """Whether a name is that of an exported folder on this machine."""
    return "://" not in name and (Path(name) / FILE).is_file()


def write(folder: Path, manifest: ExportManifest) -> None:
    """Writes the manifest of a folder that nobody reads yet."""
    dump_json(folder / FILE, to_dict(manifest))


def read(folder: Path) -> ExportManifest:
    """The manifest of an exported folder; its networks are as hashed.

    Raises:
        InputError: no export, another format, a value that is not allowed, or a network that is missing or has
            changed.
    """
    path = folder / FILE
    require(path.is_file(), "release", str(folder), f"a folder with a {FILE}")
    stored = load_object(path, MAX_BYTES)
    found = stored.get("format")
    require(found == FORMAT, f"format of {path}", found, str(FORMAT))
    try:
        manifest = from_dict(ExportManifest, stored)
    except InputError as error:
        # A damaged list may have thousands of wrong items.
        raise InputError(f"{path}: {'; '.join(map(str, error.args[:5]))}") from error
    for network in manifest.networks:
        file = folder / network.file
        require(file.is_file(), f"file of {path}", network.file, "an existing file of the folder")
        found = sha256_of(file)
        require(found == network.sha256, f"SHA-256 of {file}", found, f"{network.sha256}, as in {FILE}")
    return manifest
