"""Kills stages and looks at what is left.

The *ground* is one undisturbed run, stage by stage. An *episode* takes a copy of its store as it was before a
stage, kills the stage once or more, lets it finish, and compares the store with the undisturbed one.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import yaml

from melodygan_core.demo import songs
from melodygan_core.maintenance import inspection
from melodygan_core.storage.store import Store
from tests import stages
from tests.conftest import Site
from tests.contents import contents, differences, hidden, relatives, split
from tests.stages import PRESET, STAGES

# Some of the songs come by yt-dlp, which costs two seconds each, the others from a folder.
SERVED, OWN, SONG_S = 2, 4, 7.0
# Python is started for each of these.
WHOLE = "melodygan run"
COMMAND = "import tests.stages; from melodygan_dagster.cli import main; main()"


@dataclass(frozen=True)
class Kill:
    """When: after some time, or before the k-th change of a file; and whether the children are killed, too."""

    after_s: float = 0.0
    before_change: int = 0
    group: bool = False

    @property
    def kind(self) -> str:
        """For the report."""
        return "change" if self.before_change else "moment, children too" if self.group else "moment"


@dataclass
class Tally:
    """What came of the kills so far."""

    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    episodes: int = 0
    resumed: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    left_files: int = 0
    left_bytes: int = 0

    def of(self, stage: str) -> int:
        """Kills of a stage."""
        return sum(n for (name, _), n in self.kills.items() if name == stage)


@dataclass
class Ground:
    """One undisturbed run: the store before each stage, its contents after, and what each stage took."""

    folder: Path
    site: Site
    sources: Path
    tally: Tally = field(default_factory=Tally)
    stores: dict[str, Path] = field(default_factory=dict)
    after: dict[str, dict[str, str]] = field(default_factory=dict)
    duration_s: dict[str, float] = field(default_factory=dict)
    changes: dict[str, int] = field(default_factory=dict)

    def copy(self, stage: str) -> Path:
        """A store as the stage found it; files are links, because nothing may be changed in place."""
        root = self.folder / f"episode-{self.tally.episodes}" / "store"
        shutil.copytree(self.stores[stage], root, copy_function=os.link)
        self.tally.episodes += 1
        return root

    def begun(self) -> Iterator[tuple[Path, dict[str, str]]]:
        """Each stage's store and what it must hold, for the copies share files with it."""
        for before, stage in pairwise(STAGES):
            yield self.stores[stage], self.after[before]

    def finish(self, stage: str, root: Path) -> None:
        """Runs a stage, undisturbed."""
        process = stages.process(stage, root, self.sources)
        process.join()
        log = (root.parent / "log").read_text("utf-8", "replace")
        assert process.exitcode == 0, f"{stage} ended with {process.exitcode}:\n{log[-3000:]}"


def lay(folder: Path, site: Site) -> Ground:
    """Makes songs, sources and the undisturbed run."""
    stages.start_server()
    paths = songs.write_songs(folder / "songs", SERVED + OWN, SONG_S)
    items = ""
    for path in paths[:SERVED]:
        url = site.add(f"/{path.name}", path.read_bytes(), content_type="audio/flac")
        items += f'<item><title>{path.stem}</title><enclosure url="{url}" length="1" type="audio/flac"/></item>'
        path.unlink()
    feed = f'<?xml version="1.0"?><rss version="2.0"><channel><title>Songs</title>{items}</channel></rss>'
    url = site.add("/feed.xml", feed.encode(), content_type="application/rss+xml")
    common = {"licence": "CC0-1.0", "rights": "own"}
    sources = folder / "sources.yaml"
    sources.write_text(yaml.safe_dump({"sources": [{"url": url, **common}, {"path": "songs", **common}]}))
    ground = Ground(folder, site, sources)
    root = folder / "undisturbed" / "store"
    root.mkdir(parents=True)
    for stage in STAGES:
        ground.stores[stage] = folder / "before" / stage
        shutil.copytree(
            root, ground.stores[stage], copy_function=os.link, ignore=shutil.ignore_patterns("work")
        )
        started = time.monotonic()
        ground.finish(stage, root)
        ground.duration_s[stage] = time.monotonic() - started
        ground.changes[stage] = int((root.parent / "events").read_text())
        ground.after[stage] = contents(root)
    return ground


class _Observer:
    """What must hold of one store whenever a process of it has ended."""

    def __init__(self, ground: Ground, stage: str, root: Path) -> None:
        self.ground, self.stage, self.root = ground, stage, root
        # A whole run writes what Dagster shows, too.
        last = STAGES[-1] if stage == WHOLE else stage
        self.wanted = ground.after[last]
        self.allowed = [contents(root), *(c for s, c in ground.after.items() if stage in (s, WHOLE))]

    def start(self) -> None:
        """Notes what has been fetched, which must not be fetched again."""
        there = {p.stem for p in (self.root / "raw").glob("*.json")}
        hits = self.ground.site.hits
        self.fetched = {path: n for path, n in hits.items() if any(f"-{Path(path).stem}-" in t for t in there)}

    def end(self, how: str) -> None:
        """Compares."""
        tally = self.ground.tally
        again = [path for path, n in self.fetched.items() if self.ground.site.hits[path] != n]
        tally.problems += [f"{self.stage}, {how}: {path} was fetched twice" for path in again]
        seen = self.seen()
        for name in (n for n in seen if n.startswith("raw/") and n.endswith(".json")):
            if name.replace(".json", ".wav") not in seen:
                tally.problems.append(f"{self.stage}, {how}: {name} is there before its sound")
        for name, digest in seen.items():
            if not any(digest == one.get(name) for one in self.allowed):
                tally.problems.append(f"{self.stage}, {how}: {name} is torn")

    def seen(self) -> dict[str, str]:
        """What is visible, without what only Dagster shows."""
        return {n: d for n, d in contents(self.root).items() if not n.startswith("pictures/")}

    def last(self, plan: str) -> None:
        """Compares with the undisturbed run, and tallies what the killed writers left."""
        tally = self.ground.tally
        tally.problems += [f"{self.stage}, {plan}: {d}" for d in differences(self.seen(), self.wanted)]
        left = split(self.root)[1]
        tally.left_files += len(left)
        tally.left_bytes += sum((self.root / path).stat().st_size for path in left)
        resumed = self.root.parent / "resumed"
        if resumed.exists():
            tally.resumed += [int(step) for step in resumed.read_text().split() if int(step) > 0]
        self._doctor()

    def _doctor(self) -> None:
        """`melodygan doctor` finds nothing wrong, and its --repair takes away what is left and nothing else."""
        store, before = Store(str(self.root)), contents(self.root)
        # It leaves alone what somebody may be writing: what is younger than an hour.
        for path in self.root.rglob("*"):
            if hidden(path.relative_to(self.root)):
                os.utime(path, (0, 0))
        report = inspection.inspect(store, hashes=self.stage == WHOLE)
        problems = self.ground.tally.problems
        problems += [f"{self.stage}, doctor: {f.path} {f.kind}" for f in report.of(*inspection.BAD)]
        inspection.repair(store, report)
        problems += [f"{self.stage}, mended: {d}" for d in differences(contents(self.root), before)]
        problems += [f"{self.stage}, mended: {path} is left" for path in split(self.root)[1]]


def _strike(pid: int, root: Path, *, children: bool) -> None:
    os.kill(pid, signal.SIGKILL)
    for child in relatives(root) if children else ():
        os.kill(child, signal.SIGKILL)


def wait_for_orphans(ground: Ground, root: Path, most_s: float = 60.0) -> None:
    """Children of a killed process end by themselves, or are a problem."""
    deadline = time.monotonic() + most_s
    while relatives(root):
        if time.monotonic() > deadline:
            ground.tally.problems.append(f"{root}: processes {relatives(root)} go on after {most_s:g} s")
            return
        time.sleep(0.05)


def episode(ground: Ground, stage: str, kills: Sequence[Kill]) -> int:
    """Kills a stage some times in succession, lets it finish and compares; returns how many kills hit it."""
    root = ground.copy(stage)
    watch, hit = _Observer(ground, stage, root), 0
    for kill in kills:
        watch.start()
        process = stages.process(stage, root, ground.sources, kill.before_change)
        process.join(None if kill.before_change else kill.after_s)
        if process.exitcode is None:
            assert process.pid is not None
            _strike(process.pid, root, children=kill.group)
            process.join()
        watch.end(str(kill))
        if process.exitcode != -signal.SIGKILL:
            assert process.exitcode == 0, (root.parent / "log").read_text("utf-8", "replace")[-3000:]
            break
        hit += 1
        ground.tally.kills[stage, kill.kind] += 1
    watch.start()
    ground.finish(stage, root)
    watch.end("the last run")
    wait_for_orphans(ground, root)
    watch.last(str(kills))
    shutil.rmtree(root.parent)
    return hit


def pair(ground: Ground, stage: str, kill: Kill) -> int:
    """Two processes with the same stage at the same time, of which one is killed; returns how many were."""
    root = ground.copy(stage)
    watch = _Observer(ground, stage, root)
    first, second = (stages.process(stage, root, ground.sources) for _ in range(2))
    first.join(kill.after_s)
    if first.exitcode is None:
        assert first.pid is not None
        _strike(first.pid, root, children=False)
    first.join()
    second.join()
    assert second.exitcode == 0, (root.parent / "log").read_text("utf-8", "replace")[-3000:]
    wait_for_orphans(ground, root)
    watch.last(f"two at a time, {kill}")
    shutil.rmtree(root.parent)
    hit = int(first.exitcode == -signal.SIGKILL)
    ground.tally.kills[stage, "one of two at a time"] += hit
    return hit


def _until_said(process: subprocess.Popen[bytes], log: Path, start: int, words: str) -> None:
    while process.poll() is None and words.encode() not in log.read_bytes()[start:]:
        time.sleep(0.05)


def whole(ground: Ground, stage: str, moments_s: Sequence[float], after: str = "") -> int:
    """Kills `melodygan run` at some moments in succession, then lets it end; returns how many kills hit it.

    Args:
        ground: Whose site and sources.
        stage: The store is as this stage found it.
        moments_s: Seconds from its start to each kill.
        after: Seconds count from when it has written this.
    """
    root, hit = ground.copy(stage), 0
    watch, log = _Observer(ground, WHOLE, root), root.parent / "log"
    options = ["run", "--sources", str(ground.sources), "--store", str(root), "--preset", PRESET]
    command = [sys.executable, "-c", COMMAND, *options, "--allow-private"]
    command += ["--model-dir", str(ground.sources.parent / "models")]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MELODYGAN_")}
    environment |= {"OMP_NUM_THREADS": "1", "DAGSTER_HOME": str(root.parent / "home")}
    for moment_s in [*moments_s, None]:
        watch.start()
        with log.open("ab") as file:
            start = file.tell()
            process = subprocess.Popen(
                command, cwd=stages.ROOT, env=environment, stdout=file, stderr=file, start_new_session=True
            )
            _until_said(process, log, start, after if moment_s else "")
            try:
                process.wait(moment_s)
            except subprocess.TimeoutExpired:
                _strike(process.pid, root, children=False)
        status = process.wait()
        watch.end(f"killed after {moment_s} s" if moment_s else "the last run")
        if status == -signal.SIGKILL:
            hit += 1
            ground.tally.kills[WHOLE, "moment"] += 1
        else:
            assert status == 0, log.read_text("utf-8", "replace")[-3000:]
    wait_for_orphans(ground, root)
    watch.last(f"killed after {moments_s} s")
    shutil.rmtree(root.parent)
    return hit
