"""MelodyGAN's computing: url -> wav -> stems -> features -> latents -> sound, without Dagster.

A table of contents: importing it costs nothing, a stage is loaded when it is first named.
"""

from __future__ import annotations

import importlib
from types import ModuleType

STAGES = (
    "catalogue",
    "download",
    "separation",
    "features",
    "dataset",
    "codec",
    "vocoder",
    "latents",
    "prior",
    "generation",
    "evaluation",
    "release",
    "gallery",
)
__all__ = list(STAGES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> ModuleType:
    if name in STAGES:
        return importlib.import_module(f"melodygan_core.{name}")
    raise AttributeError(f"module 'melodygan_core' has no attribute {name!r}; stages: {', '.join(STAGES)}")


def __dir__() -> list[str]:
    return [*STAGES]
