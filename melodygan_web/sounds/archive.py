"""A zip file of sounds, each with its provenance beside it."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

from melodygan_core.errors import InputError
from melodygan_core.storage import Store
from melodygan_web.sounds.listing import Sound

MAX_SOUNDS = 200


def write_archive(store: Store, sounds: Sequence[Sound], path: Path) -> None:
    """Writes the zip; sounds of other folders get other names.

    Args:
        store: That the sounds are in.
        sounds: At most MAX_SOUNDS.
        path: Local file to write.

    Raises:
        InputError: none, or too many.
    """
    if not 1 <= len(sounds) <= MAX_SOUNDS:
        raise InputError(f"ids must be 1 to {MAX_SOUNDS} sounds, got {len(sounds)}")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for sound in sounds:
            name = archive_name(sound)
            archive.writestr(f"{name}.wav", store.at(sound.uri).read_bytes())
            archive.writestr(f"{name}.json", store.at(sound.provenance_uri).read_bytes())


def archive_name(sound: Sound) -> str:
    """Name of a sound in an archive: pipeline, file and id, without suffix."""
    stem = sound.uri.rpartition("/")[2].removesuffix(".wav")
    return "-".join(part for part in (sound.pipeline, stem, sound.id[:6]) if part)
