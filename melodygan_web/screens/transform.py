"""Transform: a sound with another timbre, through the models, between two, or varied; before and after."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from melodygan_core.errors import MelodyGANError
from melodygan_core.services.release_facts import ReleaseFacts, releases_in_use
from melodygan_web.forms import FormField, form_fields
from melodygan_web.job_routes import sounds_of
from melodygan_web.jobs import Job
from melodygan_web.playable import Playable, find_playable, with_loudness
from melodygan_web.screens import Screen
from melodygan_web.sounds import Sound
from melodygan_web.sounds.figures import in_words
from melodygan_web.sounds.stars import read_stars
from melodygan_web.studio import Studio, studio_of
from melodygan_web.templating import render
from melodygan_web.transform_modes import MODES, Mode

# What only a flow takes.
_OF_FLOW = ("style_weight", "keep_melody", "steps", "guidance", "autoguidance")
# Jobs of this screen that it lists; made sounds and tracks to choose from.
LISTED, OFFERED, OFFERED_TRACKS = 6, 60, 200


_MODES = {mode.kind: mode for mode in MODES}


@dataclass(frozen=True)
class Before:
    """A sound that a job started from.

    Attributes:
        title: What it is for, and its name.
        sound: For the player; None where it is gone.
    """

    title: str
    sound: Playable | None


@dataclass(frozen=True)
class After:
    """A sound that a job made.

    Attributes:
        sound: For the player.
        words: What was measured of it.
    """

    sound: Sound
    words: list[str]


@dataclass(frozen=True)
class Card:
    """A job with what it started from and what it made.

    Attributes:
        job: The job.
        before: In the order of the form.
        after: In the order in which they were made.
    """

    job: Job
    before: list[Before]
    after: list[After]


@dataclass(frozen=True)
class Wish:
    """What the page was opened for.

    Attributes:
        mode: What to do.
        release: Whose models do it; None where the store has no release.
        chosen: Field to sounds.
        values: Settings to begin with.
        is_again: Whether the settings are those of an earlier job, and go before remembered ones.
    """

    mode: Mode
    release: ReleaseFacts | None
    chosen: dict[str, list[Playable]]
    values: dict[str, Any]
    is_again: bool = False


def page(request: Request) -> Response:
    """The form for a mode and pipeline, and the last jobs of this screen."""
    studio = studio_of(request)
    releases = releases_in_use(studio.store)
    wish = read_wish(request.query_params, releases, studio)
    jobs = [job for job in studio.jobs.all() if job.kind in _MODES][:LISTED]
    tracks = [track for track in studio.library.tracks() if track.wav is not None]
    return render(
        request,
        "transform.html",
        wish=wish,
        mode=wish.mode,
        modes=MODES,
        releases=releases,
        main=_fields(wish, wish.mode.main),
        more=_fields(wish, wish.mode.more),
        offered=studio.sounds.all()[:OFFERED],
        tracks=[(track.wav, track.title) for track in tracks[:OFFERED_TRACKS]],
        cards=[card_of(studio, job) for job in jobs],
        stars=read_stars(studio.store),
        is_working=studio.jobs.is_working,
    )


def read_wish(query: Mapping[str, str], releases: Sequence[ReleaseFacts], studio: Studio) -> Wish:
    """What a page was opened for: `do`, `pipeline`, a sound per slot, or `again` with the id of a job or sound.

    `sound` is put into the first slot of every mode. What is not known is left out, so that an old link still
    opens the page.
    """
    again = _earlier(query.get("again", ""), studio)
    mode = _MODES[again.kind] if again else _MODES.get(query.get("do", ""), MODES[0])
    pipeline = again.pipeline if again else query.get("pipeline", "")
    release = next((r for r in releases if r.pipeline == pipeline), next(iter(releases), None))
    ids = {name: given.id for name, given in again.inputs.items()} if again else {}
    chosen: dict[str, list[Playable]] = {}
    for number, slot in enumerate(mode.slots):
        first = query.get("sound", "") if number == 0 else ""
        given = ids.get(slot.name) or query.get(slot.name) or first
        sounds = (find_playable(studio, part) for part in given.split(",")[: 20 if slot.is_multiple else 1])
        chosen[slot.name] = [sound for sound in sounds if sound is not None]
    values = dict(again.settings) if again else {"seed": secrets.randbelow(1_000_000)}
    return Wish(mode, release, chosen, values, again is not None)


def _earlier(name: str, studio: Studio) -> Job | None:
    """The job of an id, or that made the sound of an id, if it is one of this screen."""
    sound = studio.sounds.get(name)
    job = studio.jobs.get(sound.job_id if sound else name)
    return job if job is not None and job.kind in _MODES else None


def _fields(wish: Wish, names: Sequence[str]) -> list[FormField]:
    release = wish.release
    tags = release.style_tags if release else ()
    flow = release is not None and release.is_flow
    # What a release does not have is not asked for.
    wanted = [
        name
        for name in names
        if (name != "style_tag" or tags) and (name not in _OF_FLOW or flow or name in wish.mode.main)
    ]
    made = form_fields(
        wish.mode.job_kind.request, wanted, wish.values, {"style_tag": tags}, {"style_tag": "No tag"}
    )
    labels, hints = wish.mode.labels, wish.mode.hints
    return [
        replace(f, label=labels.get(f.name, f.label), description=hints.get(f.name, f.description))
        for f in made
    ]


def card_of(studio: Studio, job: Job) -> Card:
    """A job with the sounds before and after."""
    made = [After(sound, in_words(sound.figures)) for sound in sounds_of(studio, job)]
    return Card(job, list(_before(studio, job)), made)


def _before(studio: Studio, job: Job) -> Iterator[Before]:
    for slot in _MODES[job.kind].slots:
        given = job.inputs.get(slot.name)
        if given is None:
            continue
        try:
            found = find_playable(studio, given.id)
            sound = None if found is None else with_loudness(studio, found)
        except (MelodyGANError, FileNotFoundError):
            # A later run may have replaced or removed it.
            sound = None
        yield Before(f"{slot.title}: {given.title}" if len(_MODES[job.kind].slots) > 1 else given.title, sound)


def job_card(request: Request) -> Response:
    """A job of this screen, as a part of a page."""
    studio = studio_of(request)
    job = studio.jobs.get(request.path_params["job_id"])
    if job is None or job.kind not in _MODES:
        raise HTTPException(404, "There is no such job on this screen.")
    return render(request, "_transform_job.html", card=card_of(studio, job), stars=read_stars(studio.store))


def chosen(request: Request) -> Response:
    """A sound that was chosen or uploaded, as a part of a slot."""
    studio = studio_of(request)
    sound = find_playable(studio, request.path_params["sound_id"])
    if sound is None:
        raise HTTPException(404, "There is no such sound.")
    return render(request, "_transform_chosen.html", sound=with_loudness(studio, sound))


SCREEN = Screen(
    "transform",
    "Transform",
    3,
    [
        Route("/transform", page),
        Route("/transform/jobs/{job_id:str}/card", job_card),
        Route("/transform/sounds/{sound_id:str}", chosen),
    ],
)
