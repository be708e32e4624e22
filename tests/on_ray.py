"""Functions that tests run on a Ray cluster. Every worker imports this module, so it imports little."""

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
    """Succeeds, fails, crashes or exits, as the first word of the track's name tells."""
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


def kill_once(
    track_id: str, function: TrackFunction, victim: str, at: str, call: int, notes: Path
) -> dict[str, Any]:
    """Calls a function on a track, and kills the worker in the middle of the first attempt at one track.

    Args:
        track_id: Of the track.
        function: The function.
        victim: The track whose worker is killed.
        at: Full name of the function whose call kills the worker.
        call: Number of that call, from 1.
        notes: Folder in which `attempts` gets a line per attempt.
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


def record_loads(track_id: str, function: TrackFunction, notes: Path) -> dict[str, Any]:
    """Calls a function on a track, and records which process loads a separation network."""
    from melodygan_core.separation.audio_separator import Separator

    load = Separator._load

    def recorded(self: Separator) -> None:
        with (notes / "loads").open("a") as file:
            file.write(f"{os.getpid()}\n")
        load(self)

    with mock.patch.object(Separator, "_load", recorded):
        return function(track_id)


def stuck_on(track_id: str, node: str, notes: Path) -> dict[str, Any]:
    """Never returns on one node; on the others it waits until a track is stuck on that node."""
    here, log = ray.get_runtime_context().get_node_id(), notes / "attempts"
    with log.open("a") as file:
        file.write(f"{track_id} {here}\n")
    while here == node or node not in log.read_text():
        time.sleep(0.1)
    return {}


def wait_for_turn(track_id: str, pause_s: float) -> dict[str, Any]:
    """Waits as before a request, and returns when it would have sent it."""
    from melodygan_core import download

    download._wait_for_turn(pause_s)
    return {"at_s": time.monotonic(), "pid": os.getpid()}


class NotImportable:
    """A function that no worker can unpickle, as if the code were not installed there."""

    def __call__(self, track_id: str) -> dict[str, Any]:
        raise AssertionError(track_id)

    def __reduce__(self) -> tuple[Any, ...]:
        return __import__, ("not_installed_there",)
