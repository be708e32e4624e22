"""Tracks of a store and what the stages have made of each: sound, stems, features, or the reason why not.

A page names a sound of a track by an id, never by a path: ids are looked up in this list.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from melodygan_core import catalogue
from melodygan_core.catalogue import Track
from melodygan_core.errors import MelodyGANError
from melodygan_core.storage import Store
from melodygan_core.storage.kinds import FEATURES, RAW_ERROR, RAW_JSON, RAW_WAV, STEMS, Parsed, parse
from melodygan_core.storage.listing import Stat, store_files

# Files of the store are listed at most once in this many seconds.
FRESH_S = 2.0
STATES = ("failed", "waiting", "fetched", "separated", "ready")


@dataclass(frozen=True)
class LibrarySound:
    """A sound of a track.

    Attributes:
        id: What a page names it by; another content has another id.
        uri: Of the wav, relative to the store's root.
        note_uri: Of the JSON that the stage wrote beside it.
        track_id: Its track.
        part: `track`, or the name of a stem.
        title: Of the track, with the name of the stem.
    """

    id: str
    uri: str
    note_uri: str
    track_id: str
    part: str
    title: str


@dataclass(frozen=True)
class LibraryTrack:
    """A track and what there is of it.

    Attributes:
        track: Its row of the catalogue.
        wav: Its sound; None before it is fetched.
        stems: Of the separation that was made last.
        has_features: Whether its features were extracted.
        has_failed: Whether it failed for good, so that it is not fetched again by itself.
    """

    track: Track
    wav: LibrarySound | None = None
    stems: tuple[LibrarySound, ...] = ()
    has_features: bool = False
    has_failed: bool = False

    @property
    def id(self) -> str:
        """The track_id."""
        return self.track.track_id

    @property
    def title(self) -> str:
        """For people: the last part of the URL where the title is unknown."""
        return self.track.title or self.track.url.rstrip("/").rpartition("/")[2] or self.track.url

    @property
    def state(self) -> str:
        """One of STATES."""
        if self.wav is None:
            return "failed" if self.has_failed else "waiting"
        if self.has_features:
            return "ready"
        return "separated" if self.stems else "fetched"


@dataclass(frozen=True)
class Problem:
    """A track that a stage could not process.

    Attributes:
        track_id: The track.
        title: For people.
        stage: `raw_wav`, `stems` or `features`.
        reason: One sentence.
        for_good: Whether it is tried again only when somebody asks for it.
    """

    track_id: str
    title: str
    stage: str
    reason: str
    for_good: bool


@dataclass
class _Files:
    """Files of one track."""

    wav: tuple[str, Stat] | None = None
    note: bool = False
    error: bool = False
    stems: dict[str, dict[str, Stat]] = field(default_factory=dict)
    features: bool = False


class LibraryIndex:
    """All tracks, read again when files came or went; safe to use from several threads.

    Args:
        store: Whose tracks are listed.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._tracks: dict[str, LibraryTrack] = {}
        self._sounds: dict[str, LibrarySound] = {}
        self._facts: dict[str, tuple[float, float | None]] = {}
        self._read_at = float("-inf")

    def tracks(self) -> list[LibraryTrack]:
        """Every track, the newest first."""
        return list(self._fresh().values())[::-1]

    def get(self, track_id: str) -> LibraryTrack | None:
        """The track of a track_id, or None."""
        return self._fresh().get(track_id)

    def sound(self, sound_id: str) -> LibrarySound | None:
        """The sound of an id, or None."""
        self._fresh()
        return self._sounds.get(sound_id)

    def facts(self, sound: LibrarySound) -> tuple[float, float | None]:
        """Length in seconds, and loudness in LUFS where its stage measured it.

        Raises:
            DamagedError: the JSON beside the sound is damaged.
        """
        found = self._facts.get(sound.id)
        if found is None:
            note = self._store.read_json(self._store.at(sound.note_uri))
            loudness = note.get("stems", {}).get(sound.part, {}).get("loudness_lufs")
            found = float(note.get("duration_s", 0.0)), None if loudness is None else float(loudness)
            self._facts[sound.id] = found
        return found

    def note(self, track: LibraryTrack) -> dict[str, Any]:
        """What the download recorded of a track: format, problems, hashes; empty before it is fetched."""
        if track.wav is None:
            return {}
        return self._store.read_json(self._store.at(track.wav.note_uri))

    def failed_for_good(self) -> Iterator[Problem]:
        """Tracks that are not fetched again by themselves, with the reason."""
        for track in self.tracks():
            if track.state != "failed":
                continue
            try:
                record = self._store.read_json(self._store.raw_error(track.id))
            except (MelodyGANError, FileNotFoundError):
                continue  # Damaged, or tried again just now.
            yield Problem(track.id, track.title, "raw_wav", str(record.get("reason", "")), True)

    def refresh(self) -> None:
        """Has the next call list the files again, because something was just changed."""
        with self._lock:
            self._read_at = float("-inf")

    def _fresh(self) -> dict[str, LibraryTrack]:
        with self._lock:
            if time.monotonic() - self._read_at > FRESH_S:
                self._read()
                self._read_at = time.monotonic()
            return self._tracks

    def _read(self) -> None:
        files = _files_by_track(store_files(self._store, (RAW_WAV.top, STEMS.top, FEATURES.top)))
        tracks = [_track(row, files.get(row.track_id, _Files())) for row in catalogue.load(self._store)]
        self._tracks = {track.id: track for track in tracks}
        sounds = [sound for track in tracks for sound in (track.wav, *track.stems) if sound is not None]
        self._sounds = {sound.id: sound for sound in sounds}


def _files_by_track(files: Mapping[str, Stat]) -> dict[str, _Files]:
    found: dict[str, _Files] = {}
    for uri, stat in files.items():
        parsed = parse(uri)
        if not parsed.temporary and parsed.track_id:
            _add(found.setdefault(parsed.track_id, _Files()), uri, stat, parsed)
    return found


def _add(files: _Files, uri: str, stat: Stat, parsed: Parsed) -> None:
    if parsed.kind is RAW_WAV:
        files.wav = uri, stat
    elif parsed.kind is RAW_JSON:
        files.note = True
    elif parsed.kind is RAW_ERROR:
        files.error = True
    elif parsed.kind is STEMS:
        files.stems.setdefault(parsed.uri, {})[parsed.inside] = stat
    elif parsed.kind is FEATURES:
        files.features = True


def _track(row: Track, files: _Files) -> LibraryTrack:
    track = LibraryTrack(row)
    wav = None
    # The note is written last.
    if files.wav is not None and files.note:
        note = RAW_JSON.uri(track_id=row.track_id)
        wav = _sound(files.wav[0], files.wav[1], note, row.track_id, "track", track.title)
    complete = {uri: inside for uri, inside in files.stems.items() if STEMS.marker in inside}
    last = max(complete, key=lambda uri: complete[uri][STEMS.marker].modified, default="")
    stems = tuple(
        _sound(f"{last}/{name}", stat, f"{last}/{STEMS.marker}", row.track_id, part, f"{track.title}, {part}")
        for name, stat in sorted(complete.get(last, {}).items(), reverse=True)
        if (part := name.removesuffix(".wav")) != name
    )
    return LibraryTrack(row, wav, stems, files.features, files.error)


def _sound(uri: str, stat: Stat, note_uri: str, track_id: str, part: str, title: str) -> LibrarySound:
    digest = hashlib.sha256(f"{uri} {stat.bytes} {stat.modified}".encode()).hexdigest()
    return LibrarySound(f"t{digest[:20]}", uri, note_uri, track_id, part, title)
