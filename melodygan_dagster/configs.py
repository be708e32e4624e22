"""Dagster config schemas of the core's configs: types, choices, defaults and descriptions."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import dagster as dg
from pydantic.fields import FieldInfo

from melodygan_core.config import ConfigModel, from_dict, to_dict
from melodygan_core.config.messages import note
from melodygan_core.errors import InputError
from melodygan_core.storage.start import NAME
from melodygan_core.text import terminal_text
from melodygan_dagster.private import OneSentenceFailure

C = TypeVar("C", bound=ConfigModel)


def schema(config: ConfigModel | type[ConfigModel]) -> dict[str, dg.Field]:
    """The launchpad's fields for a config, with this config's values as defaults.

    Dagster refuses a value of another type and a choice that does not exist before a run starts. It cannot
    express bounds: the descriptions name them, and `config_of` checks them.

    Args:
        config: A config, or the class of one: its fields without a default are then required.
    """
    if isinstance(config, ConfigModel):
        return {name: _field(config, name) for name in type(config).model_fields}
    return {name: _field_of_class(field) for name, field in config.model_fields.items()}


def training_schema(config: ConfigModel, start_from: str) -> dict[str, dg.Field]:
    """The launchpad's fields for a training: its config, and what it starts from.

    Args:
        config: Of the model and its training.
        start_from: The deployment's release whose weights it begins with; empty for random ones.
    """
    note = "Release whose weights it begins with; random weights when empty."
    return {**schema(config), NAME: dg.Field(str, default_value=start_from, description=note)}


def _field(config: ConfigModel, name: str) -> dg.Field:
    field, value = type(config).model_fields[name], getattr(config, name)
    kind = dg.Shape(schema(value)) if isinstance(value, ConfigModel) else _type(field.annotation)
    return dg.Field(kind, default_value=to_dict(config)[name], description=note(field))


def _field_of_class(field: FieldInfo) -> dg.Field:
    default = {} if field.is_required() else {"default_value": field.default}
    return dg.Field(_type(field.annotation), description=note(field), **default)


def _type(annotation: Any) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in (bool, int, float, str):
        return annotation
    if origin is Literal:
        return choice(arguments)
    if origin is tuple and arguments[1:] == (...,):
        return [_type(arguments[0])]
    if origin is Annotated:
        # Bounds are the core's to check.
        return _type(arguments[0])
    raise TypeError(f"{annotation} has no Dagster config type")


@cache
def choice(values: tuple[str, ...]) -> dg.Enum:
    """The launchpad's type of one of some names."""
    # Dagster knows config types by name, so that equal choices share one and others never collide.
    return dg.Enum("_or_".join(values), [dg.EnumValue(value) for value in values])


def config_of(context: dg.AssetExecutionContext, cls: type[C]) -> C:
    """The run's config as the core's.

    Raises:
        dg.Failure: a value that the core does not allow; the run is not retried.
    """
    values = {k: v for k, v in context.op_execution_context.op_config.items() if k in cls.model_fields}
    try:
        return from_dict(cls, values)
    except InputError as error:
        raise OneSentenceFailure(terminal_text(error)) from None
