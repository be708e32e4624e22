"""All environment variables of both packages; no other module reads the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, get_origin

from pydantic import Field

from melodygan_core.config.base import ConfigModel, from_dict, replace
from melodygan_core.config.config import Config
from melodygan_core.config.messages import ConfigError, require
from melodygan_core.config.presets import PRESETS, load
from melodygan_core.errors import InputError

_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")
Text = Annotated[str, Field(max_length=65_536)]


class EnvironmentSettings(ConfigModel):
    """Where a deployment's files are and how it runs.

    Each field is read from MELODYGAN_<FIELD IN CAPITALS>; an unset or empty variable leaves the default.
    """

    store: Text = Field(
        "data", description="Root of everything made: a folder, or any fsspec URI such as s3://bucket/prefix."
    )
    sources: Text = Field("sources.yaml", description="What to ingest: sources.yaml, or a plain list of URLs.")
    preset: Text = Field("small", description="Preset of settings: demo, small, base or large.")
    config: Text = Field("", description="A YAML file of settings that differ from the preset's.")
    pipelines: tuple[Text, ...] = Field(
        (),
        max_length=100,
        description="Pipelines that are trained, separated by commas; empty for the config's `train`.",
    )
    start_from: Text = Field(
        "", description="Release whose weights trainings begin with; empty for the config's `start_from`."
    )
    start_parts: tuple[Text, ...] = Field(
        (),
        max_length=10,
        description="Parts that begin with them, separated by commas; empty for the config's `start_parts`.",
    )
    tensorboard: Text = Field(
        "", description="Folder that trainings write curves and sound to, for TensorBoard; empty for none."
    )
    training_sound: bool = Field(
        False,
        description="1 keeps what a training makes at each validation, for the studio: about a second each.",
    )
    separation_model: Text = Field(
        "", description="A model that audio-separator knows, or `centre`; empty for the preset's."
    )
    model_dir: Text = Field("", description="Folder of separation models; empty for a cache of the user's.")
    allow_roots: Text = Field(
        "", description="More folders that `path:` sources may lie in, separated as in PATH."
    )
    allow_private: bool = Field(
        False, description="1 connects to loopback and private addresses, too: a server of your own network."
    )
    train_on_unknown: bool = Field(False, description="1 trains on tracks whose rights are unknown.")
    retrain_after: int = Field(
        100,
        ge=0,
        le=1_000_000_000,
        description="New tracks after which training starts before its day; 0 for never.",
    )
    tick_s: int = Field(
        30, ge=1, le=86_400, description="Seconds between two evaluations of a sensor of the automation."
    )
    ray: Text = Field(
        "",
        description="Where tracks are processed: `local`, or a Ray cluster's address; empty for this process.",
    )

    def load_config(self) -> Config:
        """The deployment's config: the preset, the file's settings over it, and the pipelines to train.

        Raises:
            InputError: no such preset, file or pipeline, or a setting of the file that is not allowed.
        """
        require(self.preset in PRESETS, variable("preset"), self.preset, ", ".join(PRESETS))
        file = Path(self.config) if self.config else None
        require(file is None or file.is_file(), variable("config"), self.config, "an existing YAML file")
        config = load(self.preset, file)
        if self.start_from:
            config = replace(config, start_from=self.start_from)
        if self.start_parts:
            config = _replaced(config, "start_parts", self.start_parts)
        if not self.pipelines:
            return config
        unknown = [name for name in self.pipelines if name not in config.pipelines]
        known = ", ".join(config.pipelines)
        require(not unknown, variable("pipelines"), ",".join(unknown), f"names of pipelines: {known}")
        return _replaced(config, "train", self.pipelines, "pipelines")


def _replaced(config: Config, field: str, value: object, own: str = "") -> Config:
    try:
        return replace(config, **{field: value})
    except InputError as error:
        raise InputError(f"{variable(own or field)}: {error}") from error


def variable(field: str) -> str:
    """Name of the environment variable of a field of EnvironmentSettings."""
    return f"MELODYGAN_{field.upper()}"


def environment(variables: Mapping[str, str] | None = None) -> EnvironmentSettings:
    """The settings as the environment has them now.

    Args:
        variables: Read instead of the process's environment.

    Raises:
        InputError: a variable with a value that is not allowed; names the variable.
    """
    variables = os.environ if variables is None else variables
    values = {}
    for name, field in EnvironmentSettings.model_fields.items():
        text = variables.get(variable(name), "")
        if text:
            values[name] = _parsed(variable(name), field.annotation, text)
    try:
        return from_dict(EnvironmentSettings, values)
    except ConfigError as error:
        # A sentence begins with the field's name.
        raise ConfigError(*[re.sub(r"^\w+", lambda m: variable(m[0]), s) for s in error.args]) from None


def _parsed(name: str, kind: object, text: str) -> object:
    if kind is bool:
        require(text.lower() in _TRUE + _FALSE, name, text, "1, true, yes or on, or 0, false, no or off")
        return text.lower() in _TRUE
    if kind is int:
        # Text that is no integer is refused with the field's bounds.
        return int(text) if re.fullmatch(r"[-+]?[0-9]{1,18}", text) else text
    if get_origin(kind) is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return text


def dagster_home() -> str:
    """DAGSTER_HOME, the folder of Dagster's instance; empty where it is not set."""
    return os.environ.get("DAGSTER_HOME", "")


def npm_registry() -> str:
    """The npm registry of the user, by the variable that npm itself reads; else that of everybody."""
    return os.environ.get("NPM_CONFIG_REGISTRY", "") or "https://registry.npmjs.org"
