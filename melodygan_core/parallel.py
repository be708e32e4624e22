"""One function over many tracks: skip what is there, isolate what fails, show progress."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any, Literal

from tqdm.auto import tqdm

from melodygan_core.errors import InputError, MelodyGANError, TrackError, storage_reason

BackendName = Literal["serial", "threads", "processes"]
TrackFunction = Callable[[str], dict[str, Any]]


@dataclass(frozen=True)
class Backend:
    """Where the work of one stage runs.

    Attributes:
        name: `serial`, `threads` (for work done in child processes) or `processes`.
        workers: At the same time; ignored by serial.
    """

    name: BackendName = "serial"
    workers: int = 1


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


def _attempt(function: TrackFunction, track_id: str) -> Outcome:
    # Everything that one track raises becomes its named failure: nobody else pays for it.
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


def _end_with_parent() -> None:
    # Workers hold both ends of the pool's pipes: without this, those of a killed run wait for work for ever.
    parent = multiprocessing.parent_process()
    assert parent is not None, "only a worker process runs this"

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _executor(backend: Backend, workers: int) -> Executor:
    if backend.name == "threads":
        return ThreadPoolExecutor(workers)
    # Forking a process that has started torch's threads can deadlock.
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=spawn, initializer=_end_with_parent)


def _pooled(function: TrackFunction, track_ids: Sequence[str], backend: Backend) -> Iterator[Outcome]:
    suspects: list[str] = []
    with _executor(backend, backend.workers) as pool:
        futures: dict[Future[Outcome], str] = {pool.submit(_attempt, function, t): t for t in track_ids}
        for future in as_completed(futures):
            try:
                yield future.result()
            except BrokenProcessPool:
                suspects.append(futures[future])
    # A dead worker breaks the whole pool; alone in a fresh one, only the track that kills it is blamed.
    for track_id in suspects:
        with _executor(backend, 1) as pool:
            try:
                yield pool.submit(_attempt, function, track_id).result()
            except BrokenProcessPool:
                yield Outcome(track_id, error="the worker process died (crash or out of memory)")


def map_tracks(
    stage: str, function: TrackFunction, track_ids: Sequence[str], backend: Backend | None = None
) -> Report:
    """Calls `function` on every track and reports on each.

    Args:
        stage: For the progress bar and the report.
        function: Takes a track_id, returns metadata (`skipped=True` when the artifact was there); must be
            picklable for processes.
        track_ids: In the order of the report.
        backend: Serial by default.
    """
    backend = backend or Backend()
    if backend.name == "serial" or len(track_ids) < 2 or backend.workers < 2:
        results = (_attempt(function, t) for t in track_ids)
    else:
        results = _pooled(function, track_ids, backend)
    outcomes: dict[str, Outcome] = {}
    with tqdm(total=len(track_ids), desc=stage, unit="track", mininterval=1.0) as bar:
        for outcome in results:
            outcomes[outcome.track_id] = outcome
            bar.update()
            bar.set_postfix(failed=sum(bool(o.error) for o in outcomes.values()), refresh=False)
    return Report(stage, tuple(outcomes[t] for t in track_ids))
