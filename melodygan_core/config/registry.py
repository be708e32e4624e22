"""Registry of codecs and priors by name: their configs, and where they are implemented.

A codec or prior is registered with the import path of its implementation, so that a config is read without
loading torch. Adding one is a config, a model, a training task and a row here; nothing else names it.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from melodygan_core.config.base import ConfigModel
from melodygan_core.config.codec import DenseCodecConfig, TemporalCodecConfig
from melodygan_core.config.messages import require
from melodygan_core.config.prior import (
    DenseGanConfig,
    TemporalFlowConfig,
    TemporalGanConfig,
    TemporalPlanConfig,
)
from melodygan_core.errors import InputError

MAX_NAME = 40


@dataclass(frozen=True)
class Component:
    """A kind of codec or prior.

    Attributes:
        name: Name such as `temporal` (codec) or `temporal/gan` (prior: its codec's name, then its own).
        config: Class of its config; all its fields have defaults.
        implementation: Import path of its implementation, as `module:attribute`.
        refined: Whether pipelines refine what it decodes; of codecs only.
        capabilities: What a prior can do besides making new latents; those of its class.
    """

    name: str
    config: type[ConfigModel]
    implementation: str
    refined: bool = False
    capabilities: frozenset[str] = frozenset()

    def load(self) -> Any:
        """The implementation, imported on first use."""
        module, _, attribute = self.implementation.partition(":")
        return getattr(importlib.import_module(module), attribute)


_CODECS: dict[str, Component] = {}
_PRIORS: dict[str, Component] = {}


def register_codec(name: str, config: type[ConfigModel], implementation: str, *, refined: bool = False) -> None:
    """Adds a codec, or replaces the one of that name.

    Args:
        name: Lower-case letters, digits and `_`.
        config: Class of its config; all its fields have defaults.
        implementation: `module:attribute` of a `codec.CodecKind`.
        refined: Whether pipelines refine what it decodes.
    """
    check_name("name", name)
    _CODECS[name] = Component(name, config, implementation, refined)


def register_prior(
    codec: str,
    name: str,
    config: type[ConfigModel],
    implementation: str,
    capabilities: frozenset[str] = frozenset(),
) -> None:
    """Adds a prior over the latents of a codec, or replaces the one of that name.

    Args:
        codec: Name of the codec.
        name: Lower-case letters, digits and `_`.
        config: Class of its config; all its fields have defaults.
        implementation: `module:attribute` of a `prior.PriorKind`.
        capabilities: Those of the prior's class, so that they are known without loading it.

    Raises:
        InputError: no such codec, or a name with other characters.
    """
    codec_component(codec)
    check_name("name", name)
    _PRIORS[f"{codec}/{name}"] = Component(f"{codec}/{name}", config, implementation, capabilities=capabilities)


def check_name(what: str, name: Any) -> None:
    """Checks the name of a codec, prior or pipeline, which becomes part of asset keys and folder names.

    Raises:
        InputError: other characters than lower-case letters, digits and `_`, or too long.
    """
    good = isinstance(name, str) and name.isascii() and name.isidentifier() and name == name.lower()
    allowed = f"1 to {MAX_NAME} lower-case letters, digits and _, a letter first"
    require(good and len(name) <= MAX_NAME and name[0] != "_", what, name, allowed)


def codec_component(name: str) -> Component:
    """The codec of that name.

    Raises:
        InputError: no such codec.
    """
    require(name in _CODECS, "codec", name, ", ".join(_CODECS))
    return _CODECS[name]


def prior_component(codec: str, name: str) -> Component:
    """The prior of that name over the latents of a codec.

    Raises:
        InputError: no such codec, or no such prior over its latents.
    """
    codec_component(codec)
    known = [prior for of, prior in prior_names() if of == codec]
    require(name in known, "prior", name, f"{', '.join(known) or 'left out: there is none'} (over {codec})")
    return _PRIORS[f"{codec}/{name}"]


def codec_names() -> list[str]:
    """Names of all codecs."""
    return list(_CODECS)


def prior_names() -> list[tuple[str, str]]:
    """Pairs of a codec's and a prior's name, of all priors."""
    return [(key.partition("/")[0], key.partition("/")[2]) for key in _PRIORS]


def able(capability: str) -> str:
    """Names of the pipelines whose priors have a capability, to be read in a sentence."""
    found = [c.name.replace("/", "_") for c in _PRIORS.values() if capability in c.capabilities]
    return ", ".join(found) or "none of those that are registered"


def require_capability(capabilities: frozenset[str], capability: str) -> None:
    """Checks what a prior can do.

    Raises:
        InputError: it cannot; the message names the pipelines that can.
    """
    if capability not in capabilities:
        others = f"such as {able(capability)}"
        raise InputError(f"release must be of a pipeline that can {capability}, {others}; this one cannot")


def components() -> tuple[Component, ...]:
    """All codecs and priors; what was made from the same ones holds for them."""
    return (*_CODECS.values(), *_PRIORS.values())


register_codec("dense", DenseCodecConfig, "melodygan_core.codec.dense:KIND")
register_codec("temporal", TemporalCodecConfig, "melodygan_core.codec.temporal:KIND", refined=True)
register_prior("dense", "gan", DenseGanConfig, "melodygan_core.prior.gan:DENSE")
register_prior("temporal", "gan", TemporalGanConfig, "melodygan_core.prior.gan:TEMPORAL")
_EDITING = frozenset({"stream", "continue", "inpaint", "loop", "vary"})
register_prior("temporal", "flow", TemporalFlowConfig, "melodygan_core.prior.flow:TEMPORAL", _EDITING)
register_prior(
    "temporal", "plan", TemporalPlanConfig, "melodygan_core.prior.plan:TEMPORAL", _EDITING | {"plan"}
)
