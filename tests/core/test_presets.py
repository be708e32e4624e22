"""Tables of codecs, priors and pipelines; presets, and files of settings over them."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from pydantic import Field

from melodygan_core.config import (
    Config,
    ConfigModel,
    OptimizerConfig,
    config_id,
    from_dict,
    registry,
    replace,
    to_dict,
)
from melodygan_core.config.config import json_schema
from melodygan_core.config.presets import PRESETS, load, preset
from melodygan_core.errors import InputError

ROOT = Path(__file__).parents[2]
# Models of a preset are trained again when its settings change: not by accident.
PRESET_IDS = {
    "demo": "ce7ae4bad3da",
    "small": "9e0a6444a160",
    "base": "0616a29edab7",
    "large": "b8fe3c1fd31f",
}


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten when it ends."""
    monkeypatch.setattr(registry, "_CODECS", dict(registry._CODECS))
    monkeypatch.setattr(registry, "_PRIORS", dict(registry._PRIORS))


class ToyCodecConfig(ConfigModel):
    """Config of a codec outside the package."""

    size: int = Field(3, ge=1, le=9, description="Size.")
    optimizer: OptimizerConfig = Field(
        default_factory=lambda: OptimizerConfig(max_steps=7, batch_size=2), description="Training."
    )


class ToyPriorConfig(ConfigModel):
    """Config of a prior outside the package."""

    depth: int = Field(2, ge=1, le=4, description="Depth.")


# Tables of codecs, priors and pipelines.


def test_settings_of_one_codec_keep_the_others() -> None:
    made = from_dict(Config, {"codecs": {"temporal": {"width": 96, "optimizer": {"max_steps": 5}}}})
    base = Config()
    # Fields that are left out keep the codec's defaults, not those of OptimizerConfig.
    optimizer = replace(base.codecs["temporal"].optimizer, max_steps=5)
    assert made.codecs["temporal"] == replace(base.codecs["temporal"], width=96, optimizer=optimizer)
    assert made.codecs["dense"] == base.codecs["dense"]
    assert made.priors == base.priors


def test_a_codec_and_prior_from_outside_work_in_python_and_yaml(own_registry: None, tmp_path: Path) -> None:
    registry.register_codec("toy", ToyCodecConfig, "json:dumps")
    registry.register_prior("toy", "flow", ToyPriorConfig, "json:loads")
    assert registry.codec_component("toy").load() is json.dumps
    assert preset("demo").codecs["toy"] == ToyCodecConfig()
    file = tmp_path / "config.yaml"
    file.write_text(
        "codecs: {toy: {optimizer: {seed: 5}}}\npriors: {toy: {flow: {depth: 4}}}\n"
        "pipelines: {mine: {codec: toy, prior: flow, vocoder: griffin_lim}}\ntrain: [mine, toy_flow]\n",
        "utf-8",
    )
    made = load("demo", file)
    assert to_dict(made.codecs["toy"].optimizer) == to_dict(OptimizerConfig(max_steps=7, batch_size=2, seed=5))
    assert made.priors["toy"]["flow"] == ToyPriorConfig(depth=4)
    assert made.codecs["dense"] == preset("demo").codecs["dense"]
    assert list(made.trained_pipelines()) == ["mine", "toy_flow"]
    assert from_dict(Config, to_dict(made)) == made
    assert json_schema()["$defs"]["ToyPriorConfig"]["properties"]["depth"]["maximum"] == 4
    file.write_text("codecs: {toy: {size: 10}}\n", "utf-8")
    with pytest.raises(InputError, match=r"config\.yaml: codecs\.toy\.size must be 1 to 9, got 10"):
        load("demo", file)


@pytest.mark.parametrize("name", ["", "Toy", "a/b", "ü", "_a", "a" * 41, "../x"])
def test_names_in_the_registry_are_plain(name: str, own_registry: None) -> None:
    with pytest.raises(InputError, match="name must be 1 to 40 lower-case letters"):
        registry.register_codec(name, ToyCodecConfig, "json:dumps")
    with pytest.raises(InputError, match="name must be 1 to 40 lower-case letters"):
        registry.register_prior("dense", name, ToyPriorConfig, "json:dumps")


def test_a_prior_needs_its_codec(own_registry: None) -> None:
    with pytest.raises(InputError, match="codec must be dense, temporal, got 'nope'"):
        registry.register_prior("nope", "gan", ToyPriorConfig, "json:dumps")


def test_the_json_schema_has_the_registered_codecs_and_resolves() -> None:
    schema = json_schema()
    assert set(schema["properties"]) == set(Config.model_fields)
    assert set(schema["properties"]["codecs"]["properties"]) == set(registry.codec_names())
    references = {part.split('"')[0] for part in json.dumps(schema).split("#/$defs/")[1:]}
    assert references == set(schema["$defs"])


# Presets and files.


@pytest.mark.parametrize("name", PRESET_IDS)
def test_settings_of_presets_stay(name: str) -> None:
    assert config_id(preset(name)) == PRESET_IDS[name]


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"preset must be demo, small, base, large.*, got 'huge'"):
        preset("huge")


def test_a_preset_can_be_assigned(monkeypatch: pytest.MonkeyPatch) -> None:
    own = replace(Config(), train=("dense_gan",))
    monkeypatch.setitem(PRESETS, "own", own)
    assert preset("own") is own
    assert list(PRESETS)[:4] == ["demo", "small", "base", "large"]
    monkeypatch.undo()
    assert "own" not in PRESETS


def test_the_wheel_has_the_presets(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"melodygan_core/config/presets/{name}.yaml" for name in PRESET_IDS} <= names


def test_a_file_changes_only_what_it_names(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        "priors: {dense: {gan: {condition: tag, optimizer: {learning_rate: 1e-4}}}}\n"
        "separation: {parameters: [[overlap, 0.5]]}\n",
        "utf-8",
    )
    base, made = preset("small"), load("small", file)
    gan = base.priors["dense"]["gan"]
    optimizer = replace(gan.optimizer, learning_rate=1e-4)
    assert made.priors["dense"]["gan"] == replace(gan, condition="tag", optimizer=optimizer)
    assert made.separation.parameters == (("overlap", 0.5),)
    assert (made.priors["temporal"], made.codecs, made.features) == (
        base.priors["temporal"],
        base.codecs,
        base.features,
    )
    assert load("small", None) == base
    file.write_text("", "utf-8")
    assert load("small", file) == base


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "features: {hopp: 3}",
            r"config\.yaml: a field of features must be one of sample_rate, .*, got 'hopp'",
        ),
        ("download: {attempts: 0}", r"config\.yaml: download\.attempts must be 1 to 20, got 0"),
        ("download: {attempts: 3e0}", r"download\.attempts must be an integer, 1 to 20, got 3\.0"),
        ("[1, 2]", r"config\.yaml: content must be a mapping of stages to settings, got \[1, 2\]"),
        ("a: &x [1]\nb: *x", r"line 2: an alias is not allowed"),
        ("download: {attempts: 1}\ndownload: {workers: 1}", r"line 2: 'download' for the second time"),
        (
            "download: !!python/name:os.system x",
            r"line 1: a tag, 'tag:yaml.org,2002:python/name:os.system', is not",
        ),
        ("[" * 3000, r"line 1: nested 9 deep, at most 8 is allowed"),
        ("download: {timeout_s: .nan}", r"config\.yaml: download\.timeout_s must be 1 to 86400, got nan"),
        ("download: {max_duration_s: .inf}", r"max_duration_s must be above 0 and at most 86400, got inf"),
        ("download: {attempts: 0x_}", r"not valid YAML: a number or date"),
        ("download: {attempts: 2001-13-45}", r"not valid YAML: a number or date"),
        ("1: 2\nx: 3", r"a field of Config must be one of catalogue.*, got 1; .*, got 'x'"),
        ("#" * 1_000_001, r"config\.yaml must have at most 1000000 bytes, got 1000001"),
        ("a: [", r"line 1: not valid YAML"),
    ],
)
def test_a_wrong_file_says_what_is_allowed(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text, "utf-8")
    with pytest.raises(InputError, match=message):
        load("small", file)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config must be an existing YAML file, got '.*none\.yaml'"):
        load("small", tmp_path / "none.yaml")
