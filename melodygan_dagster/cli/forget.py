"""`melodygan forget`: the core removes tracks, Dagster their partitions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from melodygan_core.cli import options
from melodygan_core.cli.terminal import confirm, echo

if TYPE_CHECKING:
    from melodygan_dagster.deployment import Deployment


@click.command()
@click.argument("tracks", nargs=-1, required=True, metavar="TRACK...")
@options.store
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--undo", is_flag=True, help="Let the next run fetch forgotten tracks again; restores no file.")
def forget(tracks: tuple[str, ...], store: str, yes: bool, undo: bool) -> None:
    """Removes tracks and what is derived from them.

    TRACK is a track_id or a URL. Raw wavs, stems, features, pictures, rows in every dataset, latent tables and
    galleries are removed for good; no source brings the track back. `--undo` restores none of these files: it
    only lets the next run fetch the track again.

    Models, samples, evaluations and releases stay: WEIGHTS MAY STILL HOLD WHAT WAS LEARNED FROM A TRACK. This
    command, `doctor` and the UI list them; to remove what was learned, train again without the track
    (`melodygan run`) and delete the listed folders. Delete copies outside the store, also of releases,
    yourself; Dagster's event log keeps titles and URLs.
    """
    from melodygan_core.maintenance import erasure
    from melodygan_core.maintenance.tracks import resolve
    from melodygan_core.storage import Store

    opened = Store(store)
    opened.require_exists()
    if undo:
        for line in erasure.undone(erasure.undo(opened, tracks)):
            echo(line)
        return
    track_ids = resolve(opened, tracks)
    deployment = _deployment(store)
    if not yes:
        confirm(erasure.confirmation(opened, track_ids))
    for line in erasure.describe(erasure.forget(opened, track_ids)):
        echo(line)
    if deployment is not None:
        echo(f"Dagster: {_drop_partitions(deployment, track_ids)} removed")


def _deployment(store: str) -> Deployment | None:
    """The deployment of a store; None if it has no Dagster instance.

    Raises:
        ModuleNotFoundError: there is an instance, and Dagster is not installed.
        StorageError: its database cannot be written.
    """
    from melodygan_dagster import database
    from melodygan_dagster.deployment import Deployment

    deployment = Deployment(store, Path("sources.yaml"), "small")
    if not (deployment.home / "dagster.yaml").exists():
        return None
    # Before anything is removed.
    import dagster  # noqa: F401

    database.check(deployment.home)

    return deployment


def _drop_partitions(deployment: Deployment, track_ids: Sequence[str]) -> str:
    from melodygan_dagster.database import database_errors
    from melodygan_dagster.partitions import TRACKS, keys_by_track

    with database_errors(deployment.home), deployment.instance() as instance:
        keys = keys_by_track(instance.get_dynamic_partitions(TRACKS))
        known = [keys[t] for t in track_ids if t in keys]
        for key in known:
            instance.delete_dynamic_partition(TRACKS, key)
    return f"{len(known)} partition{'' if len(known) == 1 else 's'}"
