"""Sounds that somebody uploads: received with a byte limit, and decoded in a child with limits."""

from __future__ import annotations

import re
import secrets
import tempfile
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath

import numpy as np
from starlette.concurrency import run_in_threadpool

from melodygan_core import audio
from melodygan_core.catalogue.tracks import slug
from melodygan_core.config import DownloadConfig
from melodygan_core.errors import InputError, TrackError
from melodygan_core.sandbox import decoder
from melodygan_core.storage import Store, dump_json
from melodygan_core.storage.kinds import UPLOAD
from melodygan_core.text import plain_text

MIN_S, MAX_S = 0.5, 1200.0
MAX_BYTES = 256 * 1024 * 1024
_NOTE = "upload.json"
_ID = re.compile(r"u[0-9a-f]{20}")
_SUFFIX = re.compile(r"\.[a-z0-9]{1,5}")


@dataclass(frozen=True)
class Upload:
    """An uploaded file.

    Attributes:
        id: What a page names it by.
        name: Name of the file as the browser gave it: text for people, never a path.
        file: Name of the wav in its folder of the store.
        duration_s: Length.
        loudness_lufs: Integrated loudness.
    """

    id: str
    name: str
    file: str
    duration_s: float
    loudness_lufs: float

    @property
    def uri(self) -> str:
        """Of the wav, relative to the store's root."""
        return f"{UPLOAD.uri(upload_id=self.id)}/{self.file}"


def find_upload(store: Store, upload_id: str) -> Upload | None:
    """The upload of an id, or None."""
    if not _ID.fullmatch(upload_id):
        return None
    note = store.path(UPLOAD, upload_id=upload_id) / _NOTE
    return Upload(**store.read_json(note)) if note.exists() else None


async def save_upload(store: Store, body: AsyncIterator[bytes], name: str, max_bytes: int) -> Upload:
    """Writes a request's body while it arrives, and stores the sound in it as a wav of two channels.

    Args:
        store: Where it goes, into a folder of its own.
        body: Parts of a sound or video file.
        name: As the browser gave it.
        max_bytes: More is refused as soon as it arrives.

    Raises:
        InputError: more bytes or none, no sound in them, shorter than half a second or longer than 20 minutes.
    """
    with tempfile.TemporaryDirectory(prefix="melodygan-") as scratch:
        received = Path(scratch) / f"received{_suffix(name)}"
        await _receive(received, body, max_bytes)
        return await run_in_threadpool(_store, store, received, plain_text(name, 200) or "sound")


def _suffix(name: str) -> str:
    """The suffix of a file's name, from which the decoder infers a format; empty for an unusual one."""
    suffix = PurePath(name).suffix.lower()
    return suffix if _SUFFIX.fullmatch(suffix) else ""


async def _receive(path: Path, body: AsyncIterator[bytes], max_bytes: int) -> None:
    size = 0
    with path.open("wb") as file:
        async for part in body:
            size += len(part)
            if size > max_bytes:
                raise InputError(f"file must have at most {max_bytes} bytes, got more")
            await run_in_threadpool(file.write, part)
    if size == 0:
        raise InputError("file must have at least one byte, got none")


def _store(store: Store, received: Path, name: str) -> Upload:
    config = DownloadConfig(max_duration_s=MAX_S)
    try:
        # In a child with limits: the file may come from a stranger.
        raw, _ = decoder.decode(received, received.parent, config)
    except TrackError as error:
        raise InputError(f"{name}: {error}") from error
    wav = np.nan_to_num(np.fromfile(raw, dtype="<f4").reshape(-1, decoder.CHANNELS).T)
    length_s = wav.shape[1] / config.sample_rate
    if not MIN_S <= length_s <= MAX_S:
        raise InputError(f"the length of {name} must be {MIN_S:g} to {MAX_S:g} s, got {length_s:.2f} s")
    file = f"{slug(PurePath(name).stem, 60) or 'sound'}.wav"
    loudness = round(audio.loudness_lufs(wav, config.sample_rate), 2)
    upload = Upload(f"u{secrets.token_hex(10)}", name, file, round(length_s, 3), loudness)
    with store.writing_folder(store.path(UPLOAD, upload_id=upload.id)) as folder:
        audio.write_wav(folder / file, wav, config.sample_rate)
        dump_json(folder / _NOTE, asdict(upload))
    return upload
