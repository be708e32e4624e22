"""Configs as plain values: to JSON and back, checked; ids that are hashes of them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from melodygan_core.errors import InputError

T = TypeVar("T")

STEMS = ("vocals", "instrumental", "mix")
RIGHTS = ("own", "licensed", "open", "unknown")
VOCODERS = ("neural", "griffin_lim")
FAMILIES = ("dense", "temporal")
SPLITS = ("train", "validation", "test")

# Raised when a stage makes something else of the same input and config: part of every id and version. They
# stand here, not beside the algorithms, so that the orchestrator can name them without loading torch.
VERSIONS = {
    "catalogue": "1",
    "download": "2",
    "separation": "1",
    "features": "1",
    "dataset": "3",
    "autoencoder": "2",
    "latents": "2",
    "vocoder": "1",
    "gan": "2",
    "generation": "2",
    "evaluation": "2",
    "release": "2",
    "gallery": "2",
}


def to_dict(config: Any) -> dict[str, Any]:
    """Plain JSON types of a config dataclass (tuples become lists)."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_dict(cls: type[T], values: Mapping[str, Any]) -> T:
    """The inverse of `to_dict`: a config dataclass from plain JSON types, checked by its own rules.

    Raises:
        InputError: a name that the config does not have, or a value that it does not allow.
    """
    hints = get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cast(Any, cls))]
    unknown = sorted(set(values) - set(names), key=str)
    require(not unknown, f"a field of {cls.__name__}", unknown, ", ".join(names))
    return cls(**{name: _typed(name, hints[name], value) for name, value in values.items()})


def _typed(name: str, hint: Any, value: Any) -> Any:
    # JSON has no tuples and may spell 1.0 as 1; anything else that is not of the field's type is a mistake.
    if dataclasses.is_dataclass(hint):
        if isinstance(value, Mapping):
            return from_dict(cast(type, hint), value)
    elif get_origin(hint) is tuple:
        require(isinstance(value, list | tuple), name, value, "a list")
        kinds = get_args(hint)
        kinds = kinds[:1] * len(value) if kinds[-1] is Ellipsis else kinds
        require(len(kinds) == len(value), name, value, f"{len(kinds)} values")
        return tuple(_typed(name, kind, v) for kind, v in zip(kinds, value, strict=True))
    elif hint is float and type(value) is int:
        return float(value)
    require(type(value) is hint, name, value, f"a value of type {hint.__name__}")
    return value


def training_id(config: Any) -> dict[str, Any]:
    """A training config as plain JSON without what shapes no result: where it runs, how often it saves."""
    values = to_dict(config)
    for name in ("device", "checkpoint_every_s"):
        del values["optimizer"][name]
    return values


def config_id(*parts: Any) -> str:
    """12 hexadecimal digits that change when any part does.

    Args:
        parts: config dataclasses, or JSON-serialisable values (code versions, data versions).
    """
    plain = [to_dict(p) if dataclasses.is_dataclass(p) else p for p in parts]
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def require(ok: bool, name: str, value: object, allowed: str) -> None:
    """Raises InputError that names the value and what is allowed, unless `ok`."""
    if not ok:
        raise InputError(f"{name} is {value!r}; allowed: {allowed}")
