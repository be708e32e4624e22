"""URL -> wav: the best audio of each track, decoded to one format, with its provenance."""

from __future__ import annotations

import errno
import functools
import math
import re
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from melodygan_core import audio, catalogue, parallel
from melodygan_core.catalogue import Track
from melodygan_core.config import DownloadConfig, to_dict
from melodygan_core.errors import InputError, TrackError, TransientError
from melodygan_core.sandbox import ffmpeg, net
from melodygan_core.sandbox.decoder import CHANNELS, decode
from melodygan_core.storage import Store, kinds, sha256_of

_CLIPPED_FRACTION = 0.005
_BACKOFF_S = 1.0
# Time of the last request of this worker; a worker is a thread or a process.
_last_request = threading.local()
_BLOCK_FRAMES = 1 << 20
_REPORTED = (
    "title",
    "uploader",
    "url",
    "licence",
    "rights",
    "duration_s",
    "peak_db",
    "problems",
    "bytes",
    "sha256",
    "fetched_at",
    "yt_dlp_version",
)


def fetch(
    track_ids: Sequence[str], store: Store, config: DownloadConfig, backend: parallel.Backend | None = None
) -> parallel.Report:
    """Downloads and decodes each track whose wav is not in the store.

    Permanent failures are recorded (`store.raw_error`) with the limits of the config, and not tried again while
    the limits are the same. Delete the record (`melodygan retry`) to try again.

    Args:
        track_ids: Rows of the catalogue.
        store: Receives `raw/<track_id>.wav` (PCM 16-bit, config.sample_rate, 2 channels) and its `.json`.
        config: Limits and pauses; every worker waits `pause_s` between requests.
        backend: `config.workers` threads by default.

    Returns:
        One outcome per track; metadata: title, duration_s, bytes, sha256, uri, licence, rights, peak_db.
    """
    tracks = {t.track_id: t for t in catalogue.load(store)}
    function = functools.partial(_fetch_track, tracks=tracks, store=store, config=config)
    backend = backend or parallel.Backend("threads", config.workers)
    return parallel.map_tracks("download", function, track_ids, backend)


def provenance(store: Store, track_id: str) -> dict[str, Any]:
    """Returns the origin and the properties of the raw wav of a track.

    Raises:
        InputError: the wav of the track is not in the store.
        DamagedError: the file of its provenance cannot be read.
    """
    path = store.raw_json(track_id)
    if not path.exists():
        raise InputError(f"track_id must be a track whose wav is in the store, got {track_id!r}")
    return store.read_json(path)


def _wait_for_turn(pause_s: float) -> None:
    wait_s = getattr(_last_request, "at", -pause_s) + pause_s - time.monotonic()
    if wait_s > 0:
        time.sleep(wait_s)
    _last_request.at = time.monotonic()


def _present(store: Store, track_id: str, config: DownloadConfig) -> dict[str, Any] | None:
    if store.raw_json(track_id).exists() and store.raw_wav(track_id).exists():
        return _metadata(store, provenance(store, track_id)) | {"skipped": True}
    if store.raw_error(track_id).exists():
        record = store.read_json(store.raw_error(track_id))
        # A track that was too long for the old limits may fit the new ones.
        if record.get("limits", _limits(config)) == _limits(config):
            raise TrackError(str(record["reason"]))
    return None


def _limits(config: DownloadConfig) -> dict[str, Any]:
    """Returns the limits of the config that can refuse a track."""
    values = to_dict(config)
    return {
        k: values[k] for k in ("min_duration_s", "max_duration_s", "max_bytes", "timeout_s", "allow_private")
    }


def _metadata(store: Store, record: dict[str, Any]) -> dict[str, Any]:
    return {k: record[k] for k in _REPORTED if k in record} | {
        "uri": store.uri(store.raw_wav(record["track_id"]))
    }


def _fetch_track(
    track_id: str, tracks: Mapping[str, Track], store: Store, config: DownloadConfig
) -> dict[str, Any]:
    if track_id not in tracks:
        raise InputError(f"track_id must be one of the {len(tracks)} of the catalogue, got {track_id[:200]!r}")
    present = _present(store, track_id, config)
    if present is not None:
        return present
    with store.lock_for(store.raw_wav(track_id)):
        present = _present(store, track_id, config)
        if present is not None:
            return present
        if track_id in catalogue.forgotten(store):
            raise InputError(f"track_id must be in the catalogue, got {track_id!r}, which was forgotten")
        try:
            with store.scratch(kinds.TRACK_SCRATCH, track_id=track_id) as folder:
                metadata = _download_and_decode(tracks[track_id], store, config, folder)
        except TrackError as error:
            when = datetime.now(UTC).isoformat(timespec="seconds")
            record = {"track_id": track_id, "url": tracks[track_id].url, "reason": str(error), "when": when}
            record |= {"limits": _limits(config)}
            store.write_json(store.raw_error(track_id), record)
            raise
        store.raw_error(track_id).unlink(missing_ok=True)
        return metadata


def _download_and_decode(track: Track, store: Store, config: DownloadConfig, scratch: Path) -> dict[str, Any]:
    if track.url.startswith("file:"):
        original, info = _own_file(track, config), {}
    else:
        info = _download(track, config, scratch)
        original = scratch / info["file"]
    raw, log = decode(original, scratch, config)
    with store.writing(store.raw_wav(track.track_id)) as wav:
        frames, measured = _write_wav(raw, wav, config)
        sha256, size = sha256_of(wav), wav.stat().st_size
    codec = re.search(r"Stream #0[^\n]*?: Audio: (\w+)", log)
    record = {
        "track_id": track.track_id,
        "url": track.url,
        "title": track.title or info.get("title", ""),
        "uploader": track.uploader or info.get("uploader", ""),
        "licence": track.licence or info.get("licence", ""),
        "rights": track.rights,
        "tags": list(track.tags),
        "duration_s": frames / config.sample_rate,
        "sha256": sha256,
        "bytes": size,
        "sample_rate": config.sample_rate,
        "channels": CHANNELS,
        **measured,
        "problems": [*ffmpeg.problems(log, frames / config.sample_rate), *_sample_problems(measured, frames)],
        "yt_dlp_version": version("yt-dlp"),
        "fetched_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "source_id": track.source_id,
        "original": {
            "ext": info.get("ext") or original.suffix.lstrip("."),
            "codec": codec[1] if codec else "unknown",
        },
    }
    store.write_json(store.raw_json(track.track_id), record)
    return _metadata(store, record)


def _own_file(track: Track, config: DownloadConfig) -> Path:
    path = catalogue.local_path(track.url)
    # The catalogue holds resolved paths: if one resolves elsewhere, a link has replaced the file.
    if not path.is_file() or path.resolve() != path:
        raise TransientError(f"{path} no longer exists, or is a link now")
    if not 0 < path.stat().st_size <= config.max_bytes:
        raise TrackError(f"{path.name} must have 1 to {config.max_bytes} bytes, got {path.stat().st_size}")
    return path


def _download(track: Track, config: DownloadConfig, scratch: Path) -> dict[str, Any]:
    job = {
        "task": "download",
        "url": track.url,
        "max_bytes": config.max_bytes,
        "min_duration_s": config.min_duration_s,
        "max_duration_s": config.max_duration_s,
        "allow_private": config.allow_private,
    }
    # More than max_bytes, so that the progress hook acts first and names the reason.
    limits = net.Limits(config.timeout_s, file_bytes=config.max_bytes + (16 << 20))
    for attempt in range(1, config.attempts + 1):
        _wait_for_turn(config.pause_s)
        folder = scratch / f"attempt-{attempt}"
        folder.mkdir()
        try:
            info = net.ask_child(job, limits, folder)
            return info | {"file": f"{folder.name}/{info['file']}"}
        except TransientError as error:
            shutil.rmtree(folder)
            if attempt == config.attempts:
                raise TransientError(f"{error} ({attempt} attempts)") from error
            time.sleep(min(60.0, _BACKOFF_S * 2 ** (attempt - 1)))
    raise AssertionError("unreachable: attempts is at least 1")


def _write_wav(raw: Path, wav: Path, config: DownloadConfig) -> tuple[int, dict[str, Any]]:
    frames = raw.stat().st_size // (4 * CHANNELS)
    # Rounded down, so that a duration just below the minimum does not read like the minimum.
    duration_s = math.floor(100 * frames / config.sample_rate) / 100
    if not config.min_duration_s <= frames / config.sample_rate <= config.max_duration_s:
        allowed = f"{config.min_duration_s:g} to {config.max_duration_s:g} s"
        raise TrackError(f"it must last {allowed}, got {duration_s:.2f} s")
    peak, clipped, not_finite = 0.0, 0, 0
    with (
        raw.open("rb") as source,
        audio.system_errors(wav),
        soundfile.SoundFile(wav, "w", config.sample_rate, CHANNELS, subtype="PCM_16", format="WAV") as sink,
    ):
        while (block := np.fromfile(source, dtype="<f4", count=_BLOCK_FRAMES * CHANNELS)).size:
            finite = np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0).reshape(-1, CHANNELS)
            # Scaled by 32768, as decoders do, so that 16-bit audio stays bit-exact.
            values = np.rint(finite * 32768.0)
            samples = np.clip(values, -32768, 32767).astype(np.int16)
            peak = max(peak, float(np.abs(samples.astype(np.int32)).max()) / 32768.0)
            not_finite += int(np.count_nonzero(~np.isfinite(block)))
            clipped += int(np.count_nonzero(np.abs(values) > 32768))
            sink.write(samples)
    # libsndfile reports no error of the last write, which completes the header.
    try:
        written = soundfile.info(wav).frames
    except soundfile.LibsndfileError:
        written = 0
    if written != frames:
        raise OSError(errno.EIO, "the file cannot be written", str(wav))
    level = audio.peak_db(np.array([[peak]], dtype=np.float32))
    return frames, {"peak_db": level, "clipped_samples": clipped, "not_finite_samples": not_finite}


def _sample_problems(measured: dict[str, Any], frames: int) -> list[str]:
    bad, clipped = measured["not_finite_samples"], measured["clipped_samples"]
    found = [f"{bad} samples were not finite (NaN, infinite) and are replaced by silence"] if bad else []
    # Lossy formats overshoot a little at every peak of a loud record.
    if clipped > _CLIPPED_FRACTION * frames * CHANNELS:
        found.append(f"{clipped} samples were beyond full scale and are clipped")
    return found
