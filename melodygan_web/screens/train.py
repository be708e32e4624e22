"""Train: what is stale and why, starting and stopping a pipeline's job, curves and sound of trainings."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from melodygan_core.config import Config, require
from melodygan_core.errors import MelodyGANError
from melodygan_core.services.freshness import AssetState, pipeline_states
from melodygan_core.services.training_sound import HeardStep, heard_steps
from melodygan_web.actions import action
from melodygan_web.dagster_runs import Ask
from melodygan_web.playable import Playable, of_training
from melodygan_web.screens import Screen
from melodygan_web.studio import Studio, studio_of
from melodygan_web.templating import render
from melodygan_web.trainings import curves, figures, runs

# Sounds of a training that are shown: the first, the last, and some between them.
_HEARD = 5


@dataclass(frozen=True)
class AssetView:
    """An asset as the page shows it.

    Attributes:
        state: Whether it is there, and why it is made anew.
        is_running: Whether a run makes it now.
        left: How long its training still takes; None where it does not run.
        plots: Curves of its training.
        heard: What it made at validations, with the steps.
        is_live: Whether the curves are of a training that runs.
    """

    state: AssetState
    is_running: bool = False
    left: figures.Left | None = None
    plots: list[curves.Plot] = field(default_factory=list)
    heard: list[tuple[HeardStep, Playable]] = field(default_factory=list)
    is_live: bool = False


@dataclass(frozen=True)
class PipelineView:
    """A pipeline as the page shows it.

    Attributes:
        name: Of the pipeline.
        is_deployed: Whether this deployment trains it, so that it has a job.
        assets: In the order in which they are made.
        run: The run that makes some of them now; None for none.
        last_status: Dagster's status of the last run of its job; empty where there was none.
    """

    name: str
    is_deployed: bool
    assets: list[AssetView]
    run: runs.TrainingRun | None = None
    last_status: str = ""

    @property
    def stale(self) -> list[AssetState]:
        """Assets that are missing or stale."""
        return [view.state for view in self.assets if view.state.status != "made"]

    @property
    def is_resumable(self) -> bool:
        """Whether an interrupted training goes on where it stopped."""
        return any(state.is_resumable for state in self.stale)

    @property
    def sentence(self) -> str:
        """What there is to do, in one plain sentence."""
        stale, total = self.stale, len(self.assets)
        if self.run is not None:
            titles = {view.state.asset.name: view.state.asset.title for view in self.assets}
            now = titles.get(self.run.running, "")
            return f"{self.run.label}: {now} is being made." if now else f"{self.run.label}."
        if not stale:
            return "Everything is up to date."
        if all(state.made is None for state in stale) and len(stale) == total:
            return "Nothing of it has been made yet."
        missing = sum(state.made is None for state in stale)
        parts = [f"{missing} missing"] if missing else []
        parts += [f"{len(stale) - missing} not up to date"] if len(stale) > missing else []
        return f"Of {total} steps, {' and '.join(parts)}."


def page(request: Request) -> Response:
    """All pipelines, and one of them in full."""
    return render(request, "train.html", **_values(request))


def state(request: Request) -> Response:
    """The part of the page that changes while a training runs, which the page asks for every few seconds."""
    return render(request, "_train_pipeline.html", **_values(request))


def _values(request: Request) -> dict[str, Any]:
    studio = studio_of(request)
    if studio.config is None:
        return {"pipelines": [], "chosen": None, "problem": "", "offered": []}
    config = studio.config
    names = [*config.train, *(name for name in config.pipelines if name not in config.train)]
    chosen = request.query_params.get("pipeline", "")
    chosen = chosen if chosen in names else names[0]
    view, problem = _pipeline(studio, config, chosen)
    return {"pipelines": names, "deployed": config.train, "chosen": view, "problem": problem}


def _pipeline(studio: Studio, config: Config, name: str) -> tuple[PipelineView, str]:
    """A pipeline, and one sentence where Dagster does not answer."""
    states, deployed = pipeline_states(studio.store, config, name), name in config.train
    run, last, problem = None, "", ""
    ask = studio.dagster.ask if studio.dagster is not None else None
    observed: dict[str, list[figures.Validation]] = {}
    if ask is not None and deployed:
        try:
            active = runs.active_runs(ask, [state.asset.name for state in states])
            run = next((r for r in active if r.running), active[0] if active else None)
            last = runs.last_status(ask, name)
            observed = _observed(ask, states, run)
        except MelodyGANError as error:
            problem = str(error)
    views = [_asset(studio, state, run, observed.get(state.asset.name)) for state in states]
    return PipelineView(name, deployed, views, run, last), problem


def _observed(
    ask: Ask, states: list[AssetState], run: runs.TrainingRun | None
) -> dict[str, list[figures.Validation]]:
    """Validations of trainings that run or were interrupted; those of finished models are in their records."""
    wanted = [
        s.asset.name
        for s in states
        if s.asset.is_training and (s.made is None or s.is_resumable or (run and run.running == s.asset.name))
    ]
    return {name: figures.observed(ask, name) for name in wanted}


def _asset(
    studio: Studio,
    state: AssetState,
    run: runs.TrainingRun | None,
    observed: list[figures.Validation] | None,
) -> AssetView:
    if not state.asset.is_training:
        return AssetView(state, run is not None and run.running == state.asset.name)
    running = run is not None and run.running == state.asset.name
    history = figures.recorded(state.made.metrics.get("history")) if state.made else []
    # Right after its start, the last observations are those of the training before.
    of_this_run = [
        v for v in observed or [] if not running or run is None or v.run == run.id or state.is_resumable
    ]
    drawn = of_this_run if running or not history else history
    left = figures.time_left(of_this_run, state.asset.max_steps, time.time()) if running else None
    heard = [(step, of_training(studio, step)) for step in _some(heard_steps(studio.store, state.asset.name))]
    return AssetView(state, running, left, curves.plots(drawn), heard, running)


def _some(heard: list[HeardStep]) -> list[HeardStep]:
    """The first and the last, and others evenly between them."""
    if len(heard) <= _HEARD:
        return heard
    return [heard[round(k * (len(heard) - 1) / (_HEARD - 1))] for k in range(_HEARD)]


def _pipeline_of(request: Request, studio: Studio) -> tuple[str, Ask]:
    """The pipeline of a request's path, and what asks Dagster.

    Raises:
        HTTPException: there is no Dagster.
        InputError: no pipeline that this deployment trains.
    """
    if studio.dagster is None or studio.config is None:
        raise HTTPException(404, "There is no Dagster beside this studio, so that nothing can be trained here.")
    name = request.path_params["pipeline"]
    allowed = f"one that this deployment trains: {', '.join(studio.config.train)}"
    require(name in studio.config.train, "pipeline", name, allowed)
    return name, studio.dagster.ask


@action
def start(request: Request, data: dict[str, Any]) -> dict[str, Any]:
    """Starts the job of a pipeline; an interrupted training goes on where it stopped."""
    studio = studio_of(request)
    name, ask = _pipeline_of(request, studio)
    assert studio.config is not None, "there is a pipeline"
    assets = [s.asset.name for s in pipeline_states(studio.store, studio.config, name)]
    active = runs.active_runs(ask, assets)
    require(not active, "pipeline", name, "one of which nothing is being made: stop the run first")
    return {"run": runs.start(ask, name)}


@action
def stop(request: Request, data: dict[str, Any]) -> dict[str, Any]:
    """Asks Dagster to end the run that makes something of a pipeline; trainings keep their last checkpoint."""
    studio = studio_of(request)
    name, ask = _pipeline_of(request, studio)
    assert studio.config is not None and studio.dagster is not None, "there is a pipeline"
    assets = [s.asset.name for s in pipeline_states(studio.store, studio.config, name)]
    active = runs.active_runs(ask, assets)
    require(bool(active), "pipeline", name, "one of which something is being made")
    for run in active:
        studio.dagster.stop(run.id)
    return {"stopping": [run.id for run in active]}


SCREEN = Screen(
    "train",
    "Train",
    5,
    [
        Route("/train", page),
        Route("/train/state", state),
        Route("/train/{pipeline:str}/start", start, methods=["POST"]),
        Route("/train/{pipeline:str}/stop", stop, methods=["POST"]),
    ],
)
