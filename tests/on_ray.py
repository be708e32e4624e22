"""What the tests have workers of a Ray cluster do; light, because every worker imports it."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

import ray

from melodygan_core.errors import TrackError
from melodygan_core.parallel import TrackFunction


def work(track_id: str) -> dict[str, Any]:
    """What it does depends on the name."""
    kind, _, _ = track_id.partition("-")
    if kind == "gone":
        raise TrackError("404, gone")
    if kind == "bug":
        return {"x": [*track_id][99]}
    if kind == "crash":
        os._exit(9)
    if kind == "exit":
        sys.exit("enough")
    return {"name": track_id, "skipped": kind == "there"}


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_once(
    track_id: str, function: TrackFunction, victim: str, at: str, call: int, notes: Path
) -> dict[str, Any]:
    """Does the work; the first time that the victim's worker calls `at` so often, it is killed there.

    Args:
        track_id: Whose turn it is.
        function: The work.
        victim: The track.
        at: A function, by its full name.
        call: The how manieth, from 1.
        notes: A folder; `attempts` gets a line for each attempt.
    """
    with (notes / "attempts").open("a") as file:
        file.write(f"{track_id} {os.getpid()}\n")
    mark = notes / "killed"
    if track_id != victim or mark.exists():
        return function(track_id)
    module, _, name = at.rpartition(".")
    original = getattr(sys.modules[module], name)
    left = [call]

    def dying(*args: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            mark.touch()
            _die()
        return original(*args, **named)

    with mock.patch(at, dying):
        return function(track_id)


def counted_loads(track_id: str, function: TrackFunction, notes: Path) -> dict[str, Any]:
    """Does the work, and notes by whom a separation network is loaded."""
    from melodygan_core.separation.audio_separator import Separator

    load = Separator._load

    def noted(self: Separator) -> None:
        with (notes / "loads").open("a") as file:
            file.write(f"{os.getpid()}\n")
        load(self)

    with mock.patch.object(Separator, "_load", noted):
        return function(track_id)


def stuck_on(track_id: str, node: str, notes: Path) -> dict[str, Any]:
    """Takes for ever on one machine, and waits on the others until a track is stuck there."""
    here, log = ray.get_runtime_context().get_node_id(), notes / "attempts"
    with log.open("a") as file:
        file.write(f"{track_id} {here}\n")
    while here == node or node not in log.read_text():
        time.sleep(0.1)
    return {}


def polite(track_id: str, pause_s: float) -> dict[str, Any]:
    """Says when it might have asked a server."""
    from melodygan_core import download

    download._be_polite(pause_s)
    return {"at_s": time.monotonic(), "pid": os.getpid()}


class Unreadable:
    """A worker that lacks the code cannot read the function that it is sent."""

    def __call__(self, track_id: str) -> dict[str, Any]:
        raise AssertionError(track_id)

    def __reduce__(self) -> tuple[Any, ...]:
        return __import__, ("not_installed_there",)
