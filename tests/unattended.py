"""A deployment that the real daemon works on, with tracks from loopback, and what is expected of its store.

For `tests/dagster/test_daemon.py` and `scripts/unattended.py`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
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

from melodygan_core import catalogue
from melodygan_core.audio import write_wav
from melodygan_dagster import track_scheduling
from melodygan_dagster.deployment import Deployment
from melodygan_dagster.partitions import PER_TRACK, TRACKS, track_of
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
# Models that train in seconds. Tones are near-duplicates of each other.
SMALL = {
    "dataset": {"near_duplicates": False},
    "vocoder": {
        "width": 24,
        "blocks": 1,
        "disc_channels": 2,
        "optimizer": {"max_steps": 20, "batch_size": 4},
    },
    "codecs": {
        "dense": {"hidden_sizes": [64, 16], "optimizer": {"max_steps": 40, "batch_size": 32}},
        "temporal": {
            "width": 48,
            "blocks": 1,
            "crop_tokens": 16,
            "optimizer": {"max_steps": 40, "batch_size": 8},
        },
    },
    "refiner": {"width": 24, "blocks": 1, "optimizer": {"max_steps": 20, "batch_size": 8}},
    "priors": {
        "dense": {
            "gan": {"noise_dim": 32, "hidden_size": 64, "layers": 2, "optimizer": {"max_steps": 60}},
        },
        "temporal": {
            "gan": {"patch_tokens": 8, "width": 16, "optimizer": {"max_steps": 40, "batch_size": 8}},
        },
    },
}


def sound(number: int, folder: Path, duration_s: float = 1.6) -> bytes:
    """A wav file of two tones that differ for every number."""
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
        good: Path to URL of each track that belongs in the dataset.
        bad: Path to URL of each track that cannot be made.
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
        """Adds good tracks and returns their URLs."""
        made = []
        for _ in range(count):
            number = len(self.good)
            path = f"/song-{number:03}.wav"
            self.good[path] = self.site.add(path, sound(number, self.folder))
            made.append(self.good[path])
        return made

    def bad_ones(self, count: int) -> list[str]:
        """Adds tracks that cannot be made, each for another reason, and returns their URLs."""
        pages = BAD | {"short": Page(sound(0, self.folder, 0.1))}
        made = []
        for name in list(pages)[:count]:
            path = f"/{name}.wav"
            self.site.pages[path] = pages[name]
            self.bad[path] = self.site.base_url + path
            made.append(self.bad[path])
        return made

    def write_feed(self, name: str, urls: list[str]) -> None:
        """Replaces what a feed lists."""
        self.feeds[name] = urls
        item = '<item><title>{0}</title><enclosure url="{1}" length="1" type="audio/wav"/></item>'
        items = "".join(item.format(url.rpartition("/")[2], url) for url in urls)
        body = f'<?xml version="1.0"?><rss version="2.0"><channel><title>{name}</title>{items}</channel></rss>'
        self.site.add(f"/{name}.xml", body.encode(), content_type="application/rss+xml")

    def write_sources(self) -> None:
        """Writes sources.yaml: every feed and every single."""
        urls = [f"{self.site.base_url}/{name}.xml" for name in self.feeds] + self.singles
        sources = [{"url": url, "licence": "CC0-1.0", "rights": "own"} for url in urls]
        new = self.deployment.sources.with_suffix(".new")
        new.write_text(yaml.safe_dump({"sources": sources}), "utf-8")
        new.replace(self.deployment.sources)

    def hits(self) -> dict[str, int]:
        """Requests so far per track."""
        return {path: self.site.hits[path] for path in (*self.good, *self.bad)}


@contextmanager
def world(folder: Path, retrain_after: int = 0, tick_s: int = 10) -> Iterator[World]:
    """Yields an empty deployment in a folder; its settings are in the environment until the block ends."""
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
    """Runs `dagster-daemon run` as a user starts it; kills all of its processes at the end."""
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
    """Pids of all other processes that work on a Dagster instance."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"DAGSTER_HOME={home}".encode() in environment and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


def wait(what: str, done: Callable[[], bool], timeout_s: float) -> float:
    """Waits until something is done and returns how many seconds it took.

    Raises:
        TimeoutError: it did not happen in time.
    """
    started = time.monotonic()
    while not done():
        if time.monotonic() - started > timeout_s:
            raise TimeoutError(f"{what}: must happen within {timeout_s:.0f} s")
        time.sleep(2)
    return time.monotonic() - started


def in_dataset(instance: dg.DagsterInstance, world: World, models: bool = False) -> bool:
    """Whether every good track is in the dataset (and was trained on), and no run is due, queued or started."""
    record = world.deployment.opened.record("feature_table")
    if record is None or record.metrics["tracks"] != len(world.good):
        return False
    # Whether it failed or not: a model of so little sound may fail its checks.
    if models and not instance.get_runs_count(dg.RunsFilter(job_name="training_job")):
        return False
    unfinished = instance.get_runs_count(dg.RunsFilter(statuses=list(track_scheduling.NOT_FINISHED_STATUSES)))
    return unfinished == 0 and not any(due(instance, world).values())


def due(instance: dg.DagsterInstance, world: World) -> dict[str, list[track_scheduling.Batch]]:
    return track_scheduling.due(instance, world.deployment.opened, deployed_settings(), datetime.now(UTC))


def runs_by_stage(instance: dg.DagsterInstance) -> dict[str, Counter[str]]:
    """Number of runs by asset or job and by status."""
    found: dict[str, Counter[str]] = {}
    for run in instance.get_runs():
        name = run.job_name.removesuffix("_job")
        if name == "__ASSET_JOB":
            name = ", ".join(sorted(k.to_user_string() for k in run.asset_selection or ()))
        found.setdefault(name, Counter())[run.status.value] += 1
    return found


def computed(instance: dg.DagsterInstance, stage: str) -> Counter[str]:
    """Number of materializations of a stage that computed their track, and that found it."""
    records = instance.fetch_materializations(dg.AssetKey(stage), limit=5000).records
    made = [r.asset_materialization for r in records]
    return Counter("computed" if m and m.metadata["computed"].value else "found" for m in made)


def scattered(good: list[str], bad: list[str]) -> list[str]:
    """The good URLs with the bad ones among them, at equal distances."""
    listed = list(good)
    for k, url in enumerate(bad):
        listed.insert((k + 1) * len(listed) // (len(bad) + 1), url)
    return listed


def check(instance: dg.DagsterInstance, world: World) -> None:
    """Asserts that every good track exists and is recorded once, and that every bad one is reported."""
    ids = {t.url: t.track_id for t in catalogue.load(world.deployment.opened)}
    good, bad = ({ids[u] for u in urls.values()} for urls in (world.good, world.bad))
    for stage in PER_TRACK:
        assert set(map(track_of, instance.get_materialized_partitions(dg.AssetKey(stage)))) == good, stage
        assert computed(instance, stage).total() == len(good), (stage, computed(instance, stage))
    named = track_scheduling.failures(instance, world.deployment.opened, deployed_settings())
    assert {row["track"] for row in named} == bad
    assert all(
        row["stage"] == "raw_wav" and row["reason"] and row["next"] == track_scheduling.NEVER for row in named
    )
    assert set(map(track_of, instance.get_dynamic_partitions(TRACKS))) == good | bad
    # Nothing is left that never ends.
    assert instance.get_runs_count(dg.RunsFilter(statuses=list(track_scheduling.NOT_FINISHED_STATUSES))) == 0


def power_cut(instance: dg.DagsterInstance, job: str) -> str:
    """Sends SIGKILL to all processes of the instance while a job runs; returns the id of its run."""
    [run] = instance.get_runs(dg.RunsFilter(job_name=job, statuses=[dg.DagsterRunStatus.STARTED]))
    for pid in distributed(os.environ["DAGSTER_HOME"]):
        os.kill(pid, signal.SIGKILL)
    return run.run_id
