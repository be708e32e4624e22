"""Everything that was made in a store: generated samples, results of Dagster's jobs and of the studio.

A page names a sound by an id, never by a path: ids are looked up in this list.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG
from typing import Any

from melodygan_core.errors import MelodyGANError
from melodygan_core.storage import ARTIFACT_FILE, Store
from melodygan_core.storage.kinds import SAMPLES, USE, parse
from melodygan_core.storage.listing import Stat, store_files
from melodygan_web.sounds.views import prune_views

# Files of the store are listed at most once in this many seconds.
FRESH_S = 1.0
_SUFFIX = ".wav"
# Titles of sounds that a seed tells from others of the same kind.
_TITLES = {
    "generate": "Seed {seed}",
    "variations": "Variation {seed}",
    "continue": "Continuation {seed}",
    "inpaint": "New part {seed}",
    "loop": "Loop {seed}",
}


def sound_id(uri: str) -> str:
    """The id of a sound: 16 hexadecimal digits of a hash of its URI in the store."""
    return hashlib.sha256(uri.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Sound:
    """A sound of the store and how it was made.

    Attributes:
        uri: Of the wav, relative to the store's root.
        service: What made it: `generate`, `continue`, `transfer`, ...
        pipeline: Of the release that made it; empty where its provenance does not say.
        release: Version of that release; empty for `generated_samples`, which come before a release.
        made_at: In seconds since 1970.
        duration_s: Length.
        loudness_lufs: Integrated loudness.
        seed: As it was asked for; None where nothing is random.
        index: Which sound of the seed.
        condition: Stem or tag that it was made for; empty for none.
        settings: The request, as plain JSON.
        inputs: Names of the files that it was made from.
        figures: What the service measured of it.
        job_id: Job of the studio that made it; empty for others.
    """

    uri: str
    service: str
    pipeline: str
    release: str
    made_at: float
    duration_s: float
    loudness_lufs: float
    seed: int | None = None
    index: int = 0
    condition: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    figures: dict[str, float] = field(default_factory=dict)
    job_id: str = ""

    @property
    def id(self) -> str:
        """What a page names it by."""
        return sound_id(self.uri)

    @property
    def provenance_uri(self) -> str:
        """Of the JSON file beside it, which says how it was made."""
        return self.uri.removesuffix(_SUFFIX) + ".json"

    @property
    def title(self) -> str:
        """A short name for people: what it is and its seed, or the name of its file where nothing is random."""
        name = self.uri.rpartition("/")[2].removesuffix(_SUFFIX)
        if self.seed is None or self.service not in _TITLES:
            return name.replace("-", " ")
        number = f" · {self.index + 1}" if self.index else ""
        return _TITLES[self.service].format(seed=self.seed) + number


class SoundIndex:
    """The list of sounds, read again when files came or went; safe to use from several threads.

    Args:
        store: Whose sounds are listed.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._folders: dict[tuple[str, float], list[Sound]] = {}
        self._sounds: dict[str, Sound] = {}
        self._read_at = float("-inf")

    def all(self) -> list[Sound]:
        """Every sound, the newest first."""
        return list(self._fresh().values())

    def get(self, sound: str) -> Sound | None:
        """The sound of an id, or None."""
        return self._fresh().get(sound)

    def refresh(self) -> None:
        """Has the next call list the files again, because something was just made."""
        with self._lock:
            self._read_at = float("-inf")

    def _fresh(self) -> dict[str, Sound]:
        with self._lock:
            if time.monotonic() - self._read_at > FRESH_S:
                self._read()
                self._read_at = time.monotonic()
            return self._sounds

    def _read(self) -> None:
        found: dict[tuple[str, float], list[Sound]] = {}
        for folder, files in _folders(self._store).items():
            marker = ARTIFACT_FILE if f"{folder}/{ARTIFACT_FILE}" in files else USE.marker
            stat = files.get(f"{folder}/{marker}")
            if stat is None:
                continue  # Incomplete.
            # A finished folder never changes, but for what the erasure of a track removes from it.
            key = (folder, stat.modified + len(files))
            found[key] = self._folders.get(key) or list(_sounds(self._store, folder, files, stat.modified))
        ordered = sorted((s for sounds in found.values() for s in sounds), key=_newest_first)
        sounds = {sound.id: sound for sound in ordered}
        if self._folders.keys() != found.keys():
            prune_views(self._store, sounds.keys())
        self._folders, self._sounds = found, sounds


def _newest_first(sound: Sound) -> tuple[float, str]:
    return -sound.made_at, sound.uri


def _folders(store: Store) -> dict[str, dict[str, Stat]]:
    """Files of every folder of samples or of a job's result, by the folder's URI; unfinished ones left out."""
    folders: dict[str, dict[str, Stat]] = {}
    files = _local_files(store) if store.is_local else store_files(store, (SAMPLES.top, USE.top)).items()
    for uri, stat in files:
        parts = uri.split("/")
        # Deeper files belong to sets that `augment` makes for a training, not to be heard one by one.
        if len(parts) == SAMPLES.parts + 1 and not any(part.startswith(".") for part in parts):
            folders.setdefault("/".join(parts[:-1]), {})[uri] = stat
    return folders


def _local_files(store: Store) -> Iterator[tuple[str, Stat]]:
    """Files directly in the folders: a set of `augment` may have a million files below."""
    root = Path(store.base.path)
    for kind in (SAMPLES, USE):
        for path in root.glob(f"{kind.top}/*/*/*"):
            # Another process may remove it meanwhile.
            with contextlib.suppress(FileNotFoundError):
                status = path.lstat()
                if S_ISREG(status.st_mode):
                    yield path.relative_to(root).as_posix(), Stat(status.st_size, status.st_mtime)


def _sounds(store: Store, folder: str, files: Mapping[str, Stat], made_at: float) -> Iterator[Sound]:
    parsed = parse(folder)
    names = [uri for uri in files if uri.endswith(_SUFFIX) and uri.removesuffix(_SUFFIX) + ".json" in files]
    for uri in names:
        try:
            row = store.read_json(store.at(uri.removesuffix(_SUFFIX) + ".json"))
            yield _sound(uri, parsed.fields, row, made_at)
        except (MelodyGANError, OSError, TypeError, ValueError, KeyError, AttributeError):
            # `melodygan doctor` reports damaged files; the other sounds are still listed.
            continue


def _sound(uri: str, fields: Mapping[str, str], row: dict[str, Any], made_at: float) -> Sound:
    """The sound that a provenance describes.

    Raises:
        TypeError, ValueError, KeyError, AttributeError: the provenance is damaged.
    """
    settings = dict(row.get("settings", row.get("generation", {})))
    # What the pieces were asked to play; the files among it are inputs.
    plan = {name: value for name, value in row.get("plan", {}).items() if isinstance(value, str | float | int)}
    settings |= {name: plan[name] for name in _PLANNED if name in plan}
    seed = row.get("seed", settings.get("seed"))
    figures = {k: float(v) for k, v in row.items() if isinstance(v, float) and k not in _NO_FIGURES}
    return Sound(
        uri=uri,
        service=str(row.get("service", "generate")),
        pipeline=str(row.get("pipeline", fields.get("pipeline", ""))),
        release=str(row.get("release", "")),
        made_at=made_at,
        duration_s=float(row["duration_s"]),
        loudness_lufs=float(row["loudness_lufs"]),
        seed=None if seed is None else int(seed),
        index=int(row.get("index", 0)),
        condition=str(row.get("condition", settings.get("condition", ""))),
        settings=settings,
        inputs=tuple(str(entry["file"]) for entry in row.get("inputs", [])),
        figures=figures,
        job_id=fields.get("run_id", "").rpartition("-")[0] if fields.get("run_id", "").startswith("s") else "",
    )


_PLANNED = ("chords", "key", "form", "tempo_bpm", "beats")
_NO_FIGURES = ("duration_s", "loudness_lufs", "peak_db", "made_from_s", "made_to_s")
