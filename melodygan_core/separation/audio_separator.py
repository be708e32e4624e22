"""Any network that audio-separator runs, as one function from a mix to the stem of the network.

audio-separator limits, rounds and subtracts stems before it writes them; here they are taken before that.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import math
import sys
import tempfile
import uuid
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import wavfile

from melodygan_core.audio import Wav
from melodygan_core.config import SeparationConfig, replace, require
from melodygan_core.errors import InputError, MelodyGANError
from melodygan_core.sandbox import ffmpeg
from melodygan_core.separation import centre, parameters
from melodygan_core.storage import sha256_of

SAMPLE_RATE = 44_100
BASELINE = "centre"
DEVICES = ("auto", "cpu", "cuda", "mps")
# The names of the two stems in models, in lower case.
_NAMES = {
    "vocals": ("vocals", "vocal"),
    "instrumental": ("instrumental", "inst", "no vocals", "no_vocals"),
}


def default_model_dir() -> Path:
    """Returns the folder of models if the config names none: the cache of the user."""
    return Path.home() / ".cache" / "melodygan" / "models"


class Separator:
    """A network, loaded on first use; a failed load is not tried again for each track."""

    def __init__(self, config: SeparationConfig) -> None:
        require(config.device in DEVICES, "device", config.device, ", ".join(DEVICES))
        require(Path(config.model).name == config.model, "model", config.model, "a file name without folder")
        parameters.check_names(config)
        self.config = config
        self.description: dict[str, Any] = {}
        self._instance: Any = None
        self._separator: Any = None
        self._own_stem = ("", "")
        self._mix: Wav | None = None
        self._stems: dict[str, Wav] = {}
        self._error: MelodyGANError | None = None

    def __reduce__(self) -> tuple[type[Separator], tuple[SeparationConfig]]:
        # The receiving process loads the network itself, and may have another working folder.
        folder = self.config.model_dir
        return Separator, (replace(self.config, model_dir=str(Path(folder).absolute()) if folder else ""),)

    @property
    def baseline(self) -> bool:
        """Whether this is the built-in model."""
        return self.config.model == BASELINE

    def load(self) -> None:
        """Loads the model, and downloads it first if it is missing.

        Raises:
            MelodyGANError: the model cannot be downloaded, loaded or run like this; says what to do.
        """
        if self._error is not None:
            raise self._error
        if self._separator is not None:
            return
        try:
            self._load()
        except MelodyGANError as error:
            self._error = error
            raise

    def _load(self) -> None:
        folder = Path(self.config.model_dir) if self.config.model_dir else default_model_dir()
        own = {}
        if self.baseline:
            folder, own = centre.write_model(folder), {"MDX": centre.separator_parameters()}
        file = centre.MODEL_FILE if self.baseline else self.config.model
        # audio-separator silences all warnings of the process; pydub warns about ffmpeg at import.
        with warnings.catch_warnings(), ffmpeg.on_path():
            separator = _make_separator(self.config, folder, own)
            _set_device(separator, self.config.device, file)
            try:
                separator.load_model(file)
            except (Exception, SystemExit) as error:
                # audio-separator exits the process on a damaged checkpoint.
                raise _load_error(error, file, folder) from error
        instance = separator.model_instance
        architecture = type(instance).__name__.removesuffix("Separator")
        parameters.check(self.config, architecture)
        self._own_stem = _own_stem(instance, architecture, self.config.model)
        # Otherwise audio-separator scales down stems that exceed 1, each by another factor.
        instance.normalization_threshold = math.inf
        instance.final_process = self._keep
        if architecture != "VR":
            instance.prepare_mix = lambda _path: self._mix
        if architecture == "MDX":
            _stack_lists(type(instance))
        if architecture == "MDX" and instance.torch_device.type == "cpu":
            # It collects garbage after each track: up to a second in a large process, without use on a CPU.
            instance.clear_gpu_cache = lambda: None
        self.description = {
            "model": self.config.model,
            "model_sha256": sha256_of(Path(instance.model_path)),
            "baseline": self.baseline,
            "architecture": architecture,
            "parameters": separator.arch_specific_params[architecture],
            "audio_separator": importlib.metadata.version("audio-separator"),
        }
        self._instance, self._separator = instance, separator

    def _keep(self, _path: str, source: Any, name: str) -> None:
        # Replaces audio-separator's writer: float32 (samples, 2), neither limited nor rounded to 16 bits.
        self._stems[name.lower()] = np.asarray(source, np.float32)

    def run(self, wav: Wav, work: Path) -> tuple[str, Wav]:
        """Returns the stem that the network computes.

        Args:
            wav: (2, samples) at 44.1 kHz, with a peak of exactly 1.
            work: Folder for a temporary file; only VR models read one, at several rates.

        Returns:
            `vocals` or `instrumental`, and float32 (2, samples).
        """
        self._stems.clear()
        label, name = self._own_stem
        if self.description["architecture"] == "MDX":
            # Avoids a second pass for the other stem, which is the mix minus this one.
            self._instance.secondary_source = np.zeros((1, 2), np.float32)
        path = work / "mix.wav"
        if self.description["architecture"] == "VR":
            wavfile.write(path, SAMPLE_RATE, np.ascontiguousarray(wav.T))
        self._mix = wav
        with warnings.catch_warnings():
            # Deprecations in audio-separator's code, and 0 / 0 in the padding that it removes.
            warnings.simplefilter("ignore")
            self._separator.separate(str(path))
        self._mix = None
        if label not in self._stems:
            raise MelodyGANError(f"{self.config.model} returned {sorted(self._stems)} and no stem {label!r}")
        stem = self._stems[label].T
        self._stems.clear()
        # `compensate` is the gain with which UVR subtracts the stem from the mix.
        if self.description["architecture"] == "MDX":
            stem = stem * np.float32(self._instance.compensate)
        return name, _fit(stem, wav.shape[1], self.config.model)


def _fit(stem: Wav, samples: int, model: str) -> Wav:
    # VR works at its own sample rates and in full hops: the length may differ by some samples.
    if stem.ndim != 2 or stem.shape[0] != 2 or abs(stem.shape[1] - samples) > SAMPLE_RATE:
        raise MelodyGANError(f"{model} returned {stem.shape} for a mix of (2, {samples})")
    if not np.isfinite(stem).all():
        raise MelodyGANError(f"{model} returned samples that are not finite")
    return np.pad(stem[:, :samples], ((0, 0), (0, max(0, samples - stem.shape[1]))))


class _Torch:
    """torch with a faster `tensor` for lists of arrays, which took half of the time of a track."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module("torch"), name)

    def tensor(self, data: Any, **options: Any) -> Any:
        """Returns the tensor; a list of arrays is stacked first, because torch reads it number by number."""
        import torch

        arrays = isinstance(data, list) and data and isinstance(data[0], np.ndarray)
        return torch.tensor(np.stack(data) if arrays else data, **options)


def _stack_lists(separator: type) -> None:
    """Replaces torch by `_Torch` in the module of an architecture of audio-separator."""
    sys.modules[separator.__module__].torch = _Torch()  # pyrefly: ignore[missing-attribute]


def _make_separator(config: SeparationConfig, folder: Path, own: Mapping[str, Mapping[str, Any]]) -> Any:
    import inspect

    from audio_separator.separator import Separator

    signature = inspect.signature(Separator).parameters
    tables = {}
    for architecture, types in parameters.PARAMETERS.items():
        chosen = {
            name: parameters.convert(types[name], value) for name, value in config.parameters if name in types
        }
        usable = {name: value for name, value in chosen.items() if value is not None}
        argument = f"{architecture.lower()}_params"
        tables[argument] = {**signature[argument].default, **own.get(architecture, {}), **usable}
    separator = Separator(
        log_level=logging.WARNING,
        model_file_dir=str(folder),
        output_dir=tempfile.gettempdir(),
        normalization_threshold=1.0,
        **tables,
    )
    # An environment variable overrides the argument.
    separator.model_file_dir = str(folder)
    separator.download_file_if_not_exists = partial(_download, separator.download_file_if_not_exists)
    return separator


def _download(download: Any, url: str, output_path: str) -> None:
    # audio-separator writes to the final name: the rest of a broken connection would look complete.
    path = Path(output_path)
    if path.is_file():
        return
    temporary = path.with_name(f".{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        download(url, str(temporary))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _set_device(separator: Any, device: str, file: str) -> None:
    import onnxruntime
    import torch

    if device == "cpu":
        separator.torch_device = torch.device("cpu")
        separator.onnx_execution_provider = ["CPUExecutionProvider"]
    elif device not in ("auto", separator.torch_device.type):
        raise InputError(f"device must be auto or cpu on this machine, got {device!r}, which is not available")
    if separator.onnx_execution_provider is None:
        # torch has a GPU that onnxruntime does not support.
        if device == "cuda" and file.endswith(".onnx"):
            providers = ", ".join(onnxruntime.get_available_providers())
            raise InputError(f"device must be one of {providers}, got 'cuda': install onnxruntime-gpu")
        separator.onnx_execution_provider = ["CPUExecutionProvider"]


def _own_stem(instance: Any, architecture: str, model: str) -> tuple[str, str]:
    """Returns the lower-case label of the stem that the network computes, and `vocals` or `instrumental`."""
    primary = str(instance.primary_stem_name).lower()
    labels = [primary, str(instance.secondary_stem_name).lower()]
    if architecture == "Demucs":
        labels = ["vocals"]
    elif architecture == "MDXC":
        training = instance.model_data.get("training", {})
        labels += [str(label).lower() for label in training.get("instruments", [])]
    # The second stem of an MDX model is the mix minus the first.
    candidates = labels[:1] if architecture == "MDX" else labels
    for label in sorted(candidates, key=lambda label: (label != primary, label not in _NAMES["vocals"])):
        for name, aliases in _NAMES.items():
            if label in aliases:
                return label, name
    stems = ", ".join(dict.fromkeys(labels))
    raise InputError(f"model must have a vocals or instrumental stem, got {model} with {stems}")


def _load_error(error: BaseException, file: str, folder: Path) -> MelodyGANError:
    import requests

    text = str(error)
    if isinstance(error, requests.RequestException) or text.startswith("Failed to download"):
        needed = [file, "download_checks.json"]
        if file.endswith((".onnx", ".pth")):
            needed += ["mdx_model_data.json", "vr_model_data.json"]
        missing = ", ".join(name for name in needed if not (folder / name).exists()) or "a further file"
        return MelodyGANError(
            f"the separation model {file} cannot be downloaded ({type(error).__name__}): choose the built-in "
            f"model 'centre', or put the missing files ({missing}) into {folder}, or connect to the network"
        )
    if "not found in supported model files" in text:
        return InputError(f"model must be centre or one of `audio-separator --list_models`, got {file!r}")
    if "parameters for MD5 hash" in text:
        return MelodyGANError(
            f"{folder / file} is damaged or unknown to mdx_model_data.json and vr_model_data.json: delete it, "
            "or add its MD5 and parameters there"
        )
    # The rest of the messages of torch and onnxruntime is advice, some of it unsafe.
    first = text.split(". ", maxsplit=1)[0][:200]
    reason = "" if isinstance(error, SystemExit) else f" ({type(error).__name__}: {first})"
    return MelodyGANError(
        f"the separation model {file} in {folder} cannot be loaded{reason}: if it is damaged or incomplete, "
        "delete it; it is then downloaded again"
    )
