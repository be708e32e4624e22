"""Presets for kinds of machines, and a file of settings over one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from melodygan_core.config import plain_yaml
from melodygan_core.config.base import from_dict, to_dict
from melodygan_core.config.config import Config
from melodygan_core.config.messages import require
from melodygan_core.config.registry import Component, components
from melodygan_core.errors import InputError

_FOLDER = Path(__file__).with_name("presets")
_PACKAGED = ("demo", "small", "base", "large")


class _Presets(MutableMapping[str, Config]):
    """The packaged presets, read on first use, and those that are assigned."""

    def __init__(self) -> None:
        self._assigned: dict[str, Config] = {}

    def __getitem__(self, name: str) -> Config:
        if name in self._assigned:
            return self._assigned[name]
        if name not in _PACKAGED:
            raise KeyError(name)
        return _packaged(name, components())

    def __setitem__(self, name: str, config: Config) -> None:
        self._assigned[name] = config

    def __delitem__(self, name: str) -> None:
        del self._assigned[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*_PACKAGED, *self._assigned)))

    def __len__(self) -> int:
        return len(set(_PACKAGED) | set(self._assigned))


# A codec that is registered later is in every preset, too: a preset is read again when the registry changes.
@lru_cache(maxsize=16)
def _packaged(name: str, registered: tuple[Component, ...]) -> Config:
    return from_dict(Config, _read(_FOLDER / f"{name}.yaml"))


PRESETS: MutableMapping[str, Config] = _Presets()


def preset(name: str) -> Config:
    """The preset of that name.

    Raises:
        InputError: no such preset.
    """
    require(name in PRESETS, "preset", name, ", ".join(PRESETS))
    return PRESETS[name]


def load(name: str, file: Path | None = None) -> Config:
    """A preset with the settings of a YAML file over it, such as `download: {max_duration_s: 600}`.

    Args:
        name: Name of the preset.
        file: Settings that differ from the preset's; a list replaces the preset's list.

    Raises:
        InputError: no such preset or file, not YAML, or a setting that does not exist or is not allowed; names
            the file.
    """
    base = preset(name)
    if file is None:
        return base
    values = _read(file)
    try:
        return from_dict(Config, _merged(to_dict(base), values))
    except InputError as error:
        raise InputError(f"{file.name}: {error}") from error


def _read(file: Path) -> Mapping[str, Any]:
    require(file.is_file(), "config", str(file), "an existing YAML file")
    values, _ = plain_yaml.parse(file.name, plain_yaml.read_text(file), typed=True)
    values = {} if values is None else values
    require(isinstance(values, dict), f"{file.name}: content", values, "a mapping of stages to settings")
    return values


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    nested = {
        key: _merged(base[key], value)
        for key, value in over.items()
        if isinstance(base.get(key), dict) and isinstance(value, dict)
    }
    return {**base, **over, **nested}
