"""The Dagster UI of a deployment, and a loopback server for the sounds of its store."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from melodygan_core.errors import InputError
from melodygan_core.storage import Store
from melodygan_dagster.deployment import Deployment

if TYPE_CHECKING:
    from starlette.applications import Starlette

HOST = "127.0.0.1"
# Folders of the store that are served; not records, locks or Dagster's database.
SERVED = ("raw", "stems", "samples", "uses", "gallery", "releases", "pictures")
STOP_TIMEOUT_S = 30


def listening_app(store: Store) -> Starlette:
    """Returns an app that serves a local store's sounds and galleries; `/` redirects to the latest gallery."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, RedirectResponse, Response
    from starlette.routing import Mount, Route
    from starlette.staticfiles import StaticFiles

    def newest(request: Request) -> Response:
        made = store.record("gallery")
        if made is None:
            return PlainTextResponse("There is no gallery yet: materialize `gallery`.\n", status_code=404)
        return RedirectResponse(f"/{made.uri}/{made.metrics['page']}")

    root = Path(store.base.path)
    mounts = [Mount(f"/{n}", StaticFiles(directory=root / n, check_dir=False)) for n in SERVED]
    # A request for another host name is a foreign page that tries to read the store (DNS rebinding).
    guard = Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
    return Starlette(routes=[Route("/", newest), Route("/gallery/", newest), *mounts], middleware=[guard])


@contextmanager
def _listening(store: Store, port: int) -> Iterator[None]:
    import uvicorn

    with _bound(port, "listen_port") as listener:
        server = uvicorn.Server(uvicorn.Config(listening_app(store), log_level="warning"))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.should_exit = True
            thread.join(timeout=5)


def _bound(port: int, name: str) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((HOST, port))
    except OSError as error:
        bound.close()
        raise InputError(f"{name} must be a free port, got {port} ({error.strerror})") from error
    return bound


def serve(deployment: Deployment, port: int, listen_port: int) -> int:
    """Runs the UI until it is stopped (Ctrl+C, SIGTERM) and returns its exit status.

    Raises:
        InputError: a port is in use, or the store is remote, so that its sounds cannot be served from here.
    """
    store = deployment.opened
    if not store.is_local:
        raise InputError(
            f"store must be a local folder, for the UI's players, got {store.root!r}. `dagster dev` shows all"
            " but these, with DAGSTER_HOME, MELODYGAN_STORE and MELODYGAN_SOURCES set"
        )
    os.environ["MELODYGAN_LISTEN_URL"] = f"http://{HOST}:{listen_port}"
    _bound(port, "port").close()
    with _listening(store, listen_port):
        # Creates the database before webserver and daemon race for it.
        deployment.instance().dispose()
        click.echo(f"Dagster UI: http://{HOST}:{port}   gallery: http://{HOST}:{listen_port}/   stop: Ctrl+C")
        return _dagster_dev(port)


def _dagster_dev(port: int) -> int:
    workspace = Path(__file__).parent.parent / "workspace.yaml"
    where = ["-w", str(workspace)] if workspace.exists() else ["-m", "melodygan_dagster.definitions"]
    command = [sys.executable, "-m", "dagster", "dev", *where, "-h", HOST, "-p", str(port)]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    # In its own session, Ctrl+C reaches the process once, from here, and not again while it stops its children.
    process = subprocess.Popen(command, start_new_session=True)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        return 0
