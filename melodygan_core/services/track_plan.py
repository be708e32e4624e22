"""The plan of a track of a store, as a file that names the track."""

from __future__ import annotations

from pathlib import Path

from melodygan_core import catalogue
from melodygan_core.config import require
from melodygan_core.config.registry import codec_names
from melodygan_core.errors import InputError
from melodygan_core.maintenance.tracks import resolve
from melodygan_core.plan import Plan
from melodygan_core.plan.files import write_plan
from melodygan_core.plan.midi import write_midi
from melodygan_core.plan.table import name_of, track_plan
from melodygan_core.storage import Artifact, Store


def save_track_plan(store: Store, track: str, out: Path) -> Plan:
    """Writes the plan of a track, and the same as MIDI beside it; the file names the track as its source.

    Args:
        store: Has a plan table.
        track: A track id or URL.
        out: A new file whose name ends in `.parquet`.

    Raises:
        InputError: no plan table, no such track in it, or a file that exists or is named otherwise.
    """
    require(out.suffix == ".parquet", "out", str(out), "a file whose name ends in .parquet")
    midi = out.with_suffix(".mid")
    for path in (out, midi):
        require(not path.exists(), "out", str(path), "a new file")
    require(out.absolute().parent.is_dir(), "out", str(out), "in a folder that exists")
    table = _table(store)
    (track_id,) = resolve(store, [track])
    plan = track_plan(table, store, track_id, table.config["stems"][0])
    rows = [t for t in catalogue.load(store) if t.track_id == track_id]
    source = {"track_id": track_id}
    for row in rows:
        source |= {"title": row.title, "url": row.url, "licence": row.licence}
    write_plan(out, plan, source)
    write_midi(midi, plan)
    return plan


def _table(store: Store) -> Artifact:
    """The plan table in use of the first codec that has one."""
    for codec in codec_names():
        made = store.record(name_of(codec))
        if made is not None:
            return made
    raise InputError("store must have a plan table: train temporal_plan first, or its asset plan_table")
