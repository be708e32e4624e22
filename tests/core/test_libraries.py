"""The installed libraries bring their own system libraries: set-up installs nothing outside the environment."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

# What a fresh machine has: the C library, and none of the audio libraries that a system package would bring.
BARE_MACHINE = """
import ctypes.util
import sys

real = ctypes.util.find_library
ctypes.util.find_library = lambda name: real(name) if name in ("c", "m", "dl", "pthread") else None
"""

# Hypothesis, inspect.stack() and others read `__file__` of every module in sys.modules. A module that a library
# loads lazily is imported by that, wherever it happens.
EVERY_MODULE = """
import importlib
import inspect
import pkgutil

import librosa.core.audio

broken = {}


def check():
    for name, module in list(sys.modules.items()):
        try:
            getattr(module, "__file__", None)
        except Exception as error:
            broken[name] = f"{type(error).__name__}: {error}"


# At once, because Python 3.11 reports a failed lazy import only once.
check()
import melodygan_core

for found in pkgutil.walk_packages(melodygan_core.__path__, "melodygan_core."):
    if not found.name.endswith(("__main__", ".child")):
        importlib.import_module(found.name)
import librosa.display
from audio_separator import separator
from audio_separator.separator import architectures

for found in pkgutil.iter_modules(architectures.__path__):
    importlib.import_module(f"{architectures.__name__}.{found.name}")

check()
assert not broken, broken
inspect.stack()
"""

# audio-separator's VR models resample with these.
RESAMPLERS = """
import librosa
import numpy as np

for kind in ("sinc_fastest", "kaiser_fast", "polyphase"):
    wav = np.zeros(4410, np.float32)
    assert len(librosa.resample(wav, orig_sr=44100, target_sr=22050, res_type=kind)) == 2205
"""


def run(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_every_lazily_loaded_module_imports_without_system_libraries() -> None:
    run(BARE_MACHINE + EVERY_MODULE)


def test_every_resampler_works_without_system_libraries() -> None:
    run(BARE_MACHINE + RESAMPLERS)
