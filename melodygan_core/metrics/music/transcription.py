"""Sound to notes with basic-pitch's small network (arXiv 2203.09893, Apache-2.0), if it is installed.

The network is one file of 230 KB in the package `basic-pitch`. Only that file is used, by onnxruntime: the
package itself wants TensorFlow, so that it is installed without its dependencies.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import argrelmax

from melodygan_core.errors import InputError
from melodygan_core.metrics.music.front_end import RATE, MusicSound
from melodygan_core.metrics.music.notes import Note

NOT_INSTALLED = "not measured: basic-pitch is not installed (uv pip install --no-deps basic-pitch)"

_HOP = 256
# Samples and frames of the network's window. Frames this near to its border are taken of the next window.
_WINDOW, _FRAMES, _MARGIN = 43_844, 172, 15
_LOWEST_PITCH = 21
# basic-pitch has 0.5, 0.3, 11 frames and 11 frames, and keeps overtones. The shortest note is 70 ms instead of
# 128, for sixteenths; the others were chosen on 14 excerpts of the songbook, where they take the F of notes
# with their pitch from 0.66 to 0.73, and that of the melody line from 0.53 to 0.71.
_ONSET, _ACTIVE, _GAP_FRAMES, _SHORTEST_FRAMES = 0.6, 0.3, 11, 6
# A weak note at 2, 3, 4 or 5 times the frequency of a stronger one that begins with it is its overtone.
_OVERTONES, _WEAK, _TOGETHER_S = (12, 19, 24, 28), 0.5, 0.05
_INPUT, _NOTE, _ONSETS = "serving_default_input_2:0", "StatefulPartitionedCall:1", "StatefulPartitionedCall:2"


def model_path() -> Path | None:
    """Returns the network's file, or None if basic-pitch is not installed. The package is not imported."""
    found = importlib.util.find_spec("basic_pitch")
    for folder in (found.submodule_search_locations if found else None) or ():
        path = Path(folder) / "saved_models" / "icassp_2022" / "nmp.onnx"
        if path.is_file():
            return path
    return None


def transcribe(sound: MusicSound) -> list[Note]:
    """Returns the notes of an excerpt by onset; none for silence. The amplitude is the network's activation.

    Raises:
        InputError: basic-pitch is not installed.
    """
    path = model_path()
    if path is None:
        raise InputError(NOT_INSTALLED)
    if sound.silent:
        return []
    # Levels from -30 to 0 dB give the same notes, but a very quiet excerpt gives fewer.
    wav = sound.wav / np.float32(np.abs(sound.wav).max())
    return activations_to_notes(*_activations(_session(path), wav))


@cache
def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _activations(session: Any, wav: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(samples,) -> activity and onsets (frames, 88), frame k at sample k * 256."""
    step = _FRAMES - 2 * _MARGIN
    frames = len(wav) // _HOP
    padded = np.pad(wav, (_MARGIN * _HOP, _WINDOW))
    parts: list[list[NDArray[np.float32]]] = [[], []]
    for first in range(0, frames, step):
        window = padded[first * _HOP : first * _HOP + _WINDOW]
        for part, output in zip(
            parts, session.run([_NOTE, _ONSETS], {_INPUT: window[None, :, None]}), strict=True
        ):
            part.append(output[0, _MARGIN : _MARGIN + step])
    active, onsets = (np.concatenate(part)[:frames] for part in parts)
    return active, onsets


def activations_to_notes(active: NDArray[np.float32], onsets: NDArray[np.float32]) -> list[Note]:
    """Returns the notes of the network's activations, by onset; much as basic-pitch makes them.

    Each maximum of the onsets above 0.6 begins a note, which lasts until its activity stays below 0.3 for
    0.13 s. Sudden rises of the activity count as onsets, too. Weak notes that are overtones of others are left
    out.

    Args:
        active: (frames, 88) in [0, 1], 86.1 frames per second, from A0 on.
        onsets: (frames, 88) in [0, 1].
    """
    rises = np.minimum(*(np.diff(active, n=1, axis=0, prepend=active[:1]), _difference(active, 2)))
    rises = np.maximum(rises, 0.0)
    if rises.max() > 0:
        onsets = np.maximum(onsets, rises * (onsets.max() / rises.max()))
    peaks = np.stack(argrelmax(onsets, axis=0))
    peaks = peaks[:, onsets[peaks[0], peaks[1]] >= _ONSET]
    left = active.copy()
    notes: list[Note] = []
    # From the last to the first: a note ends where a later one of its pitch, or of a neighbour, begins.
    for start, pitch in peaks.T[np.argsort(peaks[0], kind="stable")][::-1]:
        end = _end(left[:, pitch], int(start))
        if end - start < _SHORTEST_FRAMES:
            continue
        left[start:end, max(0, pitch - 1) : pitch + 2] = 0.0
        amplitude = float(active[start:end, pitch].mean())
        seconds = (int(start) * _HOP / RATE, int(end) * _HOP / RATE)
        notes.append(Note(*seconds, int(pitch) + _LOWEST_PITCH, amplitude))
    return sorted(n for n in notes if n.amplitude >= _WEAK or not _is_overtone(n, notes))


def _is_overtone(note: Note, notes: Sequence[Note]) -> bool:
    return any(
        note.pitch - other.pitch in _OVERTONES
        and other.amplitude > note.amplitude
        and abs(other.start_s - note.start_s) < _TOGETHER_S
        for other in notes
    )


def _difference(active: NDArray[np.float32], frames: int) -> NDArray[np.float32]:
    change = np.zeros_like(active)
    change[frames:] = active[frames:] - active[:-frames]
    return change


def _end(activity: NDArray[np.float32], start: int) -> int:
    """The frame after the last active one before a gap of 0.13 s."""
    quiet, end = 0, start + 1
    while end < len(activity) and quiet < _GAP_FRAMES:
        quiet = quiet + 1 if activity[end] < _ACTIVE else 0
        end += 1
    return end - quiet
