"""The whole config: every stage's, the codecs and priors of the registry, and the table of pipelines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, PlainSerializer, PlainValidator, model_validator
from pydantic_core import PydanticCustomError

from melodygan_core.config.base import C, ConfigModel, FrozenDict, from_dict, to_dict
from melodygan_core.config.codec import RefinerConfig
from melodygan_core.config.data import (
    CatalogueConfig,
    DatasetConfig,
    DownloadConfig,
    FeatureConfig,
    SeparationConfig,
)
from melodygan_core.config.messages import ConfigError, prefixed, require
from melodygan_core.config.registry import (
    MAX_NAME,
    check_name,
    codec_component,
    codec_names,
    prior_component,
    prior_names,
)
from melodygan_core.config.use import EvaluationConfig, GenerationConfig
from melodygan_core.config.values import ALL_DIFFERENT, Vocoder
from melodygan_core.config.vocoder import FlowVocoderConfig, GriffinLimConfig, VocoderConfig

_MAX_PIPELINES = 100
Name = Annotated[str, Field(max_length=MAX_NAME)]
Part = Literal["codec", "refiner", "prior", "vocoder"]
Parts = Annotated[tuple[Part, ...], Field(min_length=1, max_length=len(get_args(Part))), ALL_DIFFERENT]


class PipelineConfig(ConfigModel):
    """A pipeline: one codec, one prior over its latents and one vocoder, by name."""

    codec: Name = Field(description="Name of a codec, such as `temporal`.")
    prior: Name = Field(description="Name of a prior over the codec's latents, such as `gan`.")
    vocoder: Vocoder = Field(
        "neural",
        description="`neural`, which is trained; `griffin_lim`, which needs no training; or `flow`, which is "
        "trained over `neural`.",
    )

    refiner: bool = Field(
        True, description="Refine what the codec decodes, if it is a codec of which that is known."
    )

    @model_validator(mode="after")
    def _registered(self) -> PipelineConfig:
        prior_component(self.codec, self.prior)
        return self

    @property
    def refined(self) -> bool:
        """Whether the pipeline has a refiner."""
        return self.refiner and codec_component(self.codec).refined


def _row(cls: type[C], name: str, value: Any) -> C:
    """The config of one row of a table, from the row as it is in a file."""
    if isinstance(value, cls):
        return value
    require(isinstance(value, Mapping), name, value, f"a mapping of the fields of {cls.__name__}")
    try:
        return from_dict(cls, value)
    except ConfigError as error:
        raise ConfigError(*[prefixed(name, sentence) for sentence in error.args]) from None


def _check_rows(value: Any, known: list[str], what: str) -> None:
    if not isinstance(value, Mapping):
        raise PydanticCustomError("table", "table")
    for name in value:
        require(name in known, f"name of a {what}", name, ", ".join(known) or "none")


def _codecs(given: Any) -> FrozenDict:
    """The config of every registered codec; those that are not given have their defaults."""
    _check_rows(given, codec_names(), "codec")
    return FrozenDict(
        {name: _row(codec_component(name).config, name, given.get(name, {})) for name in codec_names()}
    )


def _priors(given: Any) -> FrozenDict:
    """The config of every registered prior, by codec and name; those that are not given have their defaults."""
    _check_rows(given, codec_names(), "codec")
    made: dict[str, dict[str, ConfigModel]] = {codec: {} for codec, _ in prior_names()}
    for codec, rows in given.items():
        require(isinstance(rows, Mapping), codec, rows, "a mapping of priors by name")
        _check_rows(rows, [name for of, name in prior_names() if of == codec], f"prior over {codec}")
    for codec, name in prior_names():
        row = given.get(codec, {}).get(name, {})
        made[codec][name] = _row(prior_component(codec, name).config, f"{codec}.{name}", row)
    return FrozenDict({codec: FrozenDict(rows) for codec, rows in made.items()})


def _pipelines(given: Any) -> FrozenDict:
    """A pipeline per registered prior with the neural vocoder, and the given ones, which replace those."""
    if not isinstance(given, Mapping):
        raise PydanticCustomError("table", "table")
    require(len(given) <= _MAX_PIPELINES, "number of pipelines", len(given), f"at most {_MAX_PIPELINES}")
    for name in given:
        check_name("name of a pipeline", name)
    made = {f"{codec}_{prior}": PipelineConfig(codec=codec, prior=prior) for codec, prior in prior_names()}
    return FrozenDict(made | {name: _row(PipelineConfig, name, value) for name, value in given.items()})


def _plain(table: Mapping[str, Any]) -> dict[str, Any]:
    return {k: to_dict(v) if isinstance(v, ConfigModel) else _plain(v) for k, v in table.items()}


_PLAIN = PlainSerializer(_plain)
Codecs = Annotated[Mapping[str, Any], PlainValidator(_codecs), _PLAIN]
Priors = Annotated[Mapping[str, Mapping[str, Any]], PlainValidator(_priors), _PLAIN]
Pipelines = Annotated[Mapping[str, PipelineConfig], PlainValidator(_pipelines), _PLAIN]


class Config(ConfigModel):
    """The config of every stage, of all codecs and priors, and the table of pipelines."""

    catalogue: CatalogueConfig = Field(
        default_factory=CatalogueConfig, description="How sources are expanded into tracks."
    )
    download: DownloadConfig = Field(
        default_factory=DownloadConfig, description="Limits of a track's download."
    )
    separation: SeparationConfig = Field(
        default_factory=SeparationConfig, description="The separation model and how it runs."
    )
    features: FeatureConfig = Field(
        default_factory=FeatureConfig, description="Log bands, log-mel and MFCC from one STFT."
    )
    dataset: DatasetConfig = Field(
        default_factory=DatasetConfig, description="Which features become training data."
    )
    codecs: Codecs = Field(default_factory=lambda: _codecs({}), description="Config of each codec, by name.")
    priors: Priors = Field(
        default_factory=lambda: _priors({}),
        description="Config of each prior, by codec and name.",
    )
    refiner: RefinerConfig = Field(
        default_factory=RefinerConfig, description="The refiner of what a codec decodes, and its training."
    )
    vocoder: VocoderConfig = Field(
        default_factory=VocoderConfig, description="The neural vocoder and its training."
    )
    flow_vocoder: FlowVocoderConfig = Field(
        default_factory=FlowVocoderConfig,
        description="The flow that refines the neural vocoder's sound, and its training.",
    )
    griffin_lim: GriffinLimConfig = Field(
        default_factory=GriffinLimConfig, description="The vocoder that needs no training."
    )
    pipelines: Pipelines = Field(
        default_factory=lambda: _pipelines({}),
        description="Codec, prior and vocoder of each pipeline, by name.",
    )
    train: tuple[Name, ...] = Field(
        ("temporal_gan",),
        min_length=1,
        max_length=_MAX_PIPELINES,
        description="Names of the pipelines that `melodygan run` and the automation train.",
    )
    start_from: Annotated[str, Field(max_length=4096)] = Field(
        "",
        description="Release whose weights trainings begin with: a folder, or STORE/releases/PIPELINE;"
        " random weights when empty.",
    )
    start_parts: Parts = Field(
        get_args(Part),
        description="Parts that begin with the weights of `start_from`; the others begin with random ones.",
    )
    generation: GenerationConfig = Field(
        default_factory=GenerationConfig, description="The pieces that a pipeline generates."
    )
    evaluation: EvaluationConfig = Field(
        default_factory=EvaluationConfig, description="How generated pieces are compared with real tracks."
    )

    @model_validator(mode="after")
    def _trains_pipelines(self) -> Config:
        for name in self.train:
            require(name in self.pipelines, "train", name, f"names of pipelines: {', '.join(self.pipelines)}")
        require(len(set(self.train)) == len(self.train), "train", self.train, "all different")
        return self

    @model_validator(mode="after")
    def _starts_with_the_codec(self) -> Config:
        over = [part for part in self.start_parts if part in ("refiner", "prior")]
        allowed = f"a list with codec, because latents of another codec fit no {' and no '.join(over)}"
        require(not over or "codec" in self.start_parts, "start_parts", self.start_parts, allowed)
        return self

    def starts(self, part: str) -> str:
        """The release that the training of a part begins with; empty for random weights."""
        return self.start_from if part in self.start_parts else ""

    def trained_pipelines(self) -> dict[str, PipelineConfig]:
        """The pipelines that are trained, by name."""
        return {name: self.pipelines[name] for name in self.train}


def json_schema() -> dict[str, Any]:
    """JSON schema of the whole config, with the codecs and priors that are registered."""
    schema = Config.model_json_schema()
    fields, definitions = schema["properties"], schema["$defs"]

    def table(name: str, rows: dict[str, Any]) -> None:
        fields[name] |= {"type": "object", "properties": rows, "additionalProperties": False}

    def reference(cls: type[ConfigModel]) -> dict[str, str]:
        inner = cls.model_json_schema(ref_template="#/$defs/{model}")
        definitions.update(inner.pop("$defs", {}))
        definitions[cls.__name__] = inner
        return {"$ref": f"#/$defs/{cls.__name__}"}

    table("codecs", {name: reference(codec_component(name).config) for name in codec_names()})
    rows: dict[str, Any] = {}
    for codec, name in prior_names():
        empty = {"type": "object", "properties": {}, "additionalProperties": False}
        rows.setdefault(codec, empty)["properties"][name] = reference(prior_component(codec, name).config)
    table("priors", rows)
    fields["pipelines"] |= {"type": "object", "additionalProperties": reference(PipelineConfig)}
    return schema
