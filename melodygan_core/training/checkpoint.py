"""Weights as safetensors, everything else as JSON: nothing in a checkpoint can run code."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from melodygan_core.errors import InputError, StorageError, storage_reason

WEIGHTS_FILE = "weights.safetensors"
CONFIG_FILE = "config.json"
MAX_CONFIG_BYTES = 4_000_000


def save_weights(folder: Path, modules: dict[str, torch.nn.Module], config: dict[str, Any]) -> None:
    """Writes `weights.safetensors` (keys prefixed by the module's name) and `config.json` into a folder."""
    tensors = {
        f"{name}.{key}": value.detach().contiguous().cpu().clone()
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    try:
        save_file(tensors, folder / WEIGHTS_FILE)
    except SafetensorError as error:
        raise StorageError(f"{folder / WEIGHTS_FILE}: {storage_reason(error) or error}") from error
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")


def load_config(folder: Path, *required: str) -> dict[str, Any]:
    """Reads the `config.json` of a checkpoint folder.

    Args:
        folder: Of the checkpoint.
        required: Keys it must have.

    Raises:
        InputError: missing, too large, not JSON, or without a required key.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise InputError(f"{folder} is no checkpoint: it has no {CONFIG_FILE}")
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise InputError(f"{path} has {path.stat().st_size} bytes; allowed: at most {MAX_CONFIG_BYTES}")
    try:
        config = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict) or not set(required) <= set(config):
        raise InputError(f"{path} is no config of a checkpoint; it must have {', '.join(required)}")
    return config


@contextmanager
def config_errors(folder: Path) -> Iterator[None]:
    """What is wrong with the values of a checkpoint's config is reported with the name of the file."""
    try:
        yield
    except (TypeError, ValueError, AttributeError, OverflowError, RuntimeError) as error:
        # RuntimeError is torch's for sizes that no tensor has.
        raise InputError(f"{folder / CONFIG_FILE}: {error}") from error


def load_weights(folder: Path, modules: dict[str, torch.nn.Module]) -> None:
    """Fills modules from the `weights.safetensors` of a checkpoint folder, strictly.

    The modules may be on the meta device, where a config of any size costs nothing: they take the tensors
    of the file, and a shape that does not fit is an error before anything is allocated for it.

    Raises:
        InputError: missing, damaged, of other shapes or types than the config says, or with values that are
            not finite.
    """
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise InputError(f"{folder} is no checkpoint: it has no {WEIGHTS_FILE}")
    try:
        tensors = load_file(path)
        for name, module in modules.items():
            prefix = f"{name}."
            own = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
            _check_values(own, module)
            module.load_state_dict(own, assign=True)
    except (SafetensorError, RuntimeError) as error:
        raise InputError(f"{path} does not fit its config: {error}") from error


def _check_values(tensors: Mapping[str, torch.Tensor], module: torch.nn.Module) -> None:
    # Assigned as they are, tensors of another type would fail later, or silently compute in that type.
    for key, expected in module.state_dict().items():
        value = tensors.get(key)
        if value is None:
            continue
        if value.dtype != expected.dtype:
            raise RuntimeError(f"{key} is {value.dtype}; allowed: {expected.dtype}")
        if not bool(torch.isfinite(value).all()):
            raise RuntimeError(f"{key} holds values that are not finite")
