"""Turns the core's config dataclasses into Dagster config and back: each default exists once."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar, get_type_hints

import dagster as dg
import docstring_parser

from melodygan_core.config import from_dict, to_dict
from melodygan_core.errors import InputError

T = TypeVar("T")


def _documentation(config: Any) -> dict[str, str]:
    parsed = docstring_parser.parse(type(config).__doc__ or "")
    return {p.arg_name: " ".join((p.description or "").split()) for p in parsed.params}


def _type(hint: Any) -> Any:
    plain = (int, float, str, bool)
    return {**{kind: kind for kind in plain}, **{tuple[kind, ...]: [kind] for kind in plain}}[hint]


def schema(config: Any) -> dict[str, dg.Field]:
    """The fields of a config dataclass with this instance's values as defaults, documented by its docstring."""
    hints, documentation = get_type_hints(type(config)), _documentation(config)
    fields: dict[str, dg.Field] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        description = documentation.get(field.name)
        if dataclasses.is_dataclass(value):
            fields[field.name] = dg.Field(
                dg.Shape(schema(value)), default_value=to_dict(value), description=description
            )
        else:
            default = list(value) if isinstance(value, tuple) else value
            fields[field.name] = dg.Field(
                _type(hints[field.name]), default_value=default, description=description
            )
    return fields


def config_of(context: dg.AssetExecutionContext, cls: type[T]) -> T:
    """The run's config as the core's dataclass.

    Raises:
        dg.Failure: a value that the core does not allow; trying again would not help.
    """
    try:
        return from_dict(cls, context.op_execution_context.op_config)
    except InputError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
