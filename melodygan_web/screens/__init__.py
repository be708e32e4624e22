"""One module per screen: a module that has a `SCREEN` is served and in the navigation."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass, field

from starlette.routing import BaseRoute


@dataclass(frozen=True)
class Screen:
    """A page of the studio and what it calls.

    Attributes:
        name: Its path below the studio, and the stem of its module, template and test.
        title: In the navigation.
        position: In the navigation, 1 to 7: Listen, Generate, Transform, Library, Train, Evaluate, Jobs.
        routes: Handlers; the first is the page, at `/<name>`. Paths of the others begin with `/<name>/`.
        scripts: Files of `static/` that the page loads.
    """

    name: str
    title: str
    position: int
    routes: Sequence[BaseRoute] = field(hash=False)
    scripts: tuple[str, ...] = ()


@functools.cache
def all_screens() -> tuple[Screen, ...]:
    """Every screen, in the order of the navigation."""
    modules = [importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)]
    return tuple(sorted((m.SCREEN for m in modules if hasattr(m, "SCREEN")), key=lambda s: s.position))
