"""`melodygan config`: shows the resolved config and its JSON schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from melodygan_core.cli import options
from melodygan_core.cli.terminal import echo

if TYPE_CHECKING:
    from melodygan_core.config import Config, ConfigModel

_NOT_YAML = re.compile("[\x7f-\xa0\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


@click.group("config")
def config() -> None:
    """Shows the resolved config, or its JSON schema."""


@config.command()
@options.preset
@options.config_file
@click.option(
    "--format",
    "form",
    type=click.Choice(["yaml", "json"]),
    default="yaml",
    show_default=True,
    help="yaml has each setting's description as a comment.",
)
def show(preset: str, config: Path | None, form: str) -> None:
    """Prints the config that a preset and a file of settings make together."""
    from melodygan_core.config import replace, to_dict
    from melodygan_core.settings import environment

    resolved = replace(environment(), preset=preset, config=str(config or "")).load_config()
    echo(json.dumps(to_dict(resolved), indent=2) if form == "json" else as_yaml(resolved), lines=True)


@config.command()
def schema() -> None:
    """Prints the JSON schema of the config, for editors that check and complete YAML."""
    from melodygan_core.config.config import json_schema

    echo(json.dumps(json_schema(), indent=2), lines=True)


def as_yaml(config: Config) -> str:
    """A config as YAML that `--config` reads back, with each field's description as a comment."""
    return "\n".join(_fields(config, ""))


def _fields(config: ConfigModel, indent: str) -> Iterator[str]:
    from melodygan_core.config.messages import note

    for name, field in type(config).model_fields.items():
        yield f"{indent}# {note(field)}"
        yield from _entry(name, getattr(config, name), indent)
        if not indent:
            yield ""


def _entry(name: str, value: Any, indent: str) -> Iterator[str]:
    from melodygan_core.config import ConfigModel

    deeper = f"{indent}  "
    if isinstance(value, ConfigModel):
        yield f"{indent}{name}:"
        yield from _fields(value, deeper)
    elif isinstance(value, Mapping):
        yield f"{indent}{name}:" + ("" if value else " {}")
        for key, row in value.items():
            yield from _entry(key, row, deeper)
    else:
        # JSON is YAML but for characters that YAML does not print, or takes for the end of a line.
        text = _NOT_YAML.sub(lambda m: f"\\u{ord(m[0]):04x}", json.dumps(value, ensure_ascii=False))
        yield f"{indent}{name}: {text}"
