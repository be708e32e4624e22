"""Runs the real daemon unattended: `python -m scripts.unattended` prints tables for docs/reliability.md.

Tracks are served from loopback. The script adds tracks and sources and never starts a run of theirs; it prints
what the daemon made of them and asserts that it is complete.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import dagster as dg
from rich.console import Console
from rich.table import Table

from melodygan_dagster import track_scheduling
from melodygan_dagster.partitions import PER_TRACK, TRACKS_PER_RUN
from melodygan_dagster.resources import deployed_settings
from tests.conftest import Page
from tests.unattended import (
    ROOT,
    World,
    check,
    computed,
    daemon,
    distributed,
    in_dataset,
    runs_by_stage,
    scattered,
    wait,
    world,
)


def memory_mb(home: str) -> float:
    """Memory of all other processes of a Dagster instance in MB, shared pages counted by share."""
    total = 0
    for pid in distributed(home):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def show(instance: dg.DagsterInstance, world: World, title: str, took_s: float) -> None:
    """Prints runs, tracks, failures and requests."""
    console = Console(width=150)
    runs = runs_by_stage(instance)
    table = Table("stage", "runs", "tracks computed", "found there", title=f"{title} ({took_s:.0f} s)")
    for stage in sorted(runs, key=lambda s: (s not in ("catalogue", *PER_TRACK), s)):
        counts = computed(instance, stage) if stage in PER_TRACK else Counter()
        ended = ", ".join(f"{n} {status.lower()}" for status, n in sorted(runs[stage].items()))
        table.add_row(stage, ended, str(counts["computed"] or ""), str(counts["found"] or ""))
    console.print(table)
    failed = Table("track", "stage", "reason", "tried again", title="Failed tracks")
    for row in track_scheduling.failures(instance, world.deployment.opened, deployed_settings()):
        failed.add_row(row["title"], row["stage"], row["reason"][:90], row["next"][:40])
    console.print(failed)
    hits = world.hits()
    per = Counter(hits[p] for p in world.good), {p: hits[p] for p in world.bad}
    console.print(f"requests a good track: {dict(per[0])}; of the bad ones: {per[1]}")
    console.print(f"memory of the daemon and its runs: {memory_mb(os.environ['DAGSTER_HOME']):.0f} MB")


def unreached(instance: dg.DagsterInstance) -> list[str]:
    """The sources that the latest run of the catalogue could not reach, by its check."""
    key = dg.AssetCheckKey(dg.AssetKey("catalogue"), "sources_reached")
    record = instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key]
    table = record.evaluation.metadata["failed"] if record.evaluation else None
    return [str(r.data["source"]) for r in table.records] if isinstance(table, dg.TableMetadataValue) else []


def look_for_new_items() -> None:
    """Launches the job of the nightly schedule as the schedule does; the daemon runs it."""
    command = [sys.executable, "-m", "dagster", "job", "launch", "-j", "catalogue_job", "-w", "workspace.yaml"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


def main(tracks: int, timeout_s: float) -> None:
    # The folder is kept after a failure.
    folder = Path(tempfile.mkdtemp(prefix="unattended-")).resolve()
    with world(folder, retrain_after=tracks) as made:
        bad = made.bad_ones(5)
        made.write_feed("songs", scattered(made.songs(tracks - len(bad)), bad))
        made.write_feed("other", made.songs(1))
        made.write_sources()
        with made.deployment.instance() as instance, daemon(folder):
            try:
                story(instance, made, timeout_s)
            except BaseException:
                print(f"see {folder}: daemon.log, store/dagster")
                raise
        assert not distributed(os.environ["DAGSTER_HOME"])
    shutil.rmtree(folder)


def story(instance: dg.DagsterInstance, made: World, timeout_s: float) -> None:
    """New tracks, ten more, a feed that grew, a source that is down: after each, shows and checks the store."""
    took = wait("tracks", lambda: in_dataset(instance, made), timeout_s)
    show(instance, made, f"{len(made.good)} good tracks and {len(made.bad)} bad ones", took)
    check(instance, made)
    # Runs that reported tracks. On a busy machine the daemon may give up on a run before it starts.
    few = -(-(len(made.good) + len(made.bad)) // TRACKS_PER_RUN)
    assert {
        stage: len(track_scheduling.reported_runs(instance, stage)) for stage in PER_TRACK
    } == dict.fromkeys(PER_TRACK, few)
    before = made.hits()

    made.singles += made.songs(10)
    made.write_sources()
    took = wait("new tracks", lambda: in_dataset(instance, made, models=True), timeout_s)
    show(instance, made, "10 more in sources.yaml, and the models, which waited for as many tracks", took)
    check(instance, made)

    made.write_feed("songs", [*made.feeds["songs"], *made.songs(5)])
    look_for_new_items()
    took = wait("new items", lambda: in_dataset(instance, made), timeout_s)
    show(instance, made, "5 new items of a feed", took)
    check(instance, made)

    made.site.pages["/other.xml"] = Page(status=(503,))
    made.singles += made.songs(1)
    made.write_sources()
    took = wait("tracks beside a source that is down", lambda: in_dataset(instance, made), timeout_s)
    show(instance, made, "1 more while a source is down", took)
    check(instance, made)
    assert unreached(instance) == [f"{made.site.base_url}/other.xml"]
    print("not reached:", unreached(instance))
    after = made.hits()
    assert {p: after[p] for p in before} == before, "a track was fetched again"
    assert runs_by_stage(instance)["training"].total() == 1, "trained again on little that is new"
    assert all(computed(instance, stage) == {"computed": len(made.good)} for stage in PER_TRACK)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tracks", type=int, default=120)
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds to wait for each part")
    arguments = parser.parse_args()
    main(arguments.tracks, arguments.timeout)
