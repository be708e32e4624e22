"""Peaks and spectrogram of a sound, computed once and kept on the server's machine.

All spectrograms share one colour scale, in dB of full scale, so that a soft sound is darker than a loud one.
"""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Collection
from functools import cache
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image
from upath import UPath

from melodygan_core import audio
from melodygan_core.storage import Store, replacing
from melodygan_core.storage.kinds import SOUND_PEAKS, SOUND_PICTURE

# Points of a waveform: more than the pixels of a wide page.
POINTS = 1600
# Size of a spectrogram in pixels, its frequencies and its colour scale.
WIDTH, HEIGHT = 1200, 160
LOWEST_HZ, HIGHEST_HZ = 50.0, 16_000.0
LOUDEST_DB, RANGE_DB = -10.0, 80.0
_N_FFT = 2048
_LISTED_ID = re.compile("[0-9a-f]{16}")
# Sounds that are drawn at once.
_drawing = threading.Semaphore(1)


def peaks_json(store: Store, sound_id: str, path: UPath) -> Path:
    """Path of a JSON file with the peaks of a sound: `[min, max, min, max, ...]` in [-1, 1].

    Args:
        store: In whose scratch it is kept.
        sound_id: Id of the sound.
        path: Of a wav, flac, ogg or mp3 file.

    Raises:
        TrackError: it is no readable sound.
        FileNotFoundError: it is gone.
    """
    return _view(store, sound_id, path)[0]


def spectrogram_png(store: Store, sound_id: str, path: UPath) -> Path:
    """Path of a PNG file with the spectrogram of a sound; see `peaks_json`."""
    return _view(store, sound_id, path)[1]


def _view(store: Store, sound_id: str, path: UPath) -> tuple[Path, Path]:
    peaks, picture = (
        Path(store.locate(kind.uri(sound_id=sound_id)).path) for kind in (SOUND_PEAKS, SOUND_PICTURE)
    )
    if peaks.is_file() and picture.is_file():
        return peaks, picture
    with _drawing:
        if not (peaks.is_file() and picture.is_file()):
            with store.reading(path) as local:
                wav, sample_rate = audio.read_wav(local)
            with replacing(peaks) as temporary:
                temporary.write_text(json.dumps(peaks_of(wav), separators=(",", ":")), "utf-8")
            with replacing(picture) as temporary:
                temporary.write_bytes(draw_spectrogram(audio.to_mono(wav), sample_rate))
    return peaks, picture


def prune_views(store: Store, listed: Collection[str]) -> None:
    """Removes the views of sounds that are not there any more, because a track was forgotten, say.

    Args:
        store: In whose scratch they are.
        listed: Ids of the sounds that are there; ids of another form than theirs are left alone.
    """
    folder = Path(store.locate(SOUND_PEAKS.uri(sound_id="x")).path).parent
    for path in folder.iterdir() if folder.is_dir() else ():
        if _LISTED_ID.fullmatch(path.stem) and path.stem not in listed:
            path.unlink(missing_ok=True)


def peaks_of(wav: NDArray[np.float32], points: int = POINTS) -> list[float]:
    """Lowest and highest sample of equal parts of a sound, over its channels.

    Args:
        wav: (channels, samples).
        points: Parts; fewer for a sound with fewer samples.

    Returns:
        `[min, max, min, max, ...]`, rounded to three digits.
    """
    samples = wav.shape[1]
    if samples == 0:
        return []
    edges = np.linspace(0, samples, min(points, samples), endpoint=False).astype(int)
    low = np.minimum.reduceat(wav.min(axis=0), edges)
    high = np.maximum.reduceat(wav.max(axis=0), edges)
    pairs = np.clip(np.stack([low, high], axis=1), -1.0, 1.0)
    return [round(float(value), 3) for value in pairs.ravel()]


def draw_spectrogram(wav: NDArray[np.float32], sample_rate: int) -> bytes:
    """Returns a PNG of the spectrogram without axes: logarithmic frequency, one colour scale for all sounds.

    Args:
        wav: (samples,) float32 in [-1, 1].
        sample_rate: In Hz.
    """
    half = _N_FFT // 2
    # A sound that is cut off begins with no click.
    padded = np.pad(wav, (half, half + 1), mode="reflect" if len(wav) > half + 1 else "constant")
    centres = np.linspace(0, max(0, len(wav) - 1), WIDTH).astype(int)
    window = np.hanning(_N_FFT).astype(np.float32)
    edges = np.geomspace(LOWEST_HZ, HIGHEST_HZ, HEIGHT + 1) * _N_FFT / sample_rate
    low = np.minimum(np.floor(edges[:-1]).astype(int), half)
    high = np.maximum(np.minimum(np.ceil(edges[1:]).astype(int), half + 1), low + 1)
    columns = []
    # A part at a time: a sound of twenty minutes has as many columns as one of ten seconds.
    for part in np.array_split(centres, 12):
        frames = padded[part[:, None] + np.arange(_N_FFT)] * window
        # A sine at full scale is 0 dB.
        magnitude = np.abs(np.fft.rfft(frames, axis=1)) * (2 / window.sum())
        columns.append(np.stack([magnitude[:, a:b].max(axis=1) for a, b in zip(low, high, strict=True)]))
    level = 20 * np.log10(np.maximum(np.concatenate(columns, axis=1), 1e-9))
    # A sound of a low rate has nothing above half of it.
    level[edges[:-1] > half] = -200.0
    share = np.clip((level - LOUDEST_DB + RANGE_DB) / RANGE_DB, 0, 1)
    # 64 levels look the same and take half of the file size.
    pixels = ((share[::-1] * 63).round() * 4).astype(np.uint8)
    buffer = io.BytesIO()
    palette = Image.fromarray(pixels, "L")
    palette.putpalette(_magma())
    palette.save(buffer, "png", optimize=True)
    return buffer.getvalue()


@cache
def _magma() -> bytes:
    return colormaps["magma"](np.arange(256), bytes=True)[:, :3].tobytes()
