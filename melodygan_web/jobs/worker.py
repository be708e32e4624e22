"""The process that runs services: releases stay loaded between jobs, and a killed one costs one piece.

The server's process imports neither torch nor a model. It hands over one piece of a job at a time.
"""

from __future__ import annotations

import importlib
import multiprocessing
import signal
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from melodygan_core.errors import MelodyGANError, storage_errors
from melodygan_core.progress import ProgressEvent

# Releases that stay loaded.
WARM_RELEASES = 2
# How long a service may take to report progress after it was asked to stop; then the process is killed.
STOP_GRACE_S = 15.0

Report = Callable[[ProgressEvent], None]


class PieceStoppedError(Exception):
    """The user stopped the job during a piece."""


@dataclass(frozen=True)
class Piece:
    """One call of a service.

    Attributes:
        run_id: Name of its folder in `uses/<kind>`.
        kind: Name in JOB_KINDS.
        release: URI of the release.
        settings: Fields of the request without sound files.
        inputs: Field to URI of the sound that it holds.
    """

    run_id: str
    kind: str
    release: str
    settings: dict[str, Any]
    inputs: dict[str, str] = field(default_factory=dict)


class Worker:
    """The server's side of the process, which starts with the first piece.

    Args:
        store_root: Root of the store.
    """

    def __init__(self, store_root: str) -> None:
        self._root = store_root
        # A forked copy of a server with threads may deadlock.
        self._context = multiprocessing.get_context("spawn")
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None
        self._stop = self._context.Event()

    def make(self, piece: Piece, report: Report, is_stopped: Callable[[], bool]) -> list[str]:
        """Runs a service and returns the URIs of its sounds.

        Args:
            piece: The call.
            report: Called with its progress.
            is_stopped: Asked several times a second whether the user stopped it.

        Raises:
            PieceStoppedError: the user did.
            MelodyGANError: the service failed, or the process ended.
        """
        pipe = self._started()
        self._stop.clear()
        pipe.send(piece)
        asked_at = 0.0
        try:
            while True:
                if is_stopped() and not asked_at:
                    self._stop.set()
                    asked_at = time.monotonic()
                if asked_at and time.monotonic() - asked_at > STOP_GRACE_S:
                    self.close()
                    raise PieceStoppedError
                if not pipe.poll(0.1):
                    continue
                name, value = pipe.recv()
                if name == "progress":
                    report(ProgressEvent(*value))
                elif name == "made":
                    return value
                elif name == "stopped":
                    raise PieceStoppedError
                else:
                    raise MelodyGANError(value)
        except (EOFError, OSError) as error:
            status = self._ended()
            raise MelodyGANError(
                f"the worker must stay alive, and ended with status {status} (-9 is mostly a lack of memory):"
                " its log is in the server's terminal"
            ) from error

    def _started(self) -> Connection:
        if self._process is not None and self._process.is_alive() and self._pipe is not None:
            return self._pipe
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=run, args=(theirs, self._root, self._stop), name="melodygan-worker", daemon=True
        )
        process.start()
        # The end of the process is then the end of the pipe.
        theirs.close()
        self._process, self._pipe = process, ours
        return ours

    def _ended(self) -> int | None:
        process, self._process, self._pipe = self._process, None, None
        if process is None:
            return None
        process.join(5)
        return process.exitcode

    def close(self) -> None:
        """Ends the process at once."""
        if self._process is not None:
            self._process.kill()
            self._ended()


def run(pipe: Connection, root: str, stop: Any) -> None:
    """The process: makes one piece after the other until the server closes the pipe.

    An error that is not of this package ends it, with a traceback in the server's terminal; the next piece
    starts another one.
    """
    # Ctrl+C reaches the whole group of processes; the server ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from melodygan_core.storage import Store

    store, releases = Store(root), WarmReleases(root)
    while True:
        try:
            piece = pipe.recv()
        except EOFError:
            return
        watcher = _Watcher(pipe)
        try:
            with storage_errors():
                made = make(store, releases, piece, watcher.reporting(stop))
            pipe.send(("made", made))
        except PieceStoppedError:
            pipe.send(("stopped", None))
        except MelodyGANError as error:
            pipe.send(("failed", "; ".join(map(str, error.args))))


class _Watcher:
    """Sends the progress of a piece, a few times a second at most."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._sent_at = pipe, 0.0

    def reporting(self, stop: Any) -> Report:
        """A callback that sends progress, and raises PieceStoppedError once the user stopped the job."""

        def report(event: ProgressEvent) -> None:
            # What is finished is not thrown away.
            if stop.is_set() and event.done < event.total:
                raise PieceStoppedError
            if time.monotonic() - self._sent_at > 0.2 or event.done in (0, event.total):
                self._sent_at = time.monotonic()
                self._pipe.send(("progress", tuple(event)))

        return report


class WarmReleases:
    """The releases that were used last, loaded.

    Args:
        root: Root of the store.
        most: Releases that stay loaded.
    """

    def __init__(self, root: str, most: int = WARM_RELEASES) -> None:
        self._root, self._most = root.rstrip("/"), most
        self._opened: OrderedDict[str, Any] = OrderedDict()

    def get(self, uri: str) -> Any:
        """The release at a URI of the store; loads it unless it was one of those used last.

        Raises:
            InputError: there is none, or it is damaged.
        """
        from melodygan_core.services.releases import open_release

        if uri not in self._opened:
            while len(self._opened) >= self._most:
                self._opened.popitem(last=False)
            self._opened[uri] = open_release(f"{self._root}/{uri}").release
        self._opened.move_to_end(uri)
        return self._opened[uri]


def make(store: Any, releases: WarmReleases, piece: Piece, report: Report) -> list[str]:
    """Runs the service of a piece into the store; returns the URIs of its sounds.

    Raises:
        MelodyGANError: what the service raises.
    """
    from contextlib import ExitStack

    from melodygan_core.config import from_dict
    from melodygan_core.services.uses import use_note, write_use
    from melodygan_web.jobs.kinds import job_kind

    kind = job_kind(piece.kind)
    artifact = store.artifact(store.at(piece.release))
    if artifact is None:
        raise MelodyGANError(f"release must still be in the store, got {piece.release!r}, which is gone")
    release = releases.get(piece.release)
    module, _, function = kind.implementation.partition(":")
    service = getattr(importlib.import_module(module), function)
    target = store.use(piece.kind, piece.run_id)
    with ExitStack() as stack:
        files = {n: str(stack.enter_context(store.reading(store.at(u)))) for n, u in piece.inputs.items()}
        request = from_dict(kind.request, {**piece.settings, **files})
        given = {"store": store} if kind.reads_store else {}
        note = use_note(piece.kind, {**piece.settings, **piece.inputs}, artifact)
        result = write_use(
            store, target, note, lambda out: service(release, request, Path(out), progress=report, **given)
        )
    return [f"{store.uri(target)}/{sound.file}" for sound in result.sounds]
