"""Lets several processes run the same stages on the same store at the same time, and compares the stores.

The processes stay; before each round they wait for one another, so that all of them find the work undone.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from melodygan_core.maintenance.check import BAD, check_store
from melodygan_core.storage import Store
from tests import stages
from tests.contents import contents, differences, split
from tests.reference import Reference

# Most of the rounds are those in which tracks are shared; the others take the artifacts in turn.
TRACKS = ("separation", "features", "dataset")
LONGEST_ROUND_S = 600


@dataclass
class Crowd:
    """What the rounds led to.

    Attributes:
        runs: Number of finished runs of a stage.
        rounds: Number by their stages.
        problems: Sentences; empty when all is well.
    """

    runs: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    problems: list[str] = field(default_factory=list)


def plan(count: int, available: Sequence[str]) -> list[tuple[str, ...]]:
    """The stages of each round: half of them on tracks, a tenth from the download on, the rest in turn."""
    artifacts = [stage for stage in available if stage not in ("catalogue", "download", *TRACKS[:2])]
    rounds: list[tuple[str, ...]] = []
    for i in range(count):
        if i % 10 == 0:
            rounds.append(("download", *TRACKS))
        elif i % 2 == 0:
            rounds.append(TRACKS)
        else:
            rounds.append((artifacts[i // 2 % len(artifacts)],))
    return rounds


def run_together(reference: Reference, rounds: Sequence[tuple[str, ...]], processes: int) -> Iterator[Crowd]:
    """Runs rounds in several processes; yields the figures so far after each.

    Args:
        reference: The undisturbed run.
        rounds: The stages of each; each begins with a store as it was before its first stage.
        processes: Number of processes.
    """
    crowd, context = Crowd(), multiprocessing.get_context("forkserver")
    # The parent takes part: it makes a store before a round and compares it after.
    barrier = context.Barrier(processes + 1)
    base = reference.folder / "crowd"
    base.mkdir()
    running = [
        stages.fork(_take_part, barrier, base, rounds, reference.sources, number) for number in range(processes)
    ]
    for number, names in enumerate(rounds):
        root = base / str(number) / "store"
        shutil.copytree(reference.stores[names[0]], root, copy_function=_link)
        barrier.wait(LONGEST_ROUND_S)
        barrier.wait(LONGEST_ROUND_S)
        _compare(reference, names, root, crowd)
        crowd.rounds += 1
        shutil.rmtree(root.parent)
        yield crowd
    for process in running:
        process.join()


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


def _compare(reference: Reference, names: tuple[str, ...], root: Path, crowd: Crowd) -> None:
    where = f"round {crowd.rounds}, {' '.join(names)}"
    for path in sorted(root.parent.glob("run-*.json")):
        found = json.loads(path.read_text("utf-8"))
        crowd.runs.update(found["stages"])
        if found["error"]:
            crowd.problems.append(f"{where}: {found['error']}")
    wrong = differences(contents(root), reference.after[names[-1]])
    crowd.problems += [f"{where}: {difference}" for difference in wrong]
    bad = check_store(Store(str(root)), hashes=True).of(*BAD)
    crowd.problems += [f"{where}: {f.path} is {f.kind}" for f in bad]
    crowd.problems += [f"{where}: {path} is left" for path in split(root)[1]]


def _take_part(barrier: Any, base: Path, rounds: Sequence[tuple[str, ...]], sources: Path, number: int) -> None:
    """In a forked process: runs the stages of every round."""
    folder = base / f"process-{number}"
    folder.mkdir()
    stages.start_in(folder)
    for i, names in enumerate(rounds):
        barrier.wait(LONGEST_ROUND_S)
        found: dict[str, Any] = {"stages": [], "error": "", "started": time.time()}
        try:
            for name in names:
                stages.run(name, Store(str(base / str(i) / "store")), sources)
                found["stages"].append(name)
        except Exception:
            found["error"] = traceback.format_exc(limit=-4)
        (base / str(i) / f"run-{number}.json").write_text(json.dumps(found), "utf-8")
        barrier.wait(LONGEST_ROUND_S)
