"""Raw wav -> vocals and instrumental, by any network that audio-separator runs.

audio-separator's MDX path depends on the level: it multiplies the stem of the model by the peak of the mix and
subtracts that from the mix. Here every network receives a copy with a peak of exactly 1. Its stem is taken
before audio-separator limits or writes it, and the gain is undone. The other stem is the mix minus this one. So
the stems add up to the mix, and quiet recordings are separated like loud ones.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import wavfile
from upath import UPath

from melodygan_core.audio import SILENCE_DB, Wav, loudness_lufs, peak_db, read_wav, resample
from melodygan_core.config import SeparationConfig, require
from melodygan_core.errors import MelodyGANError, TrackError
from melodygan_core.parallel import Backend, Report, map_tracks
from melodygan_core.separation.audio_separator import SAMPLE_RATE, Separator
from melodygan_core.storage import Store, kinds, sha256_of

# Relative to the peak of the mix; a larger residual means that the network returned no audio.
RESIDUAL_LIMIT_DB = -80.0
MARKER = "stems.json"
FILES = {"vocals": "vocals.wav", "instrumental": "instrumental.wav"}


def separate(
    track_ids: Sequence[str], store: Store, config: SeparationConfig, backend: Backend | None = None
) -> Report:
    """Separates each raw wav into `vocals.wav` and `instrumental.wav` in `store.stems`.

    Both are 44.1 kHz stereo 32-bit float, have the length of the mix and add up to it. `stems.json` records the
    model and the parameters. A track with stems of the present raw wav is skipped. Every worker loads the model
    once, with its first track.

    Args:
        track_ids: The tracks; failed tracks are reported, the rest continue.
        store: Holds the raw wavs.
        config: Model and parameters. `centre` is the built-in baseline; audio-separator downloads any other
            model the first time.
        backend: Serial by default.

    Returns:
        One outcome per track; metadata: duration_s, residual_db, vocals_lufs, instrumental_lufs, bytes, uri,
        model, baseline.

    Raises:
        InputError: the config names an unknown device or parameter, or the backend is threads, which would
            share one network.
    """
    backend = backend or Backend()
    require(backend.name != "threads", "backend", backend.name, "serial, processes, ray")
    function = partial(_separate_track, store=store, model=Separator(config))
    return map_tracks("stems", function, track_ids, backend)


def _separate_track(track_id: str, store: Store, model: Separator) -> dict[str, Any]:
    folder = store.stems(model.config.model_id, track_id)
    with store.lock_for(folder):
        raw_sha256 = _raw_sha256(store, track_id)
        record = _present(store, folder)
        if record is not None and record["raw_sha256"] == raw_sha256:
            return _metadata(record, store.uri(folder)) | {"skipped": True}
        with store.reading(store.raw_wav(track_id)) as path:
            mix = _read_mix(path, track_id)
        ids = {"model_id": model.config.model_id, "track_id": track_id}
        with store.scratch(kinds.SEPARATION_SCRATCH, **ids) as scratch:
            stems = _split(mix, model, scratch)
        with store.writing_folder(folder) as temporary:
            record = _write(temporary, mix, stems, model, raw_sha256)
            (temporary / MARKER).write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", "utf-8")
        return _metadata(record, store.uri(folder))


def _raw_sha256(store: Store, track_id: str) -> str:
    # The provenance has the hash; the wav is read only if it is missing there.
    provenance = store.raw_json(track_id)
    if provenance.exists():
        sha256 = store.read_json(provenance).get("sha256")
        if sha256:
            return str(sha256)
    if not store.raw_wav(track_id).exists():
        raise MelodyGANError(f"{track_id} has no raw wav in the store: download it first")
    with store.reading(store.raw_wav(track_id)) as path:
        return sha256_of(path)


def _present(store: Store, folder: UPath) -> dict[str, Any] | None:
    if all((folder / name).exists() for name in (MARKER, *FILES.values())):
        return store.read_json(folder / MARKER)
    return None


def _metadata(record: Mapping[str, Any], uri: str) -> dict[str, Any]:
    return {
        "duration_s": record["duration_s"],
        "residual_db": record["residual_db"],
        "vocals_lufs": record["stems"]["vocals"]["loudness_lufs"],
        "instrumental_lufs": record["stems"]["instrumental"]["loudness_lufs"],
        "bytes": sum(stem["bytes"] for stem in record["stems"].values()),
        "uri": uri,
        "model": record["model"],
        "baseline": record["baseline"],
    }


def _read_mix(path: Path, track_id: str) -> Wav:
    """Returns stereo float32 (2, samples) at 44.1 kHz."""
    if not path.exists():
        raise MelodyGANError(f"{track_id} has no raw wav in the store: download it first")
    wav, sample_rate = read_wav(path)
    if wav.shape[0] not in (1, 2) or wav.shape[1] == 0 or not np.isfinite(wav).all():
        raise TrackError(
            f"the raw wav of {track_id} must have one or two channels, samples, and only finite ones, "
            f"got {wav.shape[0]} channels of {wav.shape[1]} samples"
        )
    wav = resample(wav, sample_rate, SAMPLE_RATE)
    return np.repeat(wav, 2, axis=0) if wav.shape[0] == 1 else wav


def _split(mix: Wav, model: Separator, work: Path) -> dict[str, Wav]:
    """Returns vocals and instrumental of (2, samples); their sum is the mix to the precision of float32."""
    model.load()
    peak = np.abs(mix).max()
    if peak == 0:
        return {"vocals": np.zeros_like(mix), "instrumental": np.zeros_like(mix)}
    name, stem = model.run(mix / peak, work)
    own = (stem * peak).astype(np.float32)
    other = "instrumental" if name == "vocals" else "vocals"
    return {name: own, other: mix - own}


def _write(
    folder: Path, mix: Wav, stems: Mapping[str, Wav], model: Separator, raw_sha256: str
) -> dict[str, Any]:
    peak = np.maximum(np.abs(mix).max(), np.finfo(np.float32).tiny)
    residual_db = peak_db((mix - (stems["vocals"] + stems["instrumental"])) / peak)
    if not residual_db <= RESIDUAL_LIMIT_DB:
        raise MelodyGANError(
            f"the stems of {model.config.model} must miss the mix by at most {RESIDUAL_LIMIT_DB:.0f} dB, "
            f"got {residual_db:.0f} dB"
        )
    described = {}
    for name, wav in stems.items():
        # Encoded in memory, so that the file is not read again for its hash. scipy, because libsndfile writes
        # the time of day into float wavs (PEAK chunk).
        encoded = io.BytesIO()
        wavfile.write(encoded, SAMPLE_RATE, np.ascontiguousarray(wav.T))
        content = encoded.getbuffer()
        (folder / FILES[name]).write_bytes(content)
        described[name] = {
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": content.nbytes,
            "loudness_lufs": round(loudness_lufs(wav, SAMPLE_RATE), 2),
            "peak_db": round(peak_db(wav), 2),
        }
    return {
        **model.description,
        "raw_sha256": raw_sha256,
        "sample_rate": SAMPLE_RATE,
        "duration_s": mix.shape[1] / SAMPLE_RATE,
        "residual_db": round(max(residual_db, SILENCE_DB), 1),
        "stems": described,
    }
