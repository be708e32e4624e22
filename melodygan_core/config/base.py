"""Base of all configs: frozen pydantic models whose errors are InputErrors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError, model_validator
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from melodygan_core.config.messages import ConfigError, sentences

C = TypeVar("C", bound="ConfigModel")


@dataclass(frozen=True)
class Rule:
    """A rule for a field's value besides its type and bounds, as `Annotated` metadata.

    Attributes:
        allowed: What is allowed, to be read after "must be", such as "odd".
        check: Whether a value of the field's type is allowed.
    """

    allowed: str
    check: Callable[[Any], bool]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The schema of the field's type, followed by the check."""
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def _checked(self, value: Any) -> Any:
        if not self.check(value):
            raise PydanticCustomError("rule", "rule")
        return value


class FrozenDict(dict[str, Any]):
    """A dictionary that does not change, so that configs that hold one can be hashed."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError("a config does not change; make another one with melodygan_core.config.replace")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse  # type: ignore

    def __reduce__(self) -> tuple[type[FrozenDict], tuple[dict[str, Any]]]:
        return FrozenDict, (dict(self),)


class ConfigModel(BaseModel):
    """A frozen, hashable and picklable config, checked when it is made.

    Types are strict: an integer is no boolean, text or float. JSON's forms are accepted: a list for a tuple, an
    integer for a float, a mapping for a nested config. Fields that a nested mapping leaves out keep the
    default of the outer config. NaN and infinity are refused.

    Raises:
        InputError: one sentence per problem, which names the field by its path and says what is allowed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def __init__(self, /, **values: Any) -> None:
        with _input_errors(type(self)):
            super().__init__(**values)

    # Keeps pydantic from calling __init__ for nested configs, which would cut an error's path.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @model_validator(mode="before")
    @classmethod
    def _from_plain(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {name: cls._field_from_plain(name, value) for name, value in values.items()}

    @classmethod
    def _field_from_plain(cls, name: Any, value: Any) -> Any:
        if isinstance(value, Mapping) and name in cls.model_fields:
            default = cls.model_fields[name].get_default(call_default_factory=True)
            return {**dict(default), **value} if isinstance(default, ConfigModel) else value
        return _tuples(value)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


@contextmanager
def _input_errors(cls: type[ConfigModel]) -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        raise ConfigError(*sentences(cls, error)) from None


def from_dict(cls: type[C], values: Mapping[str, Any]) -> C:
    """A config from plain JSON types, the inverse of `to_dict`; fields left out have their defaults.

    Raises:
        InputError: a field that the config does not have, or a value that it does not allow.
    """
    with _input_errors(cls):
        return cls.model_validate(values)


def to_dict(config: ConfigModel) -> dict[str, Any]:
    """A config as plain JSON types; tuples become lists."""
    return config.model_dump(mode="json")


def replace(config: C, /, **changes: Any) -> C:
    """A copy of a config with some fields changed, checked like a new one.

    Raises:
        InputError: a field that the config does not have, or a value that it does not allow.
    """
    return from_dict(type(config), {**dict(config), **changes})
