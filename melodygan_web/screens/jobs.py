"""Jobs: short work of the studio and Dagster's runs, with progress and a way to stop each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from melodygan_core.errors import MelodyGANError
from melodygan_web.actions import action
from melodygan_web.dagster_runs import DagsterRun
from melodygan_web.job_routes import sounds_of
from melodygan_web.jobs import Job
from melodygan_web.screens import Screen
from melodygan_web.sounds.stars import read_stars
from melodygan_web.studio import Studio, studio_of
from melodygan_web.templating import render

# Jobs whose sounds are shown on this page; the others are in Listen.
LISTED = 40


def page(request: Request) -> Response:
    """The studio's jobs and Dagster's runs in one list: those that are active first, then the newest."""
    studio = studio_of(request)
    runs, problem = _runs(studio)
    entries = [_Entry(job.is_active, job.created_at, job=job) for job in studio.jobs.all()[:LISTED]]
    entries += [_Entry(run.is_active, run.created_at, run=run) for run in runs]
    entries.sort(key=lambda entry: (entry.is_active, entry.at), reverse=True)
    made = {entry.job.id: sounds_of(studio, entry.job) for entry in entries if entry.job is not None}
    return render(
        request,
        "jobs.html",
        entries=entries,
        made_by=made,
        stars=read_stars(studio.store),
        is_working=studio.jobs.is_working,
        dagster_error=problem,
    )


@dataclass(frozen=True)
class _Entry:
    """A job or a run of the list.

    Attributes:
        is_active: Whether it waits or runs.
        at: When it was asked for.
        job: The job; None for a run.
        run: The run; None for a job.
    """

    is_active: bool
    at: float
    job: Job | None = None
    run: DagsterRun | None = None


def dagster_runs(request: Request) -> Response:
    """Dagster's runs alone, which the page asks for every few seconds."""
    studio = studio_of(request)
    if studio.dagster is None:
        raise HTTPException(404, "There is no Dagster beside this studio.")
    runs, problem = _runs(studio)
    return render(request, "_dagster_runs.html", runs=runs, dagster_error=problem)


def _runs(studio: Studio) -> tuple[list[DagsterRun], str]:
    """Dagster's last runs, and one sentence where it does not answer."""
    if studio.dagster is None:
        return [], ""
    try:
        return studio.dagster.recent(), ""
    except MelodyGANError as error:
        return [], str(error)


@action
def stop_run(request: Request, data: dict[str, Any]) -> dict[str, Any]:
    """Asks Dagster to end a run."""
    studio = studio_of(request)
    if studio.dagster is None:
        raise HTTPException(404, "There is no Dagster beside this studio.")
    studio.dagster.stop(request.path_params["run_id"])
    return {"stopping": request.path_params["run_id"]}


SCREEN = Screen(
    "jobs",
    "Jobs",
    7,
    [
        Route("/jobs", page),
        Route("/jobs/dagster", dagster_runs),
        Route("/jobs/dagster/{run_id:str}/stop", stop_run, methods=["POST"]),
    ],
)
