"""What a config allows, in words: error messages and the notes of schemas and listings."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeGuard, get_args, get_origin

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from melodygan_core.errors import InputError

_LONGEST_REPR = 200
_KINDS = {bool: "true or false", int: "an integer", float: "a number", str: "text"}
# The value is of the right type, so that the message need not name the type.
_RANGE_ERRORS = {
    "finite_number",
    "greater_than",
    "greater_than_equal",
    "less_than",
    "less_than_equal",
    "multiple_of",
    "rule",
    "string_pattern_mismatch",
    "string_too_long",
    "string_too_short",
    "too_long",
    "too_short",
}


class ConfigError(InputError):
    """A config's problems, each a sentence that begins with the path of the field."""

    def __str__(self) -> str:
        return "; ".join(str(sentence) for sentence in self.args)


def require(ok: bool, name: str, value: object, allowed: str) -> None:
    """Raises an InputError that names the value and what is allowed, unless `ok`."""
    if not ok:
        raise InputError(f"{name} must be {allowed}, got {short_repr(value)}")


def short_repr(value: object) -> str:
    """A value as Python writes it, cut to 200 characters."""
    try:
        text = repr(value)
    except ValueError:
        # Python does not write integers of more than 4300 digits.
        text = "an integer of thousands of digits"
    return text if len(text) <= _LONGEST_REPR else f"{text[:_LONGEST_REPR]}..."


def prefixed(path: str, sentence: str) -> str:
    """A sentence about a value, as one about the config that holds it: `a must be` becomes `path.a must be`."""
    if not path:
        return sentence
    joint = "." if re.match(r"[\w.\[\]]+ must be ", sentence) else ": "
    return f"{path}{joint}{sentence}"


def sentences(cls: type[BaseModel], error: ValidationError) -> list[str]:
    """One sentence per problem that pydantic found in the values for a model."""
    problems = error.errors(include_url=False)
    # A list with a wrong item counts as too short as well; the item's own sentence says all.
    outer = {problem["loc"][:depth] for problem in problems for depth in range(len(problem["loc"]))}
    innermost = [problem for problem in problems if problem["loc"] not in outer or not problem["loc"]]
    return [line for problem in innermost for line in _sentences(cls, problem)]


def _sentences(cls: type[BaseModel], problem: Any) -> list[str]:
    kind, loc, value = problem["type"], problem["loc"], problem["input"]
    if kind == "value_error":
        error = problem["ctx"]["error"]
        inner = error.args if isinstance(error, ConfigError) else [str(error)]
        return [prefixed(_path(loc), line) for line in inner]
    if kind in ("extra_forbidden", "invalid_key"):
        model = _field(cls, loc[:-1]).annotation if len(loc) > 1 else cls
        fields = ", ".join(model.model_fields) if _is_model(model) else ""
        where = f"a field of {_path(loc[:-1]) or cls.__name__}"
        name = loc[-1] if kind == "extra_forbidden" else value
        return [f"{where} must be one of {fields}, got {short_repr(name)}"]
    if not loc:
        return [f"{cls.__name__} must be a mapping of its fields, got {short_repr(value)}"]
    wanted = allowed(_field(cls, loc), kind=kind not in _RANGE_ERRORS)
    return [f"{_path(loc)} must be {wanted}, got {'nothing' if kind == 'missing' else short_repr(value)}"]


def _path(loc: Iterable[int | str]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")


def _is_model(annotation: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _field(cls: Any, loc: tuple[int | str, ...]) -> FieldInfo:
    field = cls.model_fields[loc[0]]
    for part in loc[1:]:
        if isinstance(part, int):
            items = get_args(field.annotation)
            field = FieldInfo.from_annotation(items[0 if items[-1] is Ellipsis else part])
        else:
            field = field.annotation.model_fields[part]
    return field


def allows(field: FieldInfo, value: object) -> bool:
    """Whether a field of a config allows a value by itself, whatever the other fields have."""
    annotation: Any = field.annotation
    strict = ConfigDict(strict=True, allow_inf_nan=False)
    kind: TypeAdapter[Any] = TypeAdapter(Annotated[annotation, field], config=strict)
    try:
        kind.validate_python(value)
    except ValidationError:
        return False
    return True


def allowed(field: FieldInfo, *, kind: bool = True) -> str:
    """What a field allows, to be read after "must be", such as "an integer, 1 to 20".

    Args:
        field: Of a config.
        kind: Name the type of a number or text, too.
    """
    annotation, parts = field.annotation, []
    if get_origin(annotation) is Literal:
        return _listed([str(value) for value in get_args(annotation)])
    if get_origin(annotation) is tuple:
        return _allowed_list(field)
    if _is_model(annotation):
        return f"a mapping of the fields of {annotation.__name__}"
    rules = _metadata(field, "allowed")
    if kind and annotation in _KINDS and not (rules and annotation is str):
        parts.append(_KINDS[annotation])
    if _metadata(field, "multiple_of") == [2]:
        parts.append("even")
    parts += rules
    span = _span(field)
    shortest, longest = (_metadata(field, name) for name in ("min_length", "max_length"))
    least = f"{shortest[0]} to" if shortest else "at most"
    parts += [span] if span else []
    parts += [f"{least} {longest[0]} characters"] if longest and not rules else []
    return ", ".join(parts) or "a mapping of names"


def _allowed_list(field: FieldInfo) -> str:
    items = get_args(field.annotation)
    if items[-1] is not Ellipsis:
        kinds = " and ".join(allowed(FieldInfo.from_annotation(item)) for item in items)
        return f"a list of {len(items)} values: {kinds}"
    shortest, longest = (_metadata(field, name) for name in ("min_length", "max_length"))
    count = f"{shortest[0] if shortest else 0} to {longest[0]}" if longest else "any number"
    rules = "".join(f"{rule}, " for rule in _metadata(field, "allowed"))
    return f"a list of {count} values, {rules}each {allowed(FieldInfo.from_annotation(items[0]))}"


def _metadata(field: FieldInfo, name: str) -> list[Any]:
    values = [getattr(m, name, None) for m in field.metadata]
    return [value for value in values if value is not None]


def _span(field: FieldInfo) -> str:
    bounds = {name: _number(v[0]) for name in ("ge", "gt", "le", "lt") if (v := _metadata(field, name))}
    if "ge" in bounds:
        joint = {"le": "to", "lt": "to below"}
        low = bounds["ge"]
    else:
        joint = {"le": "and at most", "lt": "and below"}
        low = f"above {bounds['gt']}" if "gt" in bounds else ""
    high = [f"{word} {bounds[name]}" for name, word in joint.items() if name in bounds]
    return " ".join(part for part in (low, *high) if part)


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:g}"


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def note(field: FieldInfo) -> str:
    """A field's description, and what it allows where that is more than its type; one line."""
    text = " ".join((field.description or "").split())
    annotation = field.annotation
    choice = get_origin(annotation) in (Literal, tuple) or annotation in (int, float)
    if choice or (annotation is str and _metadata(field, "allowed")):
        return f"{text} Allowed: {allowed(field, kind=False)}."
    return text
