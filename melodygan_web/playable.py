"""Every sound that a page may play or start from, by its id: made ones, uploads, tracks, stems, trainings."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache

import soundfile

from melodygan_core import audio
from melodygan_core.config import require
from melodygan_core.services.freshness import planned_assets
from melodygan_core.services.training_sound import HeardStep, heard_steps
from melodygan_core.storage import Store
from melodygan_web.library import LibrarySound
from melodygan_web.sounds.uploads import Upload, find_upload
from melodygan_web.studio import Studio

_HEARD_ID = re.compile("t[0-9a-f]{16}")


@dataclass(frozen=True)
class Playable:
    """A sound of the store.

    Attributes:
        id: What a page names it by.
        uri: Of the file, relative to the store's root.
        title: For people.
        duration_s: Length.
        loudness_lufs: Integrated loudness; None where it was not measured.
    """

    id: str
    uri: str
    title: str
    duration_s: float
    loudness_lufs: float | None


def find_playable(studio: Studio, sound_id: str) -> Playable | None:
    """The sound of an id, or None."""
    made = studio.sounds.get(sound_id)
    if made is not None:
        return Playable(made.id, made.uri, made.title, made.duration_s, made.loudness_lufs)
    of_track = studio.library.sound(sound_id)
    if of_track is not None:
        return of_library(studio, of_track)
    upload = find_upload(studio.store, sound_id)
    return _find_heard(studio, sound_id) if upload is None else of_upload(upload)


def of_upload(upload: Upload) -> Playable:
    """An uploaded file as a sound."""
    return Playable(upload.id, upload.uri, upload.name, upload.duration_s, upload.loudness_lufs)


def of_library(studio: Studio, sound: LibrarySound) -> Playable:
    """A track's sound, or one of its stems."""
    length_s, loudness = studio.library.facts(sound)
    return Playable(sound.id, sound.uri, sound.title, length_s, loudness)


def with_loudness(studio: Studio, sound: Playable) -> Playable:
    """A sound with its loudness, measured where that was not done yet.

    Raises:
        TrackError: it is no readable sound.
        FileNotFoundError: it is gone.
    """
    if sound.loudness_lufs is not None:
        return sound
    return replace(sound, loudness_lufs=_loudness(studio.store, sound.uri, sound.id))


@lru_cache(maxsize=1000)
def _loudness(store: Store, uri: str, sound_id: str) -> float:
    """Of one content, because another one has another id."""
    with store.reading(store.at(uri)) as path:
        wav, sample_rate = audio.read_wav(path)
    return round(audio.loudness_lufs(wav, sample_rate), 2)


def of_training(studio: Studio, heard: HeardStep) -> Playable:
    """The sound of a validation; its length is read from the file's head."""
    path = studio.store.locate(heard.uri).path
    info = soundfile.info(path)
    return Playable(heard.id, heard.uri, f"Step {heard.step}", info.frames / info.samplerate, None)


def _find_heard(studio: Studio, sound_id: str) -> Playable | None:
    if not _HEARD_ID.fullmatch(sound_id) or studio.config is None:
        return None
    assets = {a.name for name in studio.config.pipelines for a in planned_assets(studio.config, name)}
    heard = (step for asset in sorted(assets) for step in heard_steps(studio.store, asset))
    found = next((step for step in heard if step.id == sound_id), None)
    return None if found is None else of_training(studio, found)


def require_playable(studio: Studio, sound_id: str, name: str) -> Playable:
    """The sound of an id.

    Args:
        studio: Whose sounds are looked up.
        sound_id: As a page sent it.
        name: Of the field that it was sent in.

    Raises:
        InputError: there is none.
    """
    found = find_playable(studio, sound_id)
    if found is None:
        require(False, name, sound_id, "the id of a sound of this store")
        raise AssertionError("unreachable")
    return found
