"""A studio on a port of loopback, for a browser; it can end and start again on the same port."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse

from melodygan_core.config import Config
from melodygan_core.storage import Store
from melodygan_dagster.front_door import build_app
from melodygan_dagster.guard import allowed_hosts
from melodygan_web.app import StudioApp, build_studio
from melodygan_web.dagster_runs import DagsterRuns
from melodygan_web.jobs.queue import Runner


@dataclass
class Served:
    """A running studio.

    Attributes:
        app: The studio.
        url: Its address.
        port: Where it listens.
    """

    app: StudioApp
    url: str
    port: int


def free_port() -> int:
    """A port of loopback that nothing listens on."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def served(
    store: Store,
    runner: Runner | None,
    port: int = 0,
    dagster: DagsterRuns | None = None,
    sources: Path | None = None,
    config: Config | None = None,
) -> Iterator[Served]:
    """Serves a studio behind the guard, beside a Dagster that answers one word, until the block ends."""
    port = port or free_port()
    with build_studio(store.root, runner=runner, dagster=dagster, sources=sources, config=config) as app:
        word = Starlette()
        word.mount("/", PlainTextResponse("dagster"))
        door = build_app(store, word, allowed_hosts(port), {"/studio": app}, {"/studio/uploads"})
        # Pages hold a connection for events, which the end of the server cuts.
        options = uvicorn.Config(
            door, port=port, log_level="critical", lifespan="off", ws="none", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(options)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive(), "the server did not start"
                time.sleep(0.02)
            yield Served(app, f"http://127.0.0.1:{port}/studio", port)
        finally:
            server.should_exit = True
            thread.join(20)
