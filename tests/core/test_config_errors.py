"""Strict and bounded fields: every wrong value is named with what is allowed."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Mapping
from math import isfinite
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
from pydantic import Field
from pydantic.fields import FieldInfo

from melodygan_core.config import (
    Config,
    ConfigModel,
    DatasetConfig,
    DenseCodecConfig,
    DenseGanConfig,
    DownloadConfig,
    EvaluationConfig,
    FeatureConfig,
    GenerationConfig,
    GriffinLimConfig,
    OptimizerConfig,
    PipelineConfig,
    SeparationConfig,
    TemporalGanConfig,
    TransferConfig,
    VocoderConfig,
    from_dict,
    registry,
    replace,
)
from melodygan_core.config.base import Rule
from melodygan_core.errors import InputError
from melodygan_core.settings import EnvironmentSettings


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (FeatureConfig, {"n_fft": 1023}, "n_fft must be even, 64 to 8192, got 1023"),
        (FeatureConfig, {"n_fft": 65_536}, "n_fft must be even, 64 to 8192, got 65536"),
        (
            FeatureConfig,
            {"hop_length": 1},
            "hop_length must be 256 to 4096 for sample_rate = 44100 and n_fft = ",
        ),
        (FeatureConfig, {"n_fft": 64, "hop_length": 4}, "hop_length must be 23 to 64 for sample_rate = 44100"),
        (FeatureConfig, {"n_mfcc": 81}, "n_mfcc must be 1 to n_mels = 80, got 81"),
        (FeatureConfig, {"log_floor": 0.0}, "log_floor must be 1e-12 to 1, got 0.0"),
        (FeatureConfig, {"n_mels": "80"}, "n_mels must be an integer, 1 to 1024, got '80'"),
        (FeatureConfig, {"n_mels": 80.0}, "n_mels must be an integer, 1 to 1024, got 80.0"),
        (FeatureConfig, {"n_mels": True}, "n_mels must be an integer, 1 to 1024, got True"),
        (FeatureConfig, {"log_floor": True}, "log_floor must be a number, 1e-12 to 1, got True"),
        (FeatureConfig, {"workers": 100_000}, "workers must be 1 to 256, got 100000"),
        (FeatureConfig, {"hop": 1}, "a field of FeatureConfig must be one of sample_rate, n_fft, hop_length, "),
        (FeatureConfig, 5, "FeatureConfig must be a mapping of its fields, got 5"),
        (
            OptimizerConfig,
            {"learning_rate": float("nan")},
            "learning_rate must be above 0 and at most 10, got nan",
        ),
        (
            OptimizerConfig,
            {"learning_rate": float("inf")},
            "learning_rate must be above 0 and at most 10, got inf",
        ),
        (OptimizerConfig, {"max_steps": 10**21}, "max_steps must be 1 to 10000000, got 1000000000000000000000"),
        (
            OptimizerConfig,
            {"max_steps": 10**5000},
            "max_steps must be 1 to 10000000, got an integer of thousands",
        ),
        (
            OptimizerConfig,
            {"device": "tpu"},
            "device must be auto, cpu, cuda, mps or one GPU such as cuda:1, got ",
        ),
        (DenseCodecConfig, {"stems": ["drums"]}, "stems[0] must be vocals, instrumental or mix, got 'drums'"),
        (DenseCodecConfig, {"stems": ["mix", "mix"]}, "stems must be a list of 1 to 3 values, all different, "),
        (
            DenseCodecConfig,
            {"stems": "mix"},
            "stems must be a list of 1 to 3 values, all different, each vocals",
        ),
        (
            DenseCodecConfig,
            {"hidden_sizes": []},
            "hidden_sizes must be a list of 1 to 32 values, each an integer",
        ),
        (DenseCodecConfig, {"hidden_sizes": [8, 0]}, "hidden_sizes[1] must be 1 to 32768, got 0"),
        (DenseCodecConfig, {"dropout": 1.0}, "dropout must be 0 to below 1, got 1.0"),
        (DenseCodecConfig, {"random_shift": 1}, "random_shift must be true or false, got 1"),
        (
            DenseCodecConfig,
            {"optimizer": 3},
            "optimizer must be a mapping of the fields of OptimizerConfig, got 3",
        ),
        (DenseCodecConfig, {"optimizer": {"max_steps": 0}}, "optimizer.max_steps must be 1 to 10000000, got 0"),
        (
            DenseCodecConfig,
            {"optimizer": {"steps": 0}},
            "a field of optimizer must be one of max_steps, batch_",
        ),
        (DenseGanConfig, {"loss": "wasserstein"}, "loss must be hinge or non_saturating, got 'wasserstein'"),
        (TemporalGanConfig, {"patch_tokens": 24}, "patch_tokens must be a power of two, 8 to 1024, got 24"),
        (VocoderConfig, {"kernel": 4}, "kernel must be odd, 1 to 255, got 4"),
        (GriffinLimConfig, {"iterations": 10**9}, "iterations must be 1 to 1000, got 1000000000"),
        (GenerationConfig, {"truncation": 0.1}, "truncation must be 0, or 0.5 to 100, got 0.1"),
        (
            GenerationConfig,
            {"duration_s": 1e9},
            "duration_s must be above 0 and at most 3600, got 1000000000.0",
        ),
        (GenerationConfig, {"condition": "x" * 300}, "condition must be at most 200 characters, got 'xxx"),
        (EvaluationConfig, {"max_windows": 0}, "max_windows must be 3 to 1000000, got 0"),
        (
            EvaluationConfig,
            {"windows_s": [1, 1.0]},
            "windows_s must be a list of 1 to 16 values, all different",
        ),
        (
            SeparationConfig,
            {"parameters": [["overlap", 0.5, 1]]},
            "parameters[0] must be a list of 2 values: text",
        ),
        (
            DownloadConfig,
            {"min_duration_s": 9, "max_duration_s": 3},
            "min_duration_s must be above 0 and below max",
        ),
        (DatasetConfig, {"test_fraction": 0.5}, "test_fraction must be above 0 and below 0.5, got 0.5"),
        (PipelineConfig, {"codec": "dense"}, "prior must be text, at most 40 characters, got nothing"),
        (PipelineConfig, {"codec": "dense", "prior": "flow"}, "prior must be gan (over dense), got 'flow'"),
        (Config, {"codecs": {"foo": {}}}, "codecs: name of a codec must be dense, temporal, got 'foo'"),
        (Config, {"codecs": 3}, "codecs must be a mapping of names, got 3"),
        (
            Config,
            {"codecs": {"dense": 3}},
            "codecs.dense must be a mapping of the fields of DenseCodecConfig, got",
        ),
        (
            Config,
            {"codecs": {"temporal": {"optimizer": {"seed": -1}}}},
            "codecs.temporal.optimizer.seed must be 0",
        ),
        (
            Config,
            {"priors": {"dense": {"flow": {}}}},
            "priors: name of a prior over dense must be gan, got 'flow'",
        ),
        (
            Config,
            {"priors": {"dense": {"gan": {"layers": 99}}}},
            "priors.dense.gan.layers must be 1 to 32, got 99",
        ),
        (Config, {"priors": {"dense": 2}}, "priors.dense must be a mapping of priors by name, got 2"),
        (
            Config,
            {"pipelines": {"A b": {}}},
            "pipelines: name of a pipeline must be 1 to 40 lower-case letters",
        ),
        (
            Config,
            {"pipelines": {"x": {"codec": "dense", "prior": "p"}}},
            "pipelines.x.prior must be gan (over dense)",
        ),
        (
            Config,
            {"train": ["x"]},
            "train must be names of pipelines: dense_gan, temporal_gan, temporal_flow, ",
        ),
        (
            Config,
            {"train": []},
            "train must be a list of 1 to 100 values, each text, at most 40 characters, got ()",
        ),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(cls: Any, values: Any, message: str) -> None:
    with pytest.raises(InputError) as raised:
        from_dict(cls, values)
    assert str(raised.value).startswith(message)
    assert len(raised.value.args) == 1
    if isinstance(values, dict):
        with pytest.raises(InputError) as constructed:
            cls(**values)
        assert str(constructed.value) == str(raised.value)


def test_each_problem_is_a_sentence_and_survives_a_pickle() -> None:
    values: dict[Any, Any] = {"features": {"n_fft": 3, "workers": 0}, 1: 2}
    with pytest.raises(InputError) as raised:
        from_dict(Config, values)
    sentences = [
        "features.n_fft must be even",
        "features.workers must be 1 to 256",
        "a field of Config must be one",
    ]
    assert [s for s, e in zip(sentences, raised.value.args, strict=True) if e.startswith(s)] == sentences
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value) == "; ".join(raised.value.args)


def test_replace_checks_like_a_new_config() -> None:
    assert replace(FeatureConfig(), workers=3).workers == 3
    with pytest.raises(InputError, match="workers must be 1 to 256, got 0"):
        replace(FeatureConfig(), workers=0)
    with pytest.raises(InputError, match=r"a field of FeatureConfig must be one of .*, got 'worker'"):
        replace(FeatureConfig(), worker=3)


def fields_of(cls: type[ConfigModel], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, field in cls.model_fields.items():
        nested = field.annotation
        yield f"{path}{cls.__name__}.{name}", field
        if isinstance(nested, type) and issubclass(nested, ConfigModel):
            yield from fields_of(nested)


def test_every_field_is_described() -> None:
    classes = [Config, PipelineConfig, *[c.config for c in registry.components()]]
    fields = dict(field for cls in classes for field in fields_of(cls))
    assert len(fields) > 100
    assert [path for path, field in fields.items() if not (field.description or "").endswith(".")] == []


def config_classes(cls: type[ConfigModel] = ConfigModel) -> Iterator[type[ConfigModel]]:
    """All configs of the packages; those of other tests are their own."""
    for derived in cls.__subclasses__():
        if derived.__module__.startswith("melodygan_"):
            yield derived
        yield from config_classes(derived)


def unbounded(annotation: Any, metadata: list[Any]) -> list[str]:
    """What is without a bound in a field: a number on either side, the length of a text or of a list."""
    values = {
        k: v for m in metadata for k in ("ge", "gt", "le", "lt") if (v := getattr(m, k, None)) is not None
    }
    longest = [m.max_length for m in metadata if getattr(m, "max_length", None) is not None]
    # A Rule names its own finite set of values.
    ruled = any(isinstance(m, Rule) for m in metadata)
    if annotation in (int, float):
        bounded = (
            values.keys() & {"ge", "gt"}
            and values.keys() & {"le", "lt"}
            and all(map(isfinite, values.values()))
        )
        return [] if bounded or ruled else ["number"]
    if annotation is str:
        return [] if longest else ["text"]
    if get_origin(annotation) is Annotated:
        return unbounded(annotation.__origin__, [*flattened(annotation.__metadata__), *metadata])
    if get_origin(annotation) is tuple:
        items = get_args(annotation)
        many = ["list"] if items[-1] is Ellipsis and not longest else []
        return many + [w for item in items if item is not Ellipsis for w in unbounded(item, [])]
    if get_origin(annotation) is Literal or annotation is bool or hasattr(annotation, "model_fields"):
        return []
    # Tables of codecs, priors and pipelines: their names are the registry's, or counted.
    return [] if get_origin(annotation) is Mapping else [f"unknown type {annotation}"]


def flattened(metadata: Iterable[Any]) -> list[Any]:
    return [inner for m in metadata for inner in (m.metadata if isinstance(m, FieldInfo) else [m])]


def test_every_number_text_and_list_of_every_config_is_bounded() -> None:
    # What manifests state is no setting; their files are bounded as a whole.
    stated = ("release.manifest", "export.manifest", "config.provenance")
    classes = [c for c in config_classes() if c.__module__.removeprefix("melodygan_core.") not in stated]
    assert {Config, GenerationConfig, OptimizerConfig, TransferConfig, EnvironmentSettings} <= set(classes)
    found = {
        f"{cls.__name__}.{name}": missing
        for cls in classes
        for name, field in cls.model_fields.items()
        if (missing := unbounded(field.annotation, flattened(field.metadata)))
    }
    assert found == {}
    assert [c.__name__ for c in classes if c.model_config.get("allow_inf_nan") is not False] == []


def test_what_lacks_a_bound_is_found() -> None:
    class Loose(ConfigModel):
        one_sided: int = Field(0, le=3)
        endless: float = Field(0.0, ge=0, le=float("inf"))
        word: str = ""
        numbers: tuple[Annotated[int, Field(ge=0)], ...] = ()
        good: tuple[Annotated[int, Field(ge=0, le=2)], ...] = Field((), max_length=2)

    missing = {n: unbounded(f.annotation, flattened(f.metadata)) for n, f in Loose.model_fields.items()}
    assert missing == {
        "one_sided": ["number"],
        "endless": ["number"],
        "word": ["text"],
        "numbers": ["list", "number"],
        "good": [],
    }
