"""The Dagster UI of a deployment, and a loopback server that lets a person listen to its store."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import click

from melodygan_core.errors import InputError
from melodygan_dagster.deployment import Deployment

HOST = "127.0.0.1"
# What a listener needs; not records, locks, weights or Dagster's database.
SERVED = ("raw", "stems", "samples", "gallery", "releases")


def _listen(root: Path, port: int) -> None:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.routing import Mount
    from starlette.staticfiles import StaticFiles

    routes = [
        Mount(f"/{name}", StaticFiles(directory=root / name, check_dir=False, html=True)) for name in SERVED
    ]
    uvicorn.run(Starlette(routes=routes), host=HOST, port=port, log_level="warning")


def serve(deployment: Deployment, port: int, listen_port: int) -> int:
    """Runs the UI until it is stopped; returns its exit status.

    Raises:
        InputError: the store is remote, so that its sounds cannot be served from here.
    """
    store = deployment.opened
    if not store.is_local:
        raise InputError(f"store is {store.root!r}; allowed for the UI's players: a local folder")
    os.environ["MELODYGAN_LISTEN_URL"] = f"http://{HOST}:{listen_port}"
    # Makes the database before webserver and daemon race for it.
    deployment.instance().dispose()
    threading.Thread(target=_listen, args=(Path(store.base.path), listen_port), daemon=True).start()
    workspace = Path(__file__).parent.parent / "workspace.yaml"
    where = ["-w", str(workspace)] if workspace.exists() else ["-m", "melodygan_dagster.definitions"]
    click.echo(
        f"Dagster UI: http://{HOST}:{port}   sounds: http://{HOST}:{listen_port}/gallery/   stop: Ctrl+C"
    )
    command = [sys.executable, "-m", "dagster", "dev", *where, "-h", HOST, "-p", str(port)]
    process = subprocess.Popen(command)
    try:
        return process.wait()
    except KeyboardInterrupt:
        return process.wait()
