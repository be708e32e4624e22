"""Tracks of a library, written into a store by hand: rows of the catalogue, sounds, stems and failures."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import wavfile

from melodygan_core import catalogue
from melodygan_core.audio import write_wav
from melodygan_core.catalogue import Track
from melodygan_core.storage import Store

RATE = 44_100


def sine(seconds: float, frequency_hz: float, gain: float = 0.3) -> np.ndarray:
    """(2, samples) float32."""
    t = np.arange(round(seconds * RATE)) / RATE
    return np.repeat((gain * np.sin(2 * np.pi * frequency_hz * t)).astype(np.float32)[None], 2, axis=0)


def row(track_id: str, **changes: Any) -> Track:
    """A row of the catalogue."""
    values: dict[str, Any] = {
        "url": f"https://music.example/{track_id}",
        "title": f"Song {track_id}",
        "uploader": "Somebody",
        "licence": "CC BY 4.0",
        "rights": "open",
        "tags": ("calm",),
        "duration_s": None,
        "source_id": "s-1",
        "first_seen": datetime(2026, 11, 1, tzinfo=UTC),
        "status": "listed",
        **changes,
    }
    return Track(track_id=track_id, **values)


def put_track(store: Store, track_id: str, **changes: Any) -> None:
    """Adds a row to the catalogue."""
    with store.lock_for(store.catalogue()):
        catalogue.save(store, [*catalogue.load(store), row(track_id, **changes)])


def put_sound(store: Store, track_id: str, seconds: float = 2.0, **note: Any) -> None:
    """The sound of a track: the sum of what `put_stems` writes."""
    path = Path(str(store.raw_wav(track_id)))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_wav(path, sine(seconds, 440.0) + sine(seconds, 110.0), RATE)
    record = {"track_id": track_id, "duration_s": seconds, "problems": [], "url": "", **note}
    store.write_json(store.raw_json(track_id), record)


def put_stems(store: Store, track_id: str, seconds: float = 2.0, model: str = "m1") -> None:
    """A stem of 440 Hz and one of 110 Hz, in 32-bit float as the separation writes them."""
    folder = Path(str(store.stems(model, track_id)))
    folder.mkdir(parents=True)
    for name, frequency_hz in (("vocals", 440.0), ("instrumental", 110.0)):
        wavfile.write(folder / f"{name}.wav", RATE, np.ascontiguousarray(sine(seconds, frequency_hz).T))
    stems = {name: {"loudness_lufs": level} for name, level in (("vocals", -12.0), ("instrumental", -20.0))}
    store.write_json(store.stems(model, track_id) / "stems.json", {"duration_s": seconds, "stems": stems})


def put_failure(store: Store, track_id: str, reason: str) -> None:
    """The record of a permanent failure."""
    store.write_json(store.raw_error(track_id), {"track_id": track_id, "url": "", "reason": reason})
