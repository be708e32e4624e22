"""The outcome of one track, and the report of a stage."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from melodygan_core.errors import InputError, MelodyGANError, TrackError, storage_reason

BackendName = Literal["serial", "threads", "processes", "ray"]
TrackFunction = Callable[[str], dict[str, Any]]


@dataclass(frozen=True)
class Backend:
    """The workers of one stage.

    Attributes:
        name: `serial`, `threads` (for work in child processes), `processes`, or `ray` (actors of the cluster
            that this process is connected to).
        workers: Number of workers; serial ignores it.
        cpus: CPUs that Ray reserves for each worker.
        gpus: GPUs that Ray reserves for each worker; it hides the others from the worker.
    """

    name: BackendName = "serial"
    workers: int = 1
    cpus: float = 1.0
    gpus: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """The outcome of one track.

    Attributes:
        track_id: The track.
        metadata: The return value of the function; empty on failure.
        error: One sentence for the user; empty on success.
        permanent: Whether a retry would fail as well.
        skipped: Whether the artifact existed already.
        duration_s: Computing time in seconds.
    """

    track_id: str
    metadata: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    permanent: bool = False
    skipped: bool = False
    duration_s: float = 0.0


@dataclass(frozen=True)
class Report:
    """The outcomes of all tracks of one stage."""

    stage: str
    outcomes: tuple[Outcome, ...]

    @property
    def good(self) -> list[Outcome]:
        """Outcomes of tracks whose artifact is in the store now."""
        return [o for o in self.outcomes if not o.error]

    @property
    def failed(self) -> list[Outcome]:
        """Outcomes of tracks without an artifact, each with its error."""
        return [o for o in self.outcomes if o.error]

    @property
    def computed(self) -> list[Outcome]:
        """Outcomes of tracks whose artifact was computed now."""
        return [o for o in self.outcomes if not o.error and not o.skipped]


def attempt(function: TrackFunction, track_id: str) -> Outcome:
    """Calls the function and returns the outcome; an exception becomes the error of this track alone."""
    started = time.monotonic()
    try:
        metadata = function(track_id)
    except MelodyGANError as error:
        permanent = isinstance(error, TrackError | InputError)
        return Outcome(track_id, error=str(error), permanent=permanent, duration_s=time.monotonic() - started)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{last.name}, {last.filename.rsplit('/', 1)[-1]}:{last.lineno}"
        message = storage_reason(error) or f"{type(error).__name__}: {error} ({where})"
        return Outcome(track_id, error=message, duration_s=time.monotonic() - started)
    skipped = bool(metadata.pop("skipped", False))
    return Outcome(track_id, metadata=metadata, skipped=skipped, duration_s=time.monotonic() - started)
