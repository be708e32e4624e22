"""A job as it is kept on disk and shown in a page."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from melodygan_core.storage import Store
from melodygan_core.storage.kinds import STUDIO_JOB
from melodygan_web.jobs.kinds import JOB_KINDS

State = Literal["queued", "running", "stopping", "done", "failed", "stopped", "interrupted"]
ACTIVE: tuple[State, ...] = ("queued", "running", "stopping")
# States from which the missing sounds can be made.
RESUMABLE: tuple[State, ...] = ("failed", "stopped", "interrupted")


@dataclass(frozen=True)
class Input:
    """A sound that a job starts from.

    Attributes:
        id: What a page names it by.
        uri: In the store.
        title: For people.
    """

    id: str
    uri: str
    title: str


@dataclass(frozen=True)
class Job:
    """One request to a service, and how far it is.

    Attributes:
        id: `s` and digits that grow with time.
        kind: Name in JOB_KINDS.
        pipeline: Of the release.
        release: URI of the release, which stays the same however long the job waits.
        settings: Fields of the request without sound files.
        inputs: Field to the sound that it holds.
        pieces: Calls of the service in all.
        state: Where it is.
        finished_pieces: Calls that returned.
        made: URIs of the sounds, in order.
        stage: What the service reports that it is doing.
        done: Units of the stage that are finished.
        total: Units of the stage; 0 before its first report.
        error: One sentence; empty unless the job failed.
        created_at: In seconds since 1970, as the other times; 0 where there is none yet.
        started_at: When its first piece began.
        finished_at: When it ended.
        change: Number of its last change; grows with every change of any job, on later servers, too.
    """

    id: str
    kind: str
    pipeline: str
    release: str
    settings: dict[str, Any]
    inputs: dict[str, Input] = field(default_factory=dict)
    pieces: int = 1
    state: State = "queued"
    finished_pieces: int = 0
    made: tuple[str, ...] = ()
    stage: str = ""
    done: int = 0
    total: int = 0
    error: str = ""
    created_at: float = 0.0
    started_at: float = 0.0
    finished_at: float = 0.0
    change: int = 0

    @property
    def is_active(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ACTIVE

    @property
    def is_resumable(self) -> bool:
        """Whether the sounds that are missing can be made."""
        return self.state in RESUMABLE and self.finished_pieces < self.pieces

    @property
    def percent(self) -> int:
        """How much of it is done, 0 to 100."""
        if self.state == "done":
            return 100
        part = min(1.0, self.done / self.total) if self.total else 0.0
        return int(100 * min(self.pieces, self.finished_pieces + part) / self.pieces)

    @property
    def title(self) -> str:
        """What it makes."""
        return JOB_KINDS[self.kind].title if self.kind in JOB_KINDS else self.kind

    @property
    def label(self) -> str:
        """Its state as a sentence without a full stop."""
        number = f"{min(self.finished_pieces + 1, self.pieces)} of {self.pieces}"
        running = f"Making {number}" if self.total else "Opening the release"
        made = f"{self.finished_pieces} of {self.pieces} made"
        return {
            "queued": "Waiting",
            "running": running,
            "stopping": "Stopping",
            "done": "Done",
            "failed": f"Failed: {self.error}",
            "stopped": f"Stopped, {made}",
            "interrupted": f"Interrupted when the server ended, {made}",
        }[self.state]

    def to_event(self) -> dict[str, Any]:
        """What a page is sent when it changes."""
        return {
            "id": self.id,
            "change": self.change,
            "state": self.state,
            "label": self.label,
            "percent": self.percent,
            "made": len(self.made),
            "active": self.is_active,
            "resumable": self.is_resumable,
        }


def new_id() -> str:
    """An id that is greater than every earlier one."""
    return f"s{time.time_ns() // 1_000_000:012x}{secrets.token_hex(4)}"


def save_job(store: Store, job: Job) -> None:
    """Writes a job; atomic, so that a killed server leaves the state before or after."""
    store.write_json(store.path(STUDIO_JOB, job_id=job.id), {**asdict(job), "made": list(job.made)})


def read_job(values: Mapping[str, Any]) -> Job:
    """The job that a JSON object describes.

    Raises:
        TypeError: a field is missing or unknown.
    """
    inputs = {name: Input(**given) for name, given in values["inputs"].items()}
    fields: dict[str, Any] = {**values, "inputs": inputs, "made": tuple(values["made"])}
    return Job(**fields)


def after_restart(job: Job) -> Job:
    """A job of a server that ended: one that ran is interrupted, one that waited still waits."""
    if job.state in ("running", "stopping"):
        return replace(job, state="interrupted", finished_at=time.time(), done=0, total=0)
    return job
