"""`melodygan run`, `demo` and `ui`: the graph."""

from __future__ import annotations

import functools
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from melodygan_core.config.presets import PRESETS
from melodygan_dagster.cli import summary

if TYPE_CHECKING:
    from melodygan_dagster.deployment import Deployment

DEMO_TRACKS = 14
DEMO_SONG_S = 16.0


def _with_deployment(function: Any) -> Any:
    """Gives a command the options of a deployment, and the Deployment that they make as its first argument."""
    folder = click.Path(path_type=Path, file_okay=False)
    file = click.Path(path_type=Path, dir_okay=False, exists=True)

    def option(name: str, **more: Any) -> Any:
        variable = f"MELODYGAN_{name.removeprefix('--').replace('-', '_').upper()}"
        return click.option(name, envvar=variable, show_envvar=True, **more)

    options = [
        option("--sources", type=click.Path(path_type=Path), default="sources.yaml", help="What to ingest."),
        option("--store", default="data", help="Root of everything made: a folder or an fsspec URI."),
        option("--preset", type=click.Choice(list(PRESETS)), default="small", help="Size of the models."),
        option("--config", type=file, help="YAML of settings that differ from the preset's."),
        option("--separation-model", default="", help="Such as `centre`; the preset's when empty."),
        option("--model-dir", default="", help="Where separation models are kept; a cache when empty."),
        option("--allow-roots", type=folder, multiple=True, help="Where `path:` sources may lie, too."),
        option("--train-on-unknown", is_flag=True, help="Train on tracks whose rights are unknown."),
        option("--allow-private", is_flag=True, help="Fetch from loopback and private addresses, too."),
    ]

    @functools.wraps(function)
    def command(
        sources: Path,
        store: str,
        preset: str,
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
        )
        function(deployment, **others)

    for add in reversed(options):
        command = add(command)
    return command


@click.command()
@_with_deployment
def run(deployment: Deployment) -> None:
    """Runs the whole graph on your own sources, stage by stage; what is there already is not made again."""
    if not deployment.sources.is_file():
        raise click.ClickException(f"{deployment.sources} does not exist: put your URLs in it, one a line")
    if not _run(deployment):
        sys.exit(1)


@click.command()
@click.option("--dir", "folder", type=click.Path(path_type=Path), default=Path("data/demo"), help="Where to.")
@click.option("--tracks", type=click.IntRange(6, 200), default=DEMO_TRACKS, help="Songs to make.")
def demo(folder: Path, tracks: int) -> None:
    """Makes songs, serves them on loopback, and runs the whole graph on them."""
    from melodygan_core.demo import server, site

    deployment = _demo_deployment(folder)
    click.echo(f"Making {tracks} songs in {folder / 'site'}")
    site.make(folder, tracks, DEMO_SONG_S)
    with server.serve(folder / "site", site.port(folder)) as url:
        site.write_sources(folder, url)
        click.echo(f"Serving them at {url}")
        good = _run(deployment)
    if not good:
        sys.exit(1)
    click.echo("Open the Dagster UI on what was made: make ui")


@click.command()
@_with_deployment
@click.option(
    "--demo", "demo_folder", type=click.Path(path_type=Path), help="The UI of a demo's folder instead."
)
@click.option("--port", default=3000, help="Of the Dagster UI, on loopback.")
@click.option("--listen-port", default=3030, help="Where sounds and galleries are served, on loopback.")
def ui(deployment: Deployment, demo_folder: Path | None, port: int, listen_port: int) -> None:
    """Opens the Dagster UI, with the sounds of the store beside it. Loopback only: it has no password."""
    from melodygan_dagster import ui as app

    if demo_folder:
        deployment = _demo_deployment(demo_folder)
    with _demo_site(demo_folder):
        status = app.serve(deployment, port, listen_port)
    sys.exit(status)


def _demo_site(folder: Path | None) -> AbstractContextManager[object]:
    """A demo's songs at their address, so that its sources answer while its UI is open."""
    from melodygan_core.demo import server, site

    if folder is None or not (folder / "site").is_dir():
        return nullcontext()
    return server.serve(folder / "site", site.port(folder))


def _demo_deployment(folder: Path) -> Deployment:
    from melodygan_dagster.deployment import Deployment

    return Deployment(str(folder / "store"), folder / "sources.yaml", "demo", allow_private=True, own_home=True)


def _run(deployment: Deployment) -> bool:
    from melodygan_dagster.runner import run as run_graph

    return summary.report(deployment, run_graph(deployment))
