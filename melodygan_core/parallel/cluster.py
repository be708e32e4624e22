"""Tracks on the machines of a Ray cluster: whoever dies costs its track a retry, and nobody else anything."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from melodygan_core.errors import InputError
from melodygan_core.parallel.outcomes import Backend, Outcome, TrackFunction, attempt

# A worker dies of its track or of its machine, and one death does not say which; two, on fresh workers, have
# the track in common.
DEATHS = 2
# In a row: then it is not this or that machine, and starting more would go on for ever.
FAILED_STARTS = 3
_REASON_CHARS = 300


class _Worker:
    """An actor: what the function loads on first use stays loaded for all of its tracks."""

    def __init__(self, function: TrackFunction) -> None:
        self._function = function

    def ready(self) -> None:
        """Returns when there is an actor to return."""

    def attempt(self, track_id: str) -> Outcome:
        """What became of the track."""
        return attempt(self._function, track_id)


class _Crew:
    """Workers, and what is awaited of each: to be there, or a track.

    A worker gets no track before it is there, because it may never be: others then take what is due.
    """

    def __init__(self, ray: ModuleType, function: TrackFunction, backend: Backend) -> None:
        self._ray, self._function = ray, function
        self._class = ray.remote(_Worker).options(
            num_cpus=backend.cpus, num_gpus=backend.gpus, max_restarts=0, scheduling_strategy="SPREAD"
        )
        self._awaited: dict[Any, tuple[Any, str | None]] = {}

    def __len__(self) -> int:
        return len(self._awaited)

    @property
    def at_work(self) -> bool:
        """Whether any worker has a track."""
        return any(track_id is not None for _, track_id in self._awaited.values())

    def start(self, count: int = 1) -> None:
        """Adds workers; each is there as soon as the cluster has a place for it."""
        for _ in range(count):
            actor = self._class.remote(self._function)
            self._awaited[actor.ready.remote()] = actor, None

    def give(self, actor: Any, track_id: str) -> None:
        """Has a worker attempt a track."""
        self._awaited[actor.attempt.remote(track_id)] = actor, track_id

    def first(self) -> tuple[Any, str | None, Outcome | Exception | None]:
        """The next worker that is there (None), has an Outcome of its track, or died of an error."""
        (done,), _ = self._ray.wait(list(self._awaited), num_returns=1)
        actor, track_id = self._awaited.pop(done)
        try:
            return actor, track_id, self._ray.get(done)
        except self._ray.exceptions.RayError as error:
            # It may only be out of reach.
            self.dismiss(actor)
            return actor, track_id, error

    def dismiss(self, actor: Any) -> None:
        """Ends a worker: others, or a fresh one of ours, have use for its place."""
        self._ray.kill(actor)

    def end(self) -> None:
        """Ends all that are awaited."""
        for actor, _ in self._awaited.values():
            self.dismiss(actor)


def attempts(function: TrackFunction, track_ids: Sequence[str], backend: Backend) -> Iterator[Outcome]:
    """Attempts every track on `backend.workers` actors, and yields what became of each as it ends.

    A track whose worker died is tried again on a fresh one. If the first was not dead but out of reach, two
    work on it for a while; `Store.lock` says what that may cost.

    Raises:
        InputError: Ray is not installed, or this process is connected to no cluster.
    """
    return _attempts(_Crew(_connected(), function, backend), track_ids, backend.workers)


def _connected() -> ModuleType:
    try:
        import ray
    except ImportError as error:
        raise InputError("the backend is 'ray', which is not installed: pip install melodygan[ray]") from error
    if not ray.is_initialized():
        raise InputError("the backend is 'ray'; allowed once this process is connected: ray.init(address=...)")
    return ray


def _attempts(crew: _Crew, track_ids: Sequence[str], workers: int) -> Iterator[Outcome]:
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
    # Ray's text is a page: what it was comes last, and then advice.
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].partition(" Some common causes")[0].strip()[:_REASON_CHARS]
