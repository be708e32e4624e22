"""`melodygan`: the whole graph in one command, and what a release can do without Dagster."""

from __future__ import annotations

import functools
import json
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from melodygan_core.config import GenerationConfig
from melodygan_core.errors import MelodyGANError
from melodygan_core.presets import PRESETS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from melodygan_dagster.deployment import Deployment
    from melodygan_dagster.runner import StageResult

DEMO_TRACKS = 14
DEMO_SONG_S = 16.0


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        """A wrong input is one sentence, not a traceback."""
        try:
            return super().invoke(ctx)
        except MelodyGANError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="melodygan")
def main() -> None:
    """From a list of URLs to new music."""


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


@main.command()
@_with_deployment
def run(deployment: Deployment) -> None:
    """Runs the whole graph on your own sources, stage by stage; what is there already is not made again."""
    if not deployment.sources.is_file():
        raise click.ClickException(f"{deployment.sources} does not exist: put your URLs in it, one a line")
    if not _run(deployment):
        sys.exit(1)


@main.command()
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


@main.command()
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


@main.command()
@click.option("--store", envvar="MELODYGAN_STORE", default="data", help="Root of the store.")
@click.option("--model-dir", envvar="MELODYGAN_MODEL_DIR", default="", help="Folder of separation models.")
@click.option("--quick", is_flag=True, help="Hash nothing: what is there, and what names what.")
@click.option("--mend", is_flag=True, help="Remove what is not whole, so that the next run makes it again.")
def doctor(store: str, model_dir: str, quick: bool, mend: bool) -> None:
    """Tells what is there, and whether all of the store is what was written.

    Looks for ffmpeg, yt-dlp and its JavaScript runtime, models and devices; then reads the whole store,
    compares it with the hashes that were written down, and finds what is torn, missing or needed by nobody. The
    status is 1 when something needed is missing, or something of the store is damaged and was not mended.
    """
    from rich.console import Console
    from rich.table import Table

    from melodygan_dagster import doctor as checkup

    table = Table("", "what", "found")
    findings = checkup.findings(store, model_dir)
    for finding in findings:
        mark = "[green]ok" if finding.good else "[red]missing" if finding.needed else "[yellow]look"
        table.add_row(mark, finding.what, finding.found)
    Console().print(table)
    lines, healthy = checkup.verify(store, quick=quick, mend=mend)
    for line in lines:
        click.echo(line)
    if not healthy or not all(f.good or not f.needed for f in findings):
        sys.exit(1)


@main.command()
@click.argument("tracks", nargs=-1, required=True, metavar="TRACK...")
@click.option("--store", envvar="MELODYGAN_STORE", default="data", help="Root of the store.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--undo", is_flag=True, help="Let the next run fetch forgotten tracks again.")
def forget(tracks: tuple[str, ...], store: str, yes: bool, undo: bool) -> None:
    """Removes tracks (by track_id or URL) with everything that they can be heard in or rebuilt from.

    Sound, stems, features, pictures, the rows in every dataset, latent tables and galleries go, and no source
    brings the track back. Models, samples, evaluations and releases stay: WEIGHTS MAY STILL HOLD WHAT WAS
    LEARNED FROM A TRACK. They are named here, in `doctor` and in the UI; to be rid of it, train again without
    it (`melodygan run`) and delete the folders that are named. Copies outside the store, of releases too, are
    yours to delete; Dagster's log of events keeps titles and URLs.
    """
    from melodygan_dagster import forget as command

    if undo:
        command.undo(store, tracks)
        return
    found = command.found(store, tracks)
    if not yes:
        click.confirm(f"Remove {', '.join(found)} from {store}? It cannot be undone", abort=True)
    command.forget(store, found)


@main.command()
@click.argument("tracks", nargs=-1, metavar="[TRACK...]")
@click.option("--store", envvar="MELODYGAN_STORE", default="data", help="Root of the store.")
@click.option("--all", "every", is_flag=True, help="All tracks that failed for good.")
def retry(tracks: tuple[str, ...], store: str, every: bool) -> None:
    """Lets the next run try tracks again that failed for good (a URL that was dead and answers again)."""
    from melodygan_dagster import forget as command

    if bool(tracks) == every:
        raise click.UsageError("name tracks, or give --all")
    for track_id in command.retry(store, tracks):
        click.echo(f"{track_id} will be tried again")


@main.command()
@click.argument("release_dir", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--count", default=GenerationConfig.count, help="Samples.")
@click.option("--seconds", default=GenerationConfig.duration_s, help="Length of each.")
@click.option("--seed", default=GenerationConfig.seed, help="Sample k of a seed is always the same.")
@click.option("--truncation", default=GenerationConfig.truncation, help="Limit of the noise; 0 for none.")
@click.option("--condition", default="", help="A stem or tag that the model was trained with.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=Path("samples"), help="Where to."
)
def generate(
    release_dir: Path, count: int, seconds: float, seed: int, truncation: float, condition: str, out: Path
) -> None:
    """Makes new sound from a release folder; needs no Dagster.

    Warns when a track that it was trained on was forgotten since: only of a folder that lies in its store,
    because a copy elsewhere does not know.
    """
    from melodygan_core import forgetting, generation, release

    forgotten = forgetting.in_release(release_dir)
    if forgotten:
        click.echo(f"Warning: trained on {', '.join(forgotten)}, forgotten since: train again", err=True)
    models, description = release.load(release_dir)
    config = GenerationConfig(
        count=count, duration_s=seconds, seed=seed, truncation=truncation, condition=condition
    )
    out.mkdir(parents=True, exist_ok=True)
    provenance = {k: description[k] for k in ("models", "sources")} | {"release": description["version"]}
    samples = generation.write_pieces(models, config, out, provenance)
    for sample in samples:
        click.echo(f"{out / sample['file']}  {sample['duration_s']} s  {sample['loudness_lufs']} LUFS")
    click.echo(f"Licences of what it was trained on: {', '.join(description['sources']['licences'])}")


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

    return _report(deployment, run_graph(deployment))


def _report(deployment: Deployment, results: Iterable[StageResult]) -> bool:
    """Prints each stage as it ends and then what was made; says whether the whole graph is there."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    good = True
    for result in results:
        mark = "[green]done" if result.success else "[yellow]partly" if result.failed else "[red]failed"
        console.print(f"{mark}[/] {result.job} in {result.duration_s:.0f} s", highlight=False)
        good &= result.success or bool(result.failed)
        if result.failed:
            for track, reason in list(result.failed.items())[:20]:
                console.print(f"  {track}: {reason}", markup=False)
        elif not result.success:
            console.print(f"  {result.reason}", markup=False)
    table = Table("asset", "made", "where", title="What there is now")
    for row in _made(deployment):
        table.add_row(*row)
    console.print(table)
    release = deployment.opened.record("dense/release")
    if good and release is not None:
        folder = deployment.opened.at(release.uri)
        console.print(f"Make more: melodygan generate {folder}", soft_wrap=True, highlight=False)
    gallery = deployment.opened.record("gallery")
    if good and gallery is not None:
        page = deployment.opened.at(gallery.uri) / gallery.metrics["page"]
        console.print(f"Listen: {page}", soft_wrap=True, highlight=False)
    return good


def _made(deployment: Deployment) -> list[tuple[str, str, str]]:
    from melodygan_core import catalogue

    store = deployment.opened
    tracks = catalogue.load(store)
    fetched = sum(store.raw_json(t.track_id).exists() for t in tracks)
    rows = [("catalogue", f"{len(tracks)} tracks, {fetched} fetched", "catalogue.parquet")]
    shown = {
        "feature_table": ("train/segments", "validation/segments", "test/segments"),
        "dense/autoencoder_checkpoint": ("test/explained_variance", "test/explained_variance_pca", "steps"),
        "dense/latent_table": ("rows", "latent_dim", "alive_dims"),
        "dense/gan_checkpoint": ("validation/kad", "validation/kad_floor", "diversity", "steps"),
        "dense/generated_samples": (),
        "dense/evaluation": ("floor/kad", "autoencoder/kad", "generated/kad", "generated/coverage"),
        "dense/release": ("generated/excess_kad",),
        "gallery": ("sounds",),
    }
    for name, figures in shown.items():
        made = store.record(name)
        if made is None:
            rows.append((name, "-", ""))
            continue
        parts = [f"{f} {_short(made.metrics[f])}" for f in figures if f in made.metrics]
        if "samples" in made.metrics:
            parts.append(f"{len(made.metrics['samples'])} wavs")
        rows.append((name, ", ".join(parts), made.uri))
    return rows


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else json.dumps(value)
