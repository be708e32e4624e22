"""Threads and processes of this machine as workers."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from melodygan_core.parallel.outcomes import Backend, Outcome, TrackFunction, attempt

# The function of this process if it is a worker; set once by `_begin`.
_worker_function: list[TrackFunction] = []


def _begin(function: TrackFunction) -> None:
    _end_with_parent()
    _worker_function.append(function)


def _end_with_parent() -> None:
    # Workers hold both ends of the pipes of the pool: without this, workers of a killed run wait for ever.
    parent = multiprocessing.parent_process()
    assert parent is not None, "only a worker process runs this"

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _attempt_in_worker(track_id: str) -> Outcome:
    return attempt(_worker_function[0], track_id)


def _processes(function: TrackFunction, workers: int) -> ProcessPoolExecutor:
    # Forking a process that has started torch's threads can deadlock.
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=spawn, initializer=_begin, initargs=(function,))


def attempts(function: TrackFunction, track_ids: Sequence[str], backend: Backend) -> Iterator[Outcome]:
    """Attempts every track and yields each outcome as it ends."""
    if backend.name == "threads":
        with ThreadPoolExecutor(backend.workers) as pool:
            for done in as_completed([pool.submit(attempt, function, t) for t in track_ids]):
                yield done.result()
        return
    suspects: list[str] = []
    with _processes(function, backend.workers) as pool:
        futures: dict[Future[Outcome], str] = {pool.submit(_attempt_in_worker, t): t for t in track_ids}
        for future in as_completed(futures):
            try:
                yield future.result()
            except BrokenProcessPool:
                suspects.append(futures[future])
    # A dead worker breaks the whole pool. Alone in a new pool, only the track that kills its worker fails.
    for track_id in suspects:
        with _processes(function, 1) as pool:
            try:
                yield pool.submit(_attempt_in_worker, track_id).result()
            except BrokenProcessPool:
                yield Outcome(track_id, error="the worker process died (crash or out of memory)")
