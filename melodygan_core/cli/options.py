"""Options and types of values that several commands share.

Choices and defaults that the config defines are looked up when they are needed: importing the config takes
longer than `melodygan --help` may.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

SOUND = click.Path(path_type=Path, dir_okay=False, exists=True)
CONFIG_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
DEVICES = ("auto", "cpu", "cuda", "mps")
MAX_SEED = 2**31 - 1


class Names(click.ParamType):
    """One of some names, which are looked up when they are needed.

    Args:
        load: Returns the names.
    """

    name = "name"

    def __init__(self, load: Callable[[], Iterable[str]]) -> None:
        self._load = load

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """The names as help shows them."""
        brackets = "{}" if param.param_type_name == "argument" else "[]"
        return f"{brackets[0]}{'|'.join(self._load())}{brackets[1]}"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The value, if it is one of the names."""
        names = list(self._load())
        if value not in names:
            self.fail(f"must be {', '.join(names)}, got {value!r}", param, ctx)
        return value


class Number(click.FloatRange):
    """A finite number in a range: click's own type accepts NaN."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The value as a float."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not in the range {self._describe_range()}.", param, ctx)
        return number


class Truncation(click.ParamType):
    """0, or 0.5 to 100."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The value as a float."""
        number = click.FLOAT.convert(value, param, ctx)
        if not (number == 0 or 0.5 <= number <= 100):
            self.fail(f"{value} is not 0 and not in the range 0.5<=x<=100.", param, ctx)
        return number


class FieldOption(click.Option):
    """An option whose default is that of a field of a config.

    Args:
        args: As for click.Option.
        config: Name of the config class, such as `GenerationConfig`.
        field: Name of the field.
        kwargs: As for click.Option.
    """

    def __init__(self, *args: Any, config: str, field: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._config, self._field = config, field

    def get_default(self, ctx: click.Context, call: bool = True) -> Any:
        """The field's default."""
        from melodygan_core import config

        return getattr(config, self._config).model_fields[self._field].default


def _presets() -> Iterable[str]:
    from melodygan_core.config.presets import PRESETS

    return PRESETS


def _rights() -> Iterable[str]:
    from melodygan_core.config import RIGHTS

    return RIGHTS


def _vocoders() -> Iterable[str]:
    from melodygan_core.config import VOCODERS

    return VOCODERS


RIGHTS_NAME = Names(_rights)

store = click.option(
    "--store",
    envvar="MELODYGAN_STORE",
    show_envvar=True,
    default="data",
    help="Root of the store: a folder or an fsspec URI.",
)
preset = click.option(
    "--preset",
    envvar="MELODYGAN_PRESET",
    show_envvar=True,
    type=Names(_presets),
    default="small",
    help="Size of the models.",
)
config_file = click.option(
    "--config",
    envvar="MELODYGAN_CONFIG",
    show_envvar=True,
    type=CONFIG_FILE,
    help="A YAML file of settings that differ from the preset's.",
)
model_dir = click.option(
    "--model-dir",
    envvar="MELODYGAN_MODEL_DIR",
    show_envvar=True,
    default="",
    help="Folder of separation models; the user's cache when empty.",
)
device = click.option(
    "--device",
    type=click.Choice(DEVICES),
    default="auto",
    help="Where the models run; auto is CUDA, else MPS, else the CPU.",
)
vocoder = click.option("--vocoder", type=Names(_vocoders), help="Vocoder to use instead of the release's own.")


def seed(config: str, help: str) -> Callable[[Any], Any]:
    """The option `--seed`."""
    return click.option(
        "--seed",
        cls=FieldOption,
        config=config,
        field="seed",
        type=click.IntRange(0, MAX_SEED),
        help=help,
    )


def output(default: str) -> Callable[[Any], Any]:
    """The options `--out` and `--overwrite` of a command that writes a new folder per call.

    Args:
        default: Name of the folder; a later call without `--out` gets `<name>-2`, and so on.
    """
    kind = click.Path(path_type=Path, file_okay=False)
    out = click.option(
        "--out",
        type=kind,
        show_default=f"{default}, {default}-2, ...: the first that is free",
        help="New or empty folder to write to.",
    )
    overwrite = click.option(
        "--overwrite", is_flag=True, help="Replace what an earlier call wrote to the folder of --out."
    )

    def add(function: Any) -> Any:
        return out(overwrite(function))

    return add
