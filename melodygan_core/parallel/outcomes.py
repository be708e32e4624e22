"""What becomes of a track, and of all tracks of a stage."""

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
    """Where the work of one stage runs.

    Attributes:
        name: `serial`, `threads` (for work done in child processes), `processes`, or `ray`: actors of the
            cluster that this process is connected to.
        workers: At the same time; ignored by serial.
        cpus: That each worker reserves; of Ray only.
        gpus: That each worker reserves; of Ray only, which then hides the others from it.
    """

    name: BackendName = "serial"
    workers: int = 1
    cpus: float = 1.0
    gpus: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What became of one track.

    Attributes:
        track_id: Which.
        metadata: What the function returned; empty when it failed.
        error: One sentence for the user; empty when it went well.
        permanent: Whether trying again is pointless.
        skipped: Whether it was there already.
        duration_s: Time spent on it.
    """

    track_id: str
    metadata: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    permanent: bool = False
    skipped: bool = False
    duration_s: float = 0.0


@dataclass(frozen=True)
class Report:
    """What became of all tracks of one stage."""

    stage: str
    outcomes: tuple[Outcome, ...]

    @property
    def good(self) -> list[Outcome]:
        """Tracks whose artifact is in the store now."""
        return [o for o in self.outcomes if not o.error]

    @property
    def failed(self) -> list[Outcome]:
        """Tracks without an artifact, each with its reason."""
        return [o for o in self.outcomes if o.error]

    @property
    def computed(self) -> list[Outcome]:
        """Tracks whose artifact was made now."""
        return [o for o in self.outcomes if not o.error and not o.skipped]


def attempt(function: TrackFunction, track_id: str) -> Outcome:
    """Calls the function; what a track raises becomes its named failure, and nobody else pays for it."""
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
