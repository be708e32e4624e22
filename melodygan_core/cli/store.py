"""`melodygan doctor` and `retry`: a machine and a store."""

from __future__ import annotations

import sys

import click

from melodygan_core.cli import options
from melodygan_core.cli.terminal import echo


@click.command()
@options.store
@options.model_dir
@click.option("--quick", is_flag=True, help="Hash nothing: check existence, sizes and references only.")
@click.option(
    "--repair", is_flag=True, help="Remove what is incomplete or damaged: the next run makes it again."
)
@click.pass_context
def doctor(ctx: click.Context, store: str, model_dir: str, quick: bool, repair: bool) -> None:
    """Checks this machine and a store.

    Looks for ffmpeg, yt-dlp and its JavaScript runtime, models and devices; then reads the whole store,
    compares it with the recorded hashes, and reports what is incomplete, missing or not needed. The exit status
    is 1 when a needed program is missing, or the store is damaged and was not repaired.
    """
    from melodygan_core.storage import Store

    # Before the first run the default store does not exist yet.
    exists = Store(store).base.exists()
    if not exists and ctx.get_parameter_source("store") is not click.core.ParameterSource.DEFAULT:
        Store(store).require_exists()
    from melodygan_core.maintenance import machine
    from melodygan_core.maintenance.doctor import verify

    findings = machine.findings(store, model_dir)
    for finding in findings:
        mark, colour = (
            ("ok", "green") if finding.good else ("missing", "red") if finding.needed else ("note", "yellow")
        )
        echo(f"{finding.what}: {finding.found}", mark=f"{mark:8}", colour=colour)
    lines, healthy = verify(store, quick=quick, repair=repair) if exists else ([], True)
    for line in lines:
        echo(line)
    if not healthy or not all(f.good or not f.needed for f in findings):
        sys.exit(1)


@click.command()
@click.argument("tracks", nargs=-1, metavar="[TRACK...]")
@options.store
@click.option("--all", "every", is_flag=True, help="All tracks that failed for good.")
def retry(tracks: tuple[str, ...], store: str, every: bool) -> None:
    """Lets the next run retry failed tracks.

    For tracks that failed for good, such as a dead URL that answers again. They are named by track_id or URL.
    """
    if bool(tracks) == every:
        raise click.UsageError("name tracks, or give --all")
    from melodygan_core.maintenance.tracks import retry as retry_tracks
    from melodygan_core.storage import Store

    Store(store).require_exists()
    track_ids = retry_tracks(Store(store), tracks)
    for track_id in track_ids:
        echo(f"{track_id} will be tried again")
    if not track_ids:
        echo("No track has failed for good")
