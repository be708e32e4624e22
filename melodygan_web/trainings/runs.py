"""Runs that train a pipeline, by Dagster's GraphQL API: start them, and what they are doing now."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from melodygan_core.errors import TransientError
from melodygan_web.dagster_runs import ACTIVE, Ask
from melodygan_web.dagster_tracks import launch

_LISTED = 20
_RUNS = """query StudioTrainings($limit: Int!, $statuses: [RunStatus!]) {
  runsOrError(limit: $limit, filter: {statuses: $statuses}) {
    __typename
    ... on Runs { results {
      runId jobName status startTime creationTime stepKeysToExecute
      stepStats { stepKey status startTime }
    } }
    ... on PythonError { message }
  }
}"""
_LAST = """query StudioLastTraining($job: String!) {
  runsOrError(limit: 1, filter: {pipelineName: $job}) {
    __typename
    ... on Runs { results { runId status endTime } }
    ... on PythonError { message }
  }
}"""


@dataclass(frozen=True)
class TrainingRun:
    """A run that makes assets.

    Attributes:
        id: Dagster's.
        status: Dagster's, such as `STARTED`.
        created_at: In seconds since 1970.
        started_at: Likewise; 0 before it started.
        assets: Names of the assets that it makes.
        running: Asset that it makes now; empty for none.
        running_since: In seconds since 1970; 0 for none.
    """

    id: str
    status: str
    created_at: float
    started_at: float
    assets: tuple[str, ...]
    running: str = ""
    running_since: float = 0.0

    @property
    def label(self) -> str:
        """Its status in a word."""
        words = {"STARTED": "Running", "STARTING": "Starting", "CANCELING": "Stopping"}
        return words.get(self.status, "Waiting")


def job_name(pipeline: str) -> str:
    """The job that makes everything from the dataset to the release of a pipeline."""
    return f"{pipeline}_job"


def active_runs(ask: Ask, assets: Collection[str]) -> list[TrainingRun]:
    """Runs that wait or run and make one of some assets, the newest first.

    Raises:
        TransientError: Dagster does not answer.
    """
    found = _results(ask(_RUNS, {"limit": _LISTED, "statuses": list(ACTIVE)}))
    runs = [_run(values) for values in found]
    return [run for run in runs if set(run.assets) & set(assets)]


def last_status(ask: Ask, pipeline: str) -> str:
    """Dagster's status of the last run of a pipeline's job; empty where there was none.

    Raises:
        TransientError: Dagster does not answer.
    """
    found = _results(ask(_LAST, {"job": job_name(pipeline)}))
    return str(found[0]["status"]) if found else ""


def start(ask: Ask, pipeline: str) -> str:
    """Starts the job of a pipeline; returns the id of its run. What is up to date is found, not made again.

    Raises:
        TransientError: Dagster does not answer, or refuses; its reason is in the sentence.
    """
    return launch(ask, job_name(pipeline))


def asset_of_step(step: str) -> str:
    """The asset that a step makes: Dagster joins the parts of an asset's key by two underscores."""
    return step.replace("__", "/")


def _results(answer: dict[str, Any]) -> list[dict[str, Any]]:
    found = answer["runsOrError"]
    if found["__typename"] != "Runs":
        raise TransientError(f"Dagster must list its runs, and answered {found.get('message', found)}")
    return found["results"]


def _run(values: dict[str, Any]) -> TrainingRun:
    steps = [step for step in values.get("stepStats") or [] if step.get("status") == "IN_PROGRESS"]
    # The last one that began: a run makes one after the other.
    newest = max(steps, key=lambda step: step.get("startTime") or 0.0, default=None)
    return TrainingRun(
        id=values["runId"],
        status=values["status"],
        created_at=values.get("creationTime") or 0.0,
        started_at=values.get("startTime") or 0.0,
        assets=tuple(map(asset_of_step, values.get("stepKeysToExecute") or [])),
        running=asset_of_step(newest["stepKey"]) if newest else "",
        running_since=(newest.get("startTime") or 0.0) if newest else 0.0,
    )
