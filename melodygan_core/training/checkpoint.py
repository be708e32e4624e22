"""Published checkpoints: weights as safetensors, config as JSON, so that reading one cannot run code."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from melodygan_core.config import config_id
from melodygan_core.errors import InputError, StorageError, storage_reason
from melodygan_core.storage import load_object

WEIGHTS_FILE = "weights.safetensors"
CONFIG_FILE = "config.json"
MAX_CONFIG_BYTES = 4_000_000
# Largest magnitude of a weight or statistic. Trained ones are below 1,000.
MAX_VALUE = 1e5
# Ends of the names of standard deviations.
_DEVIATIONS = ("_std",)


def save_weights(
    folder: Path, modules: dict[str, torch.nn.Module], config: dict[str, Any], kind: str = ""
) -> None:
    """Writes `weights.safetensors` and `config.json` into a folder.

    Args:
        folder: Of the checkpoint.
        modules: Name to module. The name and a dot stand before the module's keys; an empty name adds nothing.
        config: What `load_config` returns.
        kind: Of the model, such as `codec/temporal`, for the metadata of the file.

    Raises:
        StorageError: the weights could not be written.
    """
    tensors = {
        _prefix(name) + key: value.detach().contiguous().cpu().clone()
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    try:
        save_file(
            tensors, folder / WEIGHTS_FILE, {"format": "pt", "kind": kind, "config_id": config_id(config)}
        )
        _sort_metadata(folder / WEIGHTS_FILE)
    except SafetensorError as error:
        raise StorageError(f"{folder / WEIGHTS_FILE}: {storage_reason(error) or error}") from error
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")


def _sort_metadata(path: Path) -> None:
    """Puts the metadata of a safetensors file in order, so that equal weights are equal bytes."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        # Neither longer nor shorter: the tensors stand behind it.
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(size)
        assert len(text) == size, "the order of keys changes no length"
        file.seek(8)
        file.write(text)


def load_config(
    folder: Path, *required: str, file: str = CONFIG_FILE, max_bytes: int = MAX_CONFIG_BYTES
) -> dict[str, Any]:
    """Reads the `config.json` of a checkpoint folder, or another JSON object of a folder.

    Args:
        folder: Of the checkpoint.
        required: Keys that it must have.
        file: Name of the file.
        max_bytes: Largest size of the file.

    Raises:
        InputError: the file is missing, too large, not JSON, or without a required key.
    """
    path = folder / file
    if not path.is_file():
        raise InputError(f"{folder} is no checkpoint: it has no {file}")
    config = load_object(path, max_bytes)
    if not set(required) <= set(config):
        raise InputError(f"{path} must be a JSON object with {', '.join(required)}")
    return config


@contextmanager
def config_errors(folder: Path) -> Iterator[None]:
    """Raises InputError with the name of the config file for errors that its values cause inside the block."""
    try:
        yield
    except (TypeError, ValueError, AttributeError, OverflowError, RuntimeError) as error:
        # torch raises RuntimeError for impossible tensor sizes.
        raise InputError(f"{folder / CONFIG_FILE}: {error}") from error


def load_weights(folder: Path, modules: dict[str, torch.nn.Module]) -> None:
    """Loads `weights.safetensors` of a checkpoint folder into modules, strictly.

    The modules may be on the meta device, where a config of any size costs nothing: they take over the tensors
    of the file, and a wrong shape is an error before anything is allocated for it.

    Raises:
        InputError: the file is missing or damaged, its shapes or types are not those of the config, or a
            value is not finite, beyond MAX_VALUE, or a deviation that is not above 0.
    """
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise InputError(f"{folder} is no checkpoint: it has no {WEIGHTS_FILE}")
    try:
        tensors = load_file(path)
        for name, module in modules.items():
            prefix = _prefix(name)
            state = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
            _check_values(state, module)
            module.load_state_dict(state, assign=True)
    except (SafetensorError, RuntimeError) as error:
        # torch lists every tensor that does not fit on a line of its own.
        reason = " ".join(str(error).split())
        raise InputError(f"{path} does not fit its config: {reason}") from error


def _prefix(name: str) -> str:
    return f"{name}." if name else ""


def _check_values(tensors: Mapping[str, torch.Tensor], module: torch.nn.Module) -> None:
    # A tensor of another type would be assigned as it is, and compute in that type or fail later.
    for key, expected in module.state_dict().items():
        value = tensors.get(key)
        if value is None:
            continue
        if value.dtype != expected.dtype:
            raise RuntimeError(f"{key} must be {expected.dtype}, got {value.dtype}")
        if not bool(torch.isfinite(value).all()):
            raise RuntimeError(f"{key} must be finite, got NaN or infinite values")
        largest = float(value.abs().max()) if value.is_floating_point() and value.numel() else 0.0
        if largest > MAX_VALUE:
            raise RuntimeError(f"{key} must be -{MAX_VALUE:g} to {MAX_VALUE:g}, got {largest:g}")
        if key.endswith(_DEVIATIONS) and not bool((value > 0).all()):
            raise RuntimeError(f"{key} must be above 0, got {float(value.min()):g}")
