"""Options and types of values that several commands share.

Types, choices, defaults and descriptions that the config defines are looked up when they are needed: importing
the config takes longer than `melodygan --help` may.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, get_args

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from click.types import OptionHelpExtra
    from pydantic.fields import FieldInfo

SOUND = click.Path(path_type=Path, dir_okay=False, exists=True)
CONFIG_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
DEVICES = ("auto", "cpu", "cuda", "mps")


def refuse(param: click.Parameter | None, ctx: click.Context | None, allowed: str, value: object) -> NoReturn:
    """Raises a usage error that names the option, what is allowed, and the value."""
    name = "value" if param is None else param.opts[-1] if param.param_type_name == "option" else param.name
    raise click.UsageError(f"{name} must be {allowed}, got {value!r}", ctx)


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
            refuse(param, ctx, ", ".join(names), value)
        return value

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The names that begin with what was typed."""
        return [CompletionItem(name) for name in self._load() if name.startswith(incomplete)]


class NameList(click.ParamType):
    """Names separated by commas."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """The names as a tuple."""
        if isinstance(value, tuple):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())


class FieldType(click.ParamType):
    """A value that a field of a config allows.

    Args:
        config: Name of the config class, such as `GenerationConfig`.
        field: Name of the field.
    """

    def __init__(self, config: str, field: str) -> None:
        self._config, self._field = config, field
        self.name = field

    @property
    def field(self) -> FieldInfo:
        """The field, from the config."""
        from melodygan_core import config

        return getattr(config, self._config).model_fields[self._field]

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """The type as help shows it."""
        kind: Any = self.field.annotation
        choices = "|".join(get_args(kind))
        return f"[{choices}]" if choices else {int: "INTEGER", float: "NUMBER"}.get(kind, "TEXT")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value as the field's type."""
        from melodygan_core.config.messages import allowed, allows

        kind = self.field.annotation
        try:
            converted = kind(value) if kind in (int, float) else value
        except ValueError:
            refuse(param, ctx, allowed(self.field), value)
        if not allows(self.field, converted):
            refuse(param, ctx, allowed(self.field, kind=False), converted)
        return converted


class FieldOption(click.Option):
    """An option whose type, default and help are those of a field of a config.

    Args:
        args: As for click.Option.
        config: Name of the config class, such as `GenerationConfig`.
        field: Name of the field.
        kwargs: As for click.Option.
    """

    def __init__(self, *args: Any, config: str, field: str, **kwargs: Any) -> None:
        self._type = FieldType(config, field)
        super().__init__(*args, type=self._type, **kwargs)

    def get_default(self, ctx: click.Context, call: bool = True) -> Any:
        """The field's default, if it has one."""
        return super().get_default(ctx, call) if self.required else self._type.field.default

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The option, and its help from the field's description."""
        self.help = self.help or self._type.field.description
        return super().get_help_record(ctx)

    def get_help_extra(self, ctx: click.Context) -> OptionHelpExtra:
        """What help adds in brackets: the default, and the bounds of a number."""
        from melodygan_core.config.messages import allowed

        extra = super().get_help_extra(ctx)
        if self._type.field.annotation in (int, float):
            extra["range"] = allowed(self._type.field, kind=False)
        return extra


class FileOption(FieldOption):
    """An option for an existing file, whose help is that of a field of a config."""

    def __init__(self, *args: Any, config: str, field: str, **kwargs: Any) -> None:
        super().__init__(*args, config=config, field=field, **kwargs)
        self.type = SOUND

    def get_default(self, ctx: click.Context, call: bool = True) -> Any:
        """No file: the field's default is an empty text, which is none."""
        return None


def field(config: str, name: str, option: str = "", *, required: bool = False) -> Callable[[Any], Any]:
    """The option of a field of a config, given to the command under the field's name.

    Args:
        config: Name of the config class.
        name: Name of the field.
        option: Name of the option, such as `--seconds`; the field's when empty.
        required: For a field without a default.
    """
    option = option or f"--{name.replace('_', '-')}"
    return click.option(option, name, cls=FieldOption, config=config, field=name, required=required)


def sampling(command: Any) -> Any:
    """The options of how a flow makes latents: the fields of SamplingConfig."""
    for name in ("autoguidance", "guidance", "steps"):
        command = field("SamplingConfig", name)(command)
    return command


def planning(command: Any) -> Any:
    """The options of what is played: the fields of GenerateConfig that GenerationConfig does not have."""
    for name, option in (("beats", ""), ("tempo_bpm", "--tempo"), ("form", ""), ("key", ""), ("chords", "")):
        command = field("GenerateConfig", name, option)(command)
    for name in ("melody", "plan"):
        command = click.option(f"--{name}", cls=FileOption, config="GenerateConfig", field=name)(command)
    return command


def _presets() -> Iterable[str]:
    from melodygan_core.config.presets import PRESETS

    return PRESETS


def _vocoders() -> Iterable[str]:
    from melodygan_core.config import VOCODERS

    return VOCODERS


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
start_from = click.option(
    "--from",
    "start_from",
    envvar="MELODYGAN_START_FROM",
    show_envvar=True,
    default="",
    help="A release whose weights trainings begin with; the config's `start_from` when empty.",
)
start_parts = click.option(
    "--from-parts",
    "start_parts",
    type=NameList(),
    envvar="MELODYGAN_START_PARTS",
    show_envvar=True,
    default=(),
    show_default="all",
    help="Parts that begin with them, separated by commas: codec,refiner,prior,vocoder.",
)
tensorboard = click.option(
    "--tensorboard",
    envvar="MELODYGAN_TENSORBOARD",
    show_envvar=True,
    default="",
    help="Folder that trainings write curves and sound to, for TensorBoard.",
)
device = click.option(
    "--device",
    type=Names(lambda: DEVICES),
    default="auto",
    help="Where the models run; auto is CUDA, else MPS, else the CPU.",
)
vocoder = click.option("--vocoder", type=Names(_vocoders), help="Vocoder to use instead of the release's own.")


def output(default: str) -> Callable[[Any], Any]:
    """The options `--out` and `--overwrite` of a command that writes a new folder per call.

    Args:
        default: Name of the folder; a later call without `--out` gets `<name>-2`, and so on.
    """
    out = click.option(
        "--out",
        type=click.Path(path_type=Path),
        show_default=f"{default}, {default}-2, ...: the first that is free",
        help="New or empty folder to write to.",
    )
    overwrite = click.option(
        "--overwrite", is_flag=True, help="Replace what an earlier call wrote to the folder of --out."
    )

    def add(function: Any) -> Any:
        return out(overwrite(function))

    return add
