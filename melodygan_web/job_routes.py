"""What pages load of jobs, and how they ask for them. A job goes on when its page is closed."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from melodygan_core.config import require
from melodygan_web.actions import action, text_field
from melodygan_web.jobs import Input, Job
from melodygan_web.jobs.events import job_events, last_version
from melodygan_web.playable import require_playable
from melodygan_web.sounds import Sound, sound_id
from melodygan_web.sounds.stars import read_stars
from melodygan_web.studio import Studio, studio_of
from melodygan_web.templating import render


def sounds_of(studio: Studio, job: Job, after: int = 0) -> list[Sound]:
    """The sounds that a job made and that are still there.

    Args:
        studio: Whose sounds are looked up.
        job: The job.
        after: Leaves out that many of the first ones.
    """
    found = [studio.sounds.get(sound_id(uri)) for uri in job.made[after:]]
    return [sound for sound in found if sound is not None]


def events(request: Request) -> Response:
    """Changes of jobs as server-sent events.

    They begin after the change that `Last-Event-ID` names, or `after` in the query, which a page has of the
    moment when it was rendered.
    """
    queue = studio_of(request).jobs
    event_id = request.headers.get("last-event-id") or request.query_params.get("after", "")
    stream = job_events(queue, last_version(queue, event_id))
    return StreamingResponse(stream, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


def session(request: Request) -> Response:
    """The CSRF token of the session, for a page that is older than the server."""
    return JSONResponse({"csrf_token": request.state.csrf_token})


@action
def submit(request: Request, data: dict[str, Any]) -> dict[str, Any]:
    """Adds a job: `{"kind", "pipeline", "settings": {...}, "sounds": {field: id}}`."""
    studio = studio_of(request)
    settings, sounds = data.get("settings", {}), data.get("sounds", {})
    require(isinstance(settings, dict), "settings", settings, "a JSON object")
    require(isinstance(sounds, dict), "sounds", sounds, "a JSON object of ids")
    inputs = {}
    for name, given in sounds.items():
        require(isinstance(given, str), name, given, "the id of a sound of this store")
        found = require_playable(studio, given, name)
        inputs[name] = Input(found.id, found.uri, found.title)
    job = studio.jobs.submit(text_field(data, "kind"), text_field(data, "pipeline"), settings, inputs)
    return job.to_event()


@action
def stop(request: Request, data: dict[str, Any]) -> dict[str, Any]:
    """Stops a job; what it finished stays."""
    return studio_of(request).jobs.stop(request.path_params["job_id"]).to_event()


@action
def resume(request: Request, data: dict[str, Any]) -> dict[str, Any]:
    """Makes the sounds of a job that are missing."""
    return studio_of(request).jobs.resume(request.path_params["job_id"]).to_event()


def _job(request: Request) -> tuple[Studio, Job]:
    studio = studio_of(request)
    job = studio.jobs.get(request.path_params["job_id"])
    if job is None:
        raise HTTPException(404, "There is no such job.")
    return studio, job


def card(request: Request) -> Response:
    """A job with its sounds, as a part of a page."""
    studio, job = _job(request)
    return render(request, "_job.html", job=job, made=sounds_of(studio, job), stars=read_stars(studio.store))


def new_sounds(request: Request) -> Response:
    """The sounds of a job after the first `after`, as a part of a page."""
    studio, job = _job(request)
    after = request.query_params.get("after", "0")
    require(after.isascii() and after.isdigit() and len(after) < 9, "after", after, "a whole number")
    made = sounds_of(studio, job, int(after))
    return render(request, "_sounds.html", sounds=made, stars=read_stars(studio.store))


ROUTES = (
    Route("/events", events),
    Route("/session", session),
    Route("/jobs/submit", submit, methods=["POST"]),
    Route("/jobs/{job_id:str}/stop", stop, methods=["POST"]),
    Route("/jobs/{job_id:str}/resume", resume, methods=["POST"]),
    Route("/jobs/{job_id:str}/card", card),
    Route("/jobs/{job_id:str}/sounds", new_sounds),
)
