"""MelodyGAN left alone, with the real daemon: `python -m tests.unattended --tracks 120`.

Tracks are served from loopback and nobody lifts a hand; what the daemon made of them is printed and asserted.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from melodygan_core import catalogue
from melodygan_core.audio import write_wav
from melodygan_dagster import track_scheduling
from melodygan_dagster.deployment import Deployment
from melodygan_dagster.partitions import PER_TRACK, TRACKS, TRACKS_PER_RUN
from melodygan_dagster.resources import deployed_settings
from tests.conftest import Page, Site, serving

SAMPLE_RATE = 44_100
ROOT = Path(__file__).parents[1]
BAD = {
    "dead": Page(status=(404,)),
    "text": Page(b"this is no sound\n" * 100),
    "empty": Page(b""),
    "page": Page(b"<html><body>nothing here</body></html>", content_type="text/html"),
}
# Small enough to train in seconds; tones are near-duplicates of each other.
SMALL = {
    "dataset": {"near_duplicates": False},
    "vocoder": {
        "width": 24,
        "blocks": 1,
        "disc_channels": 2,
        "optimizer": {"max_steps": 20, "batch_size": 4},
    },
    "dense": {
        "autoencoder": {"hidden_sizes": [64, 16], "optimizer": {"max_steps": 40, "batch_size": 32}},
        "gan": {"noise_dim": 32, "hidden_size": 64, "layers": 2, "optimizer": {"max_steps": 60}},
    },
    "temporal": {
        "autoencoder": {
            "width": 48,
            "blocks": 1,
            "crop_tokens": 16,
            "optimizer": {"max_steps": 40, "batch_size": 8},
        },
        "gan": {"patch_tokens": 8, "width": 16, "optimizer": {"max_steps": 40, "batch_size": 8}},
    },
}


def sound(number: int, folder: Path, duration_s: float = 1.6) -> bytes:
    """A wav of two tones that no other number has."""
    time_s = np.arange(int(duration_s * SAMPLE_RATE)) / SAMPLE_RATE
    voice = 0.3 * np.sin(2 * np.pi * (200 + 3 * number) * time_s)
    left = 0.2 * np.sin(2 * np.pi * (900 + 7 * number) * time_s)
    path = folder / "sound.wav"
    write_wav(path, np.stack([voice + left, voice]).astype(np.float32), SAMPLE_RATE)
    return path.read_bytes()


@dataclass
class World:
    """A deployment, the site of its sources, and what is expected of it.

    Attributes:
        deployment: Its store, sources and instance.
        site: Serves everything.
        good: Path to URL of each track that is to reach the dataset.
        bad: The same of those that are not.
        feeds: Name to the URLs of its items.
        singles: URLs that are sources themselves.
    """

    deployment: Deployment
    site: Site
    folder: Path
    good: dict[str, str] = field(default_factory=dict)
    bad: dict[str, str] = field(default_factory=dict)
    feeds: dict[str, list[str]] = field(default_factory=dict)
    singles: list[str] = field(default_factory=list)

    def songs(self, count: int) -> list[str]:
        """URLs of that many new good tracks."""
        made = []
        for _ in range(count):
            number = len(self.good)
            path = f"/song-{number:03}.wav"
            self.good[path] = self.site.add(path, sound(number, self.folder))
            made.append(self.good[path])
        return made

    def bad_ones(self, count: int) -> list[str]:
        """URLs of that many tracks that cannot be made, each for another reason."""
        pages = BAD | {"short": Page(sound(0, self.folder, 0.1))}
        made = []
        for name in list(pages)[:count]:
            path = f"/{name}.wav"
            self.site.pages[path] = pages[name]
            self.bad[path] = self.site.base_url + path
            made.append(self.bad[path])
        return made

    def write_feed(self, name: str, urls: list[str]) -> None:
        """What a feed lists from now on."""
        self.feeds[name] = urls
        item = '<item><title>{0}</title><enclosure url="{1}" length="1" type="audio/wav"/></item>'
        items = "".join(item.format(url.rpartition("/")[2], url) for url in urls)
        body = f'<?xml version="1.0"?><rss version="2.0"><channel><title>{name}</title>{items}</channel></rss>'
        self.site.add(f"/{name}.xml", body.encode(), content_type="application/rss+xml")

    def write_sources(self) -> None:
        """What sources.yaml says from now on: every feed and every single."""
        urls = [f"{self.site.base_url}/{name}.xml" for name in self.feeds] + self.singles
        sources = [{"url": url, "licence": "CC0-1.0", "rights": "own"} for url in urls]
        new = self.deployment.sources.with_suffix(".new")
        new.write_text(yaml.safe_dump({"sources": sources}), "utf-8")
        new.replace(self.deployment.sources)

    def hits(self) -> dict[str, int]:
        """Requests of each track so far."""
        return {path: self.site.hits[path] for path in (*self.good, *self.bad)}


@contextmanager
def world(folder: Path, retrain_after: int = 0, tick_s: int = 10) -> Iterator[World]:
    """An empty deployment in a folder; its settings are this process's environment until it ends."""
    before = dict(os.environ)
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(SMALL), "utf-8")
    sources = folder / "sources.yaml"
    deployment = Deployment(
        str(folder / "store"), sources, "demo", allow_private=True, config=config, own_home=True
    )
    os.environ |= {
        "MELODYGAN_TICK_S": str(tick_s),
        "MELODYGAN_RETRAIN_AFTER": str(retrain_after),
        "OMP_NUM_THREADS": "1",
    }
    deployment.instance().dispose()
    try:
        with serving() as site:
            yield World(deployment, site, folder)
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def daemon(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`dagster-daemon run` as a user starts it; leaves no process behind."""
    command = [Path(sys.executable).with_name("dagster-daemon"), "run", "-w", ROOT / "workspace.yaml"]
    with (folder / "daemon.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT, start_new_session=True)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(30)
            finally:
                for pid in distributed(os.environ["DAGSTER_HOME"]):
                    os.kill(pid, signal.SIGKILL)
                wait("every process to end", lambda: not distributed(os.environ["DAGSTER_HOME"]), 60)


def distributed(home: str) -> list[int]:
    """Processes, other than this one, that work on a Dagster instance."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"DAGSTER_HOME={home}".encode() in environment and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


def memory_mb(home: str) -> float:
    """What those processes hold in memory of their own, in megabytes."""
    total = 0
    for pid in distributed(home):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def wait(what: str, done: Callable[[], bool], timeout_s: float) -> float:
    """Waits, and says how long it took.

    Raises:
        TimeoutError: it did not happen in time.
    """
    started = time.monotonic()
    while not done():
        if time.monotonic() - started > timeout_s:
            raise TimeoutError(f"{what}: not within {timeout_s:.0f} s")
        time.sleep(2)
    return time.monotonic() - started


def in_dataset(instance: dg.DagsterInstance, world: World, models: bool = False) -> bool:
    """Whether every good track is in the dataset (and was trained on), and nothing waits or runs."""
    record = world.deployment.opened.record("feature_table")
    if record is None or record.metrics["tracks"] != len(world.good):
        return False
    # However it ends: what so little sound teaches is not good enough for the checks of the models.
    if models and not instance.get_runs_count(dg.RunsFilter(job_name="training_job")):
        return False
    unfinished = instance.get_runs_count(dg.RunsFilter(statuses=list(track_scheduling.NOT_FINISHED_STATUSES)))
    return unfinished == 0 and not any(due(instance, world).values())


def due(instance: dg.DagsterInstance, world: World) -> dict[str, list[track_scheduling.Batch]]:
    return track_scheduling.due(instance, world.deployment.opened, deployed_settings(), datetime.now(UTC))


def runs_by_stage(instance: dg.DagsterInstance) -> dict[str, Counter[str]]:
    """How many runs of each asset or job ended how."""
    found: dict[str, Counter[str]] = {}
    for run in instance.get_runs():
        name = run.job_name.removesuffix("_job")
        if name == "__ASSET_JOB":
            name = ", ".join(sorted(k.to_user_string() for k in run.asset_selection or ()))
        found.setdefault(name, Counter())[run.status.value] += 1
    return found


def computed(instance: dg.DagsterInstance, stage: str) -> Counter[str]:
    """How many materializations of a stage computed their track, and how many found it."""
    records = instance.fetch_materializations(dg.AssetKey(stage), limit=5000).records
    made = [r.asset_materialization for r in records]
    return Counter("computed" if m and m.metadata["computed"].value else "found" for m in made)


def show(instance: dg.DagsterInstance, world: World, title: str, took_s: float) -> None:
    """Prints what there is now."""
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


def scattered(good: list[str], bad: list[str]) -> list[str]:
    """The bad ones among the good ones, at equal distances."""
    listed = list(good)
    for k, url in enumerate(bad):
        listed.insert((k + 1) * len(listed) // (len(bad) + 1), url)
    return listed


def check(instance: dg.DagsterInstance, world: World) -> None:
    """Every good track is there and recorded once, and every bad one is named."""
    ids = {t.url: t.track_id for t in catalogue.load(world.deployment.opened)}
    good, bad = ({ids[u] for u in urls.values()} for urls in (world.good, world.bad))
    for stage in PER_TRACK:
        assert instance.get_materialized_partitions(dg.AssetKey(stage)) == good, stage
        assert computed(instance, stage).total() == len(good), (stage, computed(instance, stage))
    named = track_scheduling.failures(instance, world.deployment.opened, deployed_settings())
    assert {row["track"] for row in named} == bad
    assert all(
        row["stage"] == "raw_wav" and row["reason"] and row["next"] == track_scheduling.NEVER for row in named
    )
    assert set(instance.get_dynamic_partitions(TRACKS)) == good | bad
    # A worker that was let go, or a run that never ended, would be here.
    assert instance.get_runs_count(dg.RunsFilter(statuses=list(track_scheduling.NOT_FINISHED_STATUSES))) == 0


def power_cut(instance: dg.DagsterInstance, job: str) -> str:
    """SIGKILL to everything of the instance while a job runs; the id of its run."""
    [run] = instance.get_runs(dg.RunsFilter(job_name=job, statuses=[dg.DagsterRunStatus.STARTED]))
    for pid in distributed(os.environ["DAGSTER_HOME"]):
        os.kill(pid, signal.SIGKILL)
    return run.run_id


def unreached(instance: dg.DagsterInstance) -> list[str]:
    """The sources that the latest run of the catalogue could not reach, as its check names them."""
    key = dg.AssetCheckKey(dg.AssetKey("catalogue"), "sources_reached")
    record = instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key]
    table = record.evaluation.metadata["failed"] if record.evaluation else None
    return [str(r.data["source"]) for r in table.records] if isinstance(table, dg.TableMetadataValue) else []


def look_for_new_items() -> None:
    """Launches the job of the nightly schedule, as the schedule does: the daemon runs it."""
    command = [sys.executable, "-m", "dagster", "job", "launch", "-j", "catalogue_job", "-w", "workspace.yaml"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


def main(tracks: int, timeout_s: float) -> None:
    # What went wrong can be looked at afterwards.
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
    """New tracks, ten more, a feed that grew, a source that is down; each is shown and checked."""
    took = wait("tracks", lambda: in_dataset(instance, made), timeout_s)
    show(instance, made, f"{len(made.good)} good tracks and {len(made.bad)} bad ones", took)
    check(instance, made)
    # Those that came to their tracks: on a busy machine the daemon may give up on a run before it starts.
    few = -(-(len(made.good) + len(made.bad)) // TRACKS_PER_RUN)
    assert {stage: len(track_scheduling.spoken(instance, stage)) for stage in PER_TRACK} == dict.fromkeys(
        PER_TRACK, few
    )
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
