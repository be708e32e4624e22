"""`melodygan run`, `demo`, `ui` and `studio`: the graph."""

from __future__ import annotations

import dataclasses
import functools
import signal
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from melodygan_core.cli import options
from melodygan_core.cli.terminal import echo
from melodygan_dagster.cli import summary

if TYPE_CHECKING:
    from melodygan_dagster.deployment import Deployment

DEMO_TRACKS = 14
DEMO_SONG_S = 16.0
PORT = click.IntRange(1, 65_535)
# Exit status of a program that Ctrl+C ended, as shells report it.
INTERRUPTED = 128 + signal.SIGINT


def _with_deployment(function: Any) -> Any:
    """Adds the options of a deployment to a command, which gets the Deployment as its first argument."""
    folder = click.Path(path_type=Path, file_okay=False)

    def option(name: str, **more: Any) -> Any:
        variable = f"MELODYGAN_{name.removeprefix('--').replace('-', '_').upper()}"
        return click.option(name, envvar=variable, show_envvar=True, **more)

    added = [
        option("--sources", type=click.Path(path_type=Path), default="sources.yaml", help="What to ingest."),
        options.store,
        options.preset,
        options.config_file,
        option(
            "--pipelines",
            type=options.NameList(),
            default=(),
            show_default="the config's `train`",
            help="Pipelines to train, separated by commas, such as dense_gan,temporal_gan.",
        ),
        options.start_from,
        options.start_parts,
        options.tensorboard,
        option("--separation-model", default="", help="Such as `centre`; the preset's when empty."),
        options.model_dir,
        option("--allow-roots", type=folder, multiple=True, help="More folders for `path:` sources."),
        option("--train-on-unknown", is_flag=True, help="Train on tracks whose rights are unknown."),
        option("--allow-private", is_flag=True, help="Fetch from loopback and private addresses, too."),
    ]

    @functools.wraps(function)
    def command(
        sources: Path,
        store: str,
        preset: str,
        pipelines: tuple[str, ...],
        start_from: str,
        start_parts: tuple[str, ...],
        tensorboard: str,
        separation_model: str,
        model_dir: str,
        config: Path | None,
        allow_roots: tuple[Path, ...],
        train_on_unknown: bool,
        allow_private: bool,
        **others: Any,
    ) -> None:
        from melodygan_dagster.deployment import Deployment

        deployment = Deployment(
            store,
            sources,
            preset,
            train_on_unknown=train_on_unknown,
            allow_private=allow_private,
            separation_model=separation_model,
            model_dir=model_dir,
            config=config,
            allow_roots=allow_roots,
            pipelines=pipelines,
            start_from=start_from,
            start_parts=start_parts,
            tensorboard=tensorboard,
        )
        function(deployment, **others)

    for add in reversed(added):
        command = add(command)
    return command


@click.command()
@_with_deployment
def run(deployment: Deployment) -> None:
    """Runs the whole graph on your own sources.

    What exists is not made again. Failed tracks and pipelines are reported, the rest continue, and what was
    made is listed at the end. The exit status is 1 when a stage or a pipeline failed.

    With --from, codec, refiner, prior and vocoder begin with the weights of a release. What of it does not fit
    is an error before anything is fetched. The training tracks and licences of the release follow into all that
    comes of it.
    """
    from melodygan_core.config import require
    from melodygan_core.errors import require_extra
    from melodygan_core.services.starting import check_start

    require_extra("`melodygan run`", "dagster")
    require_extra("`melodygan run`", "ingest")
    allowed = "an existing file with your URLs, one per line"
    require(deployment.sources.is_file(), "sources", str(deployment.sources), allowed)
    begun = check_start(deployment.load_config())
    if begun:
        echo(begun)
    if not _run(deployment):
        sys.exit(1)


@click.command()
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("data/demo"),
    help="Folder to write to.",
)
@click.option("--tracks", type=click.IntRange(6, 200), default=DEMO_TRACKS, help="Songs to make.")
def demo(folder: Path, tracks: int) -> None:
    """Runs the whole graph on synthesised songs.

    The songs are served on loopback; no network is needed.
    """
    # Before the songs are made: Dagster may be missing.
    import dagster  # noqa: F401

    from melodygan_core.demo import server
    from melodygan_core.errors import require_extra

    require_extra("`melodygan demo`", "ingest")
    deployment = _demo_deployment(folder)
    echo(f"Making {tracks} songs in {folder / 'site'}")
    server.write_site(folder, tracks, DEMO_SONG_S)
    with server.serve(folder / "site", server.site_port(folder)) as url:
        server.write_sources(folder, url)
        echo(f"Serving them at {url}")
        good = _run(deployment)
    echo("Dagster UI:")
    echo(f"  {summary.command('ui', '--demo', str(folder))}")
    if not good:
        sys.exit(1)


def _with_server(function: Any) -> Any:
    """Adds the options of the web server to a command of a deployment."""
    demo = click.Path(path_type=Path)
    names = "Another name to answer to, as a tunnel or proxy forwards it: localhost:8080, music.example."
    added = [
        _with_deployment,
        click.option("--demo", "demo_folder", type=demo, help="The folder of a demo, in place of a store."),
        click.option(
            "--port", type=PORT, default=3000, help="Port of the UI and the store's sounds, on loopback."
        ),
        click.option("--allowed-host", "allowed_hosts", multiple=True, help=names),
    ]
    for add in reversed(added):
        function = add(function)
    return function


@click.command()
@_with_server
def ui(deployment: Deployment, demo_folder: Path | None, port: int, allowed_hosts: tuple[str, ...]) -> None:
    """Opens the Dagster UI, with the studio, the store's sounds and the gallery.

    It has no password. So it listens on loopback only, and refuses what pages of other sites send to it.
    """
    _serve(deployment, demo_folder, port, allowed_hosts, studio_first=False)


@click.command()
@_with_server
def studio(deployment: Deployment, demo_folder: Path | None, port: int, allowed_hosts: tuple[str, ...]) -> None:
    """Opens the studio: listen to what was made, and make more.

    It is the server of `melodygan ui` and needs all that it needs; Dagster's UI is one click away. It has no
    password. So it listens on loopback only, and refuses what pages of other sites send to it.
    """
    _serve(deployment, demo_folder, port, allowed_hosts, studio_first=True)


def _serve(
    deployment: Deployment, demo_folder: Path | None, port: int, hosts: tuple[str, ...], *, studio_first: bool
) -> None:
    from melodygan_dagster import ui as app

    if demo_folder:
        deployment = _demo_deployment(demo_folder)
    # Somebody is there to listen to how a model learns.
    deployment = dataclasses.replace(deployment, training_sound=studio_first)
    with _demo_site(demo_folder):
        app.serve(deployment, port, hosts, studio_first=studio_first)


def _demo_site(folder: Path | None) -> AbstractContextManager[object]:
    """A demo's songs at their address, so that its sources answer while its UI is open."""
    from melodygan_core.demo import server

    if folder is None or not (folder / "site").is_dir():
        return nullcontext()
    return server.serve(folder / "site", server.site_port(folder))


def _demo_deployment(folder: Path) -> Deployment:
    from melodygan_dagster.deployment import Deployment

    return Deployment(str(folder / "store"), folder / "sources.yaml", "demo", allow_private=True, own_home=True)


def _run(deployment: Deployment) -> bool:
    from melodygan_dagster.runner import run as run_graph

    try:
        return summary.report(deployment, run_graph(deployment))
    except KeyboardInterrupt:
        echo(err=True)  # below the progress bar
        echo("Stopped. The same command continues from here.", err=True)
        sys.exit(INTERRUPTED)
