"""The processes of `melodygan ui`: the web server on its guarded port, Dagster's code server and its daemon.

Dagster's web app runs in this process, so that no other port leads to it. The code server listens on a Unix
socket in a folder that only its user can open; the daemon listens nowhere.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from melodygan_core.cli.terminal import echo
from melodygan_core.errors import InputError, MelodyGANError
from melodygan_dagster.deployment import Deployment
from melodygan_web.security import UPLOADS

if TYPE_CHECKING:
    import dagster as dg
    import psutil
    from starlette.types import ASGIApp

    from melodygan_web.app import StudioApp

HOST = "127.0.0.1"
LOCATION = "melodygan"
STUDIO = "/studio"
START_TIMEOUT_S = 180.0
# How long runs may take to end, and how long services without runs.
STOP_RUNS_S, STOP_SERVICES_S = 30.0, 5.0
# How long the requests of open pages may hold up the end.
CLOSE_TIMEOUT_S = 3

Services = dict[str, subprocess.Popen[bytes]]


def serve(
    deployment: Deployment, port: int, named_hosts: Collection[str] = (), *, studio_first: bool = False
) -> None:
    """Serves the UI and the studio until it is stopped (Ctrl+C, SIGTERM, SIGHUP).

    Args:
        deployment: Its store and Dagster instance are shown.
        port: On loopback; there is no password, so that it is never bound elsewhere.
        named_hosts: More values of `Host` to answer to: names by which a tunnel or proxy forwards requests.
        studio_first: Name the address of the studio before that of Dagster.

    Raises:
        InputError: the port is in use, or one of `named_hosts` is not a host.
        MelodyGANError: the code server or the daemon ended.
    """
    from melodygan_dagster import private
    from melodygan_dagster.guard import allowed_hosts

    hosts = allowed_hosts(port, named_hosts)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    # Creates Dagster's database before its services race for it.
    with suppress(KeyboardInterrupt), _bound(port) as listener, deployment.instance() as instance:
        echo("Starting Dagster ...")
        with (
            _dagster_services(instance) as (workspace, services),
            private.webserver(instance, workspace) as dagster,
            _studio(deployment, port) as studio,
        ):
            from melodygan_dagster.front_door import build_app

            address = f"http://{HOST}:{port}"
            names = [f"Dagster UI: {address}", f"studio: {address}{STUDIO}"]
            names = names[::-1] if studio_first else names
            echo("   ".join([*names, f"gallery: {address}/gallery", "stop: Ctrl+C"]))
            beside, uploads = {STUDIO: studio}, {STUDIO + UPLOADS}
            _run(build_app(deployment.opened, dagster, hosts, beside, uploads), listener, services)


def _studio(deployment: Deployment, port: int) -> StudioApp:
    """The studio of a deployment; it asks Dagster on the same port."""
    from melodygan_web.app import build_studio
    from melodygan_web.dagster_runs import DagsterRuns, over_http

    return build_studio(
        deployment.store,
        dagster=DagsterRuns(over_http(f"http://{HOST}:{port}/graphql")),
        sources=deployment.sources,
        config=deployment.load_config(),
    )


@contextmanager
def _bound(port: int) -> Iterator[socket.socket]:
    with closing(socket.socket()) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((HOST, port))
        except OSError as error:
            raise InputError(f"port must be a free port, got {port} ({error.strerror})") from error
        yield bound


def _run(app: ASGIApp, listener: socket.socket, services: Services) -> None:
    """Runs the web server until a signal comes or a service ends."""
    import uvicorn

    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            # Headers of a proxy do not change who asks.
            proxy_headers=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=CLOSE_TIMEOUT_S,
        )
    )
    # The other signals are uvicorn's own.
    signal.signal(signal.SIGHUP, server.handle_exit)

    def watch() -> None:
        while not server.should_exit:
            time.sleep(0.5)
            if any(process.poll() is not None for process in services.values()):
                server.should_exit = True

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    # Ends with KeyboardInterrupt after a signal.
    server.run(sockets=[listener])
    for name, process in services.items():
        if process.returncode is not None:
            raise MelodyGANError(f"the {name} ended with status {process.returncode}: its log is above")


@contextmanager
def _dagster_services(instance: dg.DagsterInstance) -> Iterator[tuple[Path, Services]]:
    """Runs code server and daemon; yields the workspace.yaml that names the code server, and both processes."""
    with tempfile.TemporaryDirectory(prefix="melodygan-") as folder:
        address, workspace = Path(folder) / "code.sock", Path(folder) / "workspace.yaml"
        server = {"socket": str(address), "location_name": LOCATION}
        workspace.write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}), "utf-8")
        definitions = ["--module-name", "melodygan_dagster.definitions", "--location-name", LOCATION]
        code_server = [sys.executable, "-m", "dagster", "code-server", "start", "--socket", str(address)]
        daemon = [str(Path(sys.executable).with_name("dagster-daemon")), "run", "--workspace", str(workspace)]
        services: Services = {}
        try:
            services["code server"] = _start([*code_server, *definitions, "--log-level", "warning"])
            # Seconds of imports, while the code server has its own.
            import dagster_webserver.app  # noqa: F401

            _wait(services["code server"], address)
            services["daemon"] = _start(daemon)
            yield workspace, services
        finally:
            echo("Stopping Dagster and its runs (Ctrl+C again kills them) ...")
            _stop(services, instance)


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    # In a session of its own, Ctrl+C reaches a service once, from here, and not again while it stops.
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)


def _wait(process: subprocess.Popen[bytes], address: Path) -> None:
    """Waits until the code server listens, which it does when it has loaded the definitions.

    Raises:
        MelodyGANError: it ended, or takes longer than START_TIMEOUT_S.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise MelodyGANError(f"the code server ended with status {process.returncode}: its log is above")
        with closing(socket.socket(socket.AF_UNIX)) as probe, suppress(OSError):
            probe.connect(str(address))
            return
        time.sleep(0.1)
    raise MelodyGANError(f"the code server must start within {START_TIMEOUT_S:.0f} s, and did not")


def _stop(services: Services, instance: dg.DagsterInstance) -> None:
    """Interrupts the services and their runs, and kills what has not ended in time or at a second Ctrl+C."""
    import dagster as dg
    import psutil

    in_progress = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED])
    # The daemon before the code server, in which it may just be launching a run.
    for service in reversed(services.values()):
        if service.poll() is not None:
            continue
        process = psutil.Process(service.pid)
        processes = [process, *process.children(recursive=True)]
        os.killpg(service.pid, signal.SIGINT)
        started = time.monotonic()
        with suppress(KeyboardInterrupt):
            while _running(processes):
                limit_s = STOP_RUNS_S if instance.get_runs_count(in_progress) else STOP_SERVICES_S
                if time.monotonic() - started > limit_s:
                    break
                time.sleep(0.2)
        for left in _running(processes):
            with suppress(psutil.NoSuchProcess):
                left.kill()
        service.wait()


def _running(processes: list[psutil.Process]) -> list[psutil.Process]:
    import psutil

    def runs(process: psutil.Process) -> bool:
        try:
            # A process whose parent never asks for its status stays a zombie.
            return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return [process for process in processes if runs(process)]
