"""Dagster's runs, by the GraphQL API of the same server; nothing else of the studio knows Dagster."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from melodygan_core.errors import InputError, TransientError

TIMEOUT_S = 10.0
Ask = Callable[[str, dict[str, Any]], dict[str, Any]]

ACTIVE = ("QUEUED", "NOT_STARTED", "MANAGED", "STARTING", "STARTED", "CANCELING")
_LABELS = {
    "QUEUED": "Waiting",
    "NOT_STARTED": "Waiting",
    "MANAGED": "Waiting",
    "STARTING": "Starting",
    "STARTED": "Running",
    "CANCELING": "Stopping",
    "CANCELED": "Stopped",
    "SUCCESS": "Done",
    "FAILURE": "Failed",
}
_LIST = """query StudioRuns($limit: Int!) {
  runsOrError(limit: $limit) {
    __typename
    ... on Runs { results {
      runId jobName status startTime endTime creationTime stepKeysToExecute
      assetSelection { path }
      stats { __typename ... on RunStatsSnapshot { stepsSucceeded stepsFailed } }
    } }
    ... on PythonError { message }
  }
}"""
_STOP = """mutation StudioStop($run: String!) {
  terminateRun(runId: $run) {
    __typename
    ... on TerminateRunFailure { message }
    ... on RunNotFoundError { message }
    ... on PythonError { message }
  }
}"""


@dataclass(frozen=True)
class DagsterRun:
    """One run.

    Attributes:
        id: Dagster's.
        title: The assets that it materializes, or its job.
        status: Dagster's, such as `STARTED`.
        created_at: When it was asked for, in seconds since 1970.
        started_at: Likewise; 0 before it started.
        finished_at: Likewise.
        steps: Steps in all; 0 where Dagster does not say.
        finished_steps: Steps that ended well.
    """

    id: str
    title: str
    status: str
    created_at: float = 0.0
    started_at: float = 0.0
    finished_at: float = 0.0
    steps: int = 0
    finished_steps: int = 0

    @property
    def is_active(self) -> bool:
        """Whether it waits or runs."""
        return self.status in ACTIVE

    @property
    def label(self) -> str:
        """Its status in a word, with the number of steps while it runs."""
        word = _LABELS.get(self.status, self.status.capitalize())
        steps = f", {self.finished_steps} of {self.steps} steps" if self.steps and self.is_active else ""
        return word + steps

    @property
    def percent(self) -> int:
        """How much of it is done, 0 to 100."""
        if self.status == "SUCCESS":
            return 100
        return int(100 * min(self.finished_steps, self.steps) / self.steps) if self.steps else 0


class DagsterRuns:
    """Lists and stops runs.

    Args:
        ask: Sends a query with its variables, and returns the answer's `data`.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    @property
    def ask(self) -> Ask:
        """Sends a query, for modules with queries of their own."""
        return self._ask

    def recent(self, limit: int = 25) -> list[DagsterRun]:
        """The last runs, the newest first.

        Raises:
            TransientError: Dagster does not answer.
        """
        found = self._ask(_LIST, {"limit": limit})["runsOrError"]
        if found["__typename"] != "Runs":
            raise TransientError(f"Dagster must list its runs, and answered {found.get('message', found)}")
        return [_run(values) for values in found["results"]]

    def stop(self, run_id: str) -> None:
        """Asks Dagster to end a run.

        Raises:
            InputError: Dagster refuses, because there is no such run or it has ended.
            TransientError: Dagster does not answer.
        """
        answer = self._ask(_STOP, {"run": run_id})["terminateRun"]
        if answer["__typename"] != "TerminateRunSuccess":
            raise InputError(f"run must be one that runs, got {run_id!r}: {answer.get('message', '')}")


def _run(values: dict[str, Any]) -> DagsterRun:
    assets = ["/".join(key["path"]) for key in values.get("assetSelection") or []]
    title = ", ".join(assets[:3]) + (f" and {len(assets) - 3} more" if len(assets) > 3 else "")
    stats = values.get("stats") or {}
    return DagsterRun(
        id=values["runId"],
        title=title or values["jobName"],
        status=values["status"],
        created_at=values.get("creationTime") or values.get("startTime") or 0.0,
        started_at=values.get("startTime") or 0.0,
        finished_at=values.get("endTime") or 0.0,
        steps=len(values.get("stepKeysToExecute") or []),
        finished_steps=stats.get("stepsSucceeded") or 0,
    )


def over_http(url: str) -> Ask:
    """Returns what asks the GraphQL API at a URL on loopback."""
    # No proxy: the server is this one.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(query: str, variables: dict[str, Any]) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        try:
            with opener.open(request, timeout=TIMEOUT_S) as response:
                answer = json.load(response)
        except (urllib.error.URLError, TimeoutError, ValueError, ConnectionError) as error:
            raise TransientError(f"Dagster must answer at {url}, and did not ({error})") from error
        if "data" not in answer or answer["data"] is None:
            raise TransientError(f"Dagster must answer the query, and answered {str(answer)[:200]}")
        return answer["data"]

    return ask
