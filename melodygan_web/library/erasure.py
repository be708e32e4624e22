"""Forgetting a track from a page: what follows from it, and doing it, in a child process.

The erasure reads datasets and so imports torch, which the server does not.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, TypeVar

from melodygan_core.errors import TransientError

R = TypeVar("R")
# Lines of a list that a page shows.
MAX_LISTED = 50


@dataclass(frozen=True)
class Consequences:
    """What follows, or followed, from forgetting a track.

    Attributes:
        files: URIs of what is removed.
        learned: What was trained on it and stays, a line each.
        compared: What was selected or compared with it and stays, a line each.
        running: What a running training holds, and so was not touched.
    """

    files: tuple[str, ...]
    learned: tuple[str, ...] = ()
    compared: tuple[str, ...] = ()
    running: tuple[str, ...] = ()


def consequences(root: str, track_id: str) -> Consequences:
    """What forgetting a track would do; removes nothing.

    Raises:
        MelodyGANError: the store cannot be read.
    """
    return in_child(_consequences, root, track_id)


def forget(root: str, track_id: str) -> Consequences:
    """Forgets a track; see `erasure.forget` of the core.

    Raises:
        InputError: no such track.
        TransientError: a stage held the track for an hour.
    """
    return in_child(_forget, root, track_id)


def in_child(function: Callable[..., R], *arguments: Any) -> R:
    """Calls a function of a module in a new process, and returns or raises what it does.

    Raises:
        TransientError: the process was killed.
    """
    # A forked copy of a server with threads may deadlock.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except BrokenProcessPool as error:
            raise TransientError(
                "the process of the erasure must stay alive, and was killed (mostly for a lack of memory)"
            ) from error


def _consequences(root: str, track_id: str) -> Consequences:
    from melodygan_core.maintenance import erasure
    from melodygan_core.storage import Store

    found = erasure.preview(Store(root), [track_id])
    return Consequences(tuple(found.files), *_lines(found.marks))


def _forget(root: str, track_id: str) -> Consequences:
    from melodygan_core.maintenance import erasure
    from melodygan_core.storage import Store

    report = erasure.forget(Store(root), [track_id])
    return Consequences(tuple(report.removed), *_lines(report.marks), tuple(report.running))


def _lines(marks: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    learned = tuple(f"{mark.name} {mark.version}" for mark in marks if mark.trained_on)
    return learned, tuple(f"{mark.name} {mark.version}" for mark in marks if not mark.trained_on)
