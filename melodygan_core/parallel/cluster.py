"""Actors of a Ray cluster as workers; a track is retried if its worker dies."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from melodygan_core.errors import INSTALL, InputError
from melodygan_core.parallel.outcomes import Backend, Outcome, TrackFunction, attempt

# One death of a worker may be due to its machine. Two deaths, on different workers, are due to the track.
DEATHS = 2
# Failed starts in a row after which no more workers are started: the cause is not a single machine.
FAILED_STARTS = 3
_REASON_CHARS = 300


class _Worker:
    """An actor; what the function loads on first use stays loaded for all of its tracks."""

    def __init__(self, function: TrackFunction) -> None:
        self._function = function

    def ready(self) -> None:
        """Returns once the actor runs."""

    def attempt(self, track_id: str) -> Outcome:
        """Returns the outcome of the track."""
        return attempt(self._function, track_id)


class _Workers:
    """The workers, and the pending call of each: its start, or a track.

    A worker receives a track only once it runs: it may never start, and then others take the tracks.
    """

    def __init__(self, ray: ModuleType, function: TrackFunction, backend: Backend) -> None:
        self._ray, self._function = ray, function
        self._class = ray.remote(_Worker).options(
            num_cpus=backend.cpus, num_gpus=backend.gpus, max_restarts=0, scheduling_strategy="SPREAD"
        )
        self._pending: dict[Any, tuple[Any, str | None]] = {}

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def at_work(self) -> bool:
        """Whether any worker has a track."""
        return any(track_id is not None for _, track_id in self._pending.values())

    def start(self, count: int = 1) -> None:
        """Adds workers; each runs as soon as the cluster has resources for it."""
        for _ in range(count):
            actor = self._class.remote(self._function)
            self._pending[actor.ready.remote()] = actor, None

    def give(self, actor: Any, track_id: str) -> None:
        """Lets a worker attempt a track."""
        self._pending[actor.attempt.remote(track_id)] = actor, track_id

    def first(self) -> tuple[Any, str | None, Outcome | Exception | None]:
        """Waits for the next call to end: a start (None), a track (its Outcome) or a death (the exception)."""
        (done,), _ = self._ray.wait(list(self._pending), num_returns=1)
        actor, track_id = self._pending.pop(done)
        try:
            return actor, track_id, self._ray.get(done)
        except self._ray.exceptions.RayError as error:
            # The worker may be alive and only unreachable.
            self.dismiss(actor)
            return actor, track_id, error

    def dismiss(self, actor: Any) -> None:
        """Ends a worker and releases its resources."""
        self._ray.kill(actor)

    def end(self) -> None:
        """Ends all workers with a pending call."""
        for actor, _ in self._pending.values():
            self.dismiss(actor)


def attempts(function: TrackFunction, track_ids: Sequence[str], backend: Backend) -> Iterator[Outcome]:
    """Attempts every track on `backend.workers` actors and yields each outcome as it ends.

    If a worker dies, another one retries its track. If the first was alive and only unreachable, both work on
    the track for a while; see `Store.lock` for the consequences.

    Raises:
        InputError: Ray is not installed, or this process is not connected to a cluster.
    """
    return _attempts(_Workers(_connected(), function, backend), track_ids, backend.workers)


def _connected() -> ModuleType:
    try:
        import ray
    except ImportError as error:
        raise InputError(f"backend must be installed, got 'ray': {INSTALL} '.[ray]'") from error
    if not ray.is_initialized():
        raise InputError("backend must be connected, got 'ray': call ray.init(address=...) first")
    return ray


def _attempts(crew: _Workers, track_ids: Sequence[str], workers: int) -> Iterator[Outcome]:
    due, deaths = deque(track_ids), Counter[str]()
    failed_starts, reason = 0, ""
    try:
        crew.start(min(workers, len(track_ids)))
        while len(crew) and (due or crew.at_work):
            actor, track_id, result = crew.first()
            if isinstance(result, Exception):
                reason = _reason(result)
                if track_id is None:
                    failed_starts += 1
                elif deaths[track_id] < DEATHS - 1:
                    deaths[track_id] += 1
                    due.append(track_id)
                else:
                    died = f"died {DEATHS} times (crash, out of memory, or its machine)"
                    yield Outcome(track_id, error=f"its worker {died}: {reason}")
                if due and failed_starts < FAILED_STARTS:
                    crew.start()
                continue
            if result is None:
                failed_starts = 0
            else:
                yield result
            if due:
                crew.give(actor, due.popleft())
            else:
                crew.dismiss(actor)
        for track_id in due:
            yield Outcome(track_id, error=f"no worker can start on the Ray cluster: {reason}")
    finally:
        crew.end()


def _reason(error: Exception) -> str:
    # Ray's message is a page: the cause is on the last line, followed by advice.
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].partition(" Some common causes")[0].strip()[:_REASON_CHARS]
