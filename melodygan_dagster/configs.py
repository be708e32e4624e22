"""Dagster config schemas of the core's configs: types, choices, defaults and descriptions."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import dagster as dg

from melodygan_core.config import ConfigModel, from_dict, to_dict
from melodygan_core.config.messages import note
from melodygan_core.errors import InputError

C = TypeVar("C", bound=ConfigModel)


def schema(config: ConfigModel) -> dict[str, dg.Field]:
    """The launchpad's fields for a config, with this config's values as defaults.

    Dagster refuses a value of another type and a choice that does not exist before a run starts. It cannot
    express bounds: the descriptions name them, and `config_of` checks them.
    """
    return {name: _field(config, name) for name in type(config).model_fields}


def _field(config: ConfigModel, name: str) -> dg.Field:
    field, value = type(config).model_fields[name], getattr(config, name)
    kind = dg.Shape(schema(value)) if isinstance(value, ConfigModel) else _type(field.annotation)
    return dg.Field(kind, default_value=to_dict(config)[name], description=note(field))


def _type(annotation: Any) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in (bool, int, float, str):
        return annotation
    if origin is Literal:
        return _choice(arguments)
    if origin is tuple and arguments[1:] == (...,):
        return [_type(arguments[0])]
    if origin is Annotated:
        # Bounds are the core's to check.
        return _type(arguments[0])
    raise TypeError(f"{annotation} has no Dagster config type")


@cache
def _choice(values: tuple[str, ...]) -> dg.Enum:
    # Dagster knows config types by name, so that equal choices share one and others never collide.
    return dg.Enum("_or_".join(values), [dg.EnumValue(value) for value in values])


def config_of(context: dg.AssetExecutionContext, cls: type[C]) -> C:
    """The run's config as the core's.

    Raises:
        dg.Failure: a value that the core does not allow; the run is not retried.
    """
    try:
        return from_dict(cls, context.op_execution_context.op_config)
    except InputError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
