"""`melodygan doctor`, `forget` and `retry`: what lies in a store."""

from __future__ import annotations

import sys

import click


@click.command()
@click.option("--store", envvar="MELODYGAN_STORE", default="data", help="Root of the store.")
@click.option("--model-dir", envvar="MELODYGAN_MODEL_DIR", default="", help="Folder of separation models.")
@click.option("--quick", is_flag=True, help="Hash nothing: what is there, and what names what.")
@click.option("--repair", is_flag=True, help="Remove what is not whole, so that the next run makes it again.")
def doctor(store: str, model_dir: str, quick: bool, repair: bool) -> None:
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
    lines, healthy = checkup.verify(store, quick=quick, repair=repair)
    for line in lines:
        click.echo(line)
    if not healthy or not all(f.good or not f.needed for f in findings):
        sys.exit(1)


@click.command()
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
    from melodygan_dagster import erasure as command

    if undo:
        command.undo(store, tracks)
        return
    found = command.found(store, tracks)
    if not yes:
        click.confirm(f"Remove {', '.join(found)} from {store}? It cannot be undone", abort=True)
    command.forget(store, found)


@click.command()
@click.argument("tracks", nargs=-1, metavar="[TRACK...]")
@click.option("--store", envvar="MELODYGAN_STORE", default="data", help="Root of the store.")
@click.option("--all", "every", is_flag=True, help="All tracks that failed for good.")
def retry(tracks: tuple[str, ...], store: str, every: bool) -> None:
    """Lets the next run try tracks again that failed for good (a URL that was dead and answers again)."""
    from melodygan_dagster import erasure as command

    if bool(tracks) == every:
        raise click.UsageError("name tracks, or give --all")
    for track_id in command.retry(store, tracks):
        click.echo(f"{track_id} will be tried again")
