"""`melodygan plan`: what a track plays, for `generate --plan`."""

from __future__ import annotations

from pathlib import Path

import click

from melodygan_core.cli import options
from melodygan_core.cli.terminal import echo


@click.command()
@click.argument("track")
@options.store
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("plan.parquet"),
    help="New file to write to; the same as MIDI goes beside it.",
)
def plan(track: str, store: str, out: Path) -> None:
    """Writes the plan of a track of a store.

    TRACK is a track id or URL. The plan (harmony, melody, onsets, metre, loudness and sections) names the track
    as its source, and so does every piece that `generate --plan` makes of it.
    """
    from melodygan_core.services.track_plan import save_track_plan
    from melodygan_core.storage import Store

    opened = Store(store)
    opened.require_exists()
    made = save_track_plan(opened, track, out)
    echo(f"{out}  {made.duration_s:.1f} s")
