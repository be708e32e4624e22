"""Choices that several configs share, versions of the stages, and ids that are hashes of configs."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from melodygan_core.config.base import ConfigModel, Rule, to_dict

Stem = Literal["vocals", "instrumental", "mix"]
Rights = Literal["own", "licensed", "open", "unknown"]
Vocoder = Literal["neural", "griffin_lim", "flow"]
Split = Literal["train", "validation", "test"]

STEMS: tuple[str, ...] = get_args(Stem)
RIGHTS: tuple[str, ...] = get_args(Rights)
VOCODERS: tuple[str, ...] = get_args(Vocoder)
SPLITS: tuple[str, ...] = get_args(Split)

# A whole seed fits the 32-bit integers of Dagster's launchpad.
MAX_SEED = 2**31 - 1


def _all_different(values: tuple[Any, ...]) -> bool:
    return len(set(values)) == len(values)


ALL_DIFFERENT = Rule("all different", _all_different)
Stems = Annotated[tuple[Stem, ...], Field(min_length=1, max_length=len(STEMS)), ALL_DIFFERENT]
OddKernel = Annotated[int, Field(ge=1, le=255), Rule("odd", lambda size: size % 2 == 1)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]

# Changed when a stage makes something else from the same input and config; part of every id and version. They
# are declared here, not beside the algorithms, so that the orchestrator reads them without loading torch.
VERSIONS = {
    "catalogue": "1",
    "download": "2",
    "separation": "1",
    "features": "1",
    "dataset": "3",
    "codec": "3",
    "refiner": "1",
    "latents": "3",
    "plan": "1",
    "vocoder": "2",
    "flow_vocoder": "1",
    "prior": "3",
    "generation": "3",
    "evaluation": "4",
    "release": "3",
    "gallery": "5",
}


def training_id(config: Any) -> dict[str, Any]:
    """A training config as plain JSON, without the fields that do not shape the result.

    Args:
        config: A config with an `optimizer`.
    """
    values = to_dict(config)
    for name in ("device", "checkpoint_every_s"):
        del values["optimizer"][name]
    return values


def config_id(*parts: Any) -> str:
    """12 hexadecimal digits that change when any part does.

    Args:
        parts: Configs, or JSON-serialisable values such as code versions and data versions.
    """
    plain = [to_dict(part) if isinstance(part, ConfigModel) else part for part in parts]
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
