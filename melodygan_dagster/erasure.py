"""`melodygan forget` and `retry`: the core does it; Dagster forgets the partition."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from melodygan_core.errors import InputError
from melodygan_core.maintenance import erasure
from melodygan_core.storage import listing
from melodygan_core.storage.store import Store
from melodygan_dagster.doctor import SHOWN, mark_line


def found(root: str, names: Sequence[str]) -> list[str]:
    """The track_ids of names.

    Raises:
        InputError: a name of no track.
    """
    return erasure.resolve(Store(root), names)


def forget(root: str, track_ids: Sequence[str]) -> None:
    """Forgets tracks and says what went, what stays and what to do about that."""
    store = Store(root)
    made = erasure.forget(store, track_ids)
    partitions = _drop_partitions(store, track_ids)
    click.echo(f"forgotten: {', '.join(made.track_ids)}; {len(made.removed)} files and folders, {partitions}")
    for uri in made.removed[:SHOWN]:
        click.echo(f"  {uri}")
    if len(made.removed) > SHOWN:
        click.echo(f"  and {len(made.removed) - SHOWN} more")
    trained = [m for m in made.marks if m.trained]
    if trained:
        kinds = ", ".join(f"{n} {kind}" for kind, n in Counter(m.name for m in trained).items())
        click.echo(f"Still here, made of what was learned from it ({kinds}); train again to be rid of it:")
    for mark in made.marks:
        click.echo(f"  {mark.uri}: {mark_line(mark)}")
    if made.running:
        click.echo(f"At work, and not touched: {', '.join(made.running)}. Forget once more when that is done.")


def undo(root: str, names: Sequence[str]) -> None:
    """Takes tombstones away."""
    for track_id in erasure.recall(Store(root), names):
        click.echo(f"{track_id} may be listed and fetched again by the next run")


def retry(root: str, names: Sequence[str]) -> list[str]:
    """Removes the records of permanent failures; of all tracks when none is named.

    Raises:
        InputError: a track that has no such record.
    """
    store = Store(root)
    suffix = ".error.json"
    raw = listing.names(store.raw_error("").parent)
    failed = sorted(name.removesuffix(suffix) for name in raw if name.endswith(suffix))
    track_ids = erasure.resolve(store, names) if names else failed
    for track_id in track_ids:
        if track_id not in failed:
            raise InputError(f"track is {track_id!r}; allowed: one of the {len(failed)} that failed for good")
        with store.lock(f"raw/{track_id}"):
            store.raw_error(track_id).unlink(missing_ok=True)
    return track_ids


def _drop_partitions(store: Store, track_ids: Sequence[str]) -> str:
    """Removes the tracks' partitions from the deployment's Dagster instance, if there is one."""
    from melodygan_dagster.deployment import Deployment

    deployment = Deployment(store.root, Path("sources.yaml"), "small")
    if not (deployment.home / "dagster.yaml").exists():
        return "no Dagster instance"
    from melodygan_dagster.partitions import TRACKS

    with deployment.instance() as instance:
        known = [t for t in track_ids if instance.has_dynamic_partition(TRACKS, t)]
        for track_id in known:
            instance.delete_dynamic_partition(TRACKS, track_id)
    return f"{len(known)} partitions"
