"""Where a sound comes from: its models, data and licences, and the training music that is nearest to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from melodygan_core.errors import MelodyGANError
from melodygan_web.job_routes import sounds_of
from melodygan_web.jobs import Job
from melodygan_web.sounds import Sound
from melodygan_web.studio import Studio, studio_of
from melodygan_web.templating import duration, render

# Name of the job that looks for it.
NEAREST = "nearest"
# Training tracks that are named at once.
_TRACKS = 200


@dataclass(frozen=True)
class Lineage:
    """Where a sound comes from.

    Attributes:
        models: Name of each checkpoint to its version.
        dataset: Version of the dataset.
        licences: Of the training tracks.
        rights: Of the training tracks.
        tracks: Training tracks: `title`, `url`, `licence`, `rights`; the first _TRACKS.
        track_count: How many there are.
        started_from: Releases whose weights the trainings began with.
    """

    models: Mapping[str, str] = field(default_factory=dict)
    dataset: str = ""
    licences: tuple[str, ...] = ()
    rights: tuple[str, ...] = ()
    tracks: tuple[Mapping[str, str], ...] = ()
    track_count: int = 0
    started_from: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """What it was learned from, in one plain sentence."""
        if not self.track_count:
            return "Its provenance names no training tracks."
        plural = "" if self.track_count == 1 else "s"
        licences = ", ".join(self.licences) or "unknown licences"
        return f"It was learned from {self.track_count} track{plural}: {licences}."


@dataclass(frozen=True)
class Nearest:
    """The training music that is nearest to a sound.

    Attributes:
        job: The search; None where nobody asked for it.
        sound: The segment of the training music; None while it is looked for, or where it is gone.
        sentence: What was found.
    """

    job: Job | None = None
    sound: Sound | None = None
    sentence: str = ""


def lineage(studio: Studio, sound: Sound) -> Lineage:
    """Where a sound comes from, as the JSON beside it says; empty where that is damaged or gone."""
    stored = _provenance(studio, sound)
    sources = _object(stored.get("sources"))
    tracks = [_texts(track) for track in _list(sources.get("tracks")) if isinstance(track, dict)]
    begun = [_texts(row) for row in _list(stored.get("started_from")) if isinstance(row, dict)]
    return Lineage(
        models=_texts(_object(stored.get("models"))),
        dataset=str(sources.get("dataset", "")),
        licences=tuple(str(text) or "unknown" for text in _list(sources.get("licences"))),
        rights=tuple(map(str, _list(sources.get("rights")))),
        tracks=tuple(tracks[:_TRACKS]),
        track_count=len(tracks),
        started_from=tuple(f"{row.get('pipeline', '')} {row.get('version', '')}" for row in begun),
    )


def _provenance(studio: Studio, sound: Sound) -> dict[str, Any]:
    """The JSON beside a sound; empty where it is damaged or gone, which `melodygan doctor` reports."""
    try:
        return _object(studio.store.read_json(studio.store.at(sound.provenance_uri)))
    except (MelodyGANError, OSError, ValueError):
        return {}


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {str(name): "" if value is None else str(value) for name, value in values.items()}


def nearest_of(studio: Studio, sound: Sound) -> Nearest:
    """What the last search for the training music that is nearest to a sound found."""
    asked = (job for job in studio.jobs.all() if job.kind == NEAREST)
    job = next((j for j in asked if any(given.id == sound.id for given in j.inputs.values())), None)
    made = sounds_of(studio, job) if job is not None else []
    if not made:
        return Nearest(job)
    return Nearest(job, made[0], _match_sentence(_provenance(studio, made[0])))


def _match_sentence(stored: Mapping[str, Any]) -> str:
    track = _texts(_object(stored.get("training_track")))
    name = track.get("title") or track.get("track_id") or "a training track"
    licence = track.get("licence") or "unknown licence"
    starts = [stored.get(key) for key in ("sound_start_s", "track_start_s")]
    here, there = (duration(value) if isinstance(value, int | float) else "?" for value in starts)
    return f"The part at {here} is nearest to “{name}” at {there} ({licence})."


def nearest_part(request: Request) -> Response:
    """The training music beside a sound, as a part of the page."""
    studio = studio_of(request)
    sound = studio.sounds.get(request.path_params["sound_id"])
    if sound is None:
        raise HTTPException(404, "There is no such sound.")
    found = nearest_of(studio, sound)
    return render(
        request, "_evaluate_nearest.html", sound=sound, nearest=found, can_search=studio.jobs.is_working
    )
