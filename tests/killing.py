"""Kills stages and compares what is left with an undisturbed run.

An *episode* takes a copy of the store of the undisturbed run as it was before a stage, kills the stage once or
more, lets it finish, and compares the store with the reference.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from melodygan_core.maintenance.check import BAD, check_store
from melodygan_core.maintenance.repair import repair_store
from melodygan_core.storage import Store
from tests import stages
from tests.contents import contents, differences, hidden, relatives, split
from tests.reference import Reference
from tests.stages import PRESET, STAGES

# Not a stage: the command that runs all of them. Each of its episodes starts Python.
RUN_COMMAND = "melodygan run"
COMMAND = "import tests.stages; from melodygan_core.cli import main; main()"


@dataclass(frozen=True)
class Kill:
    """When a process is killed: after some time, or before its k-th change of a file.

    Attributes:
        after_s: Seconds after its start.
        before_change: Number of the change, from 1; 0 where `after_s` decides.
        children: Whether its children are killed, too.
    """

    after_s: float = 0.0
    before_change: int = 0
    children: bool = False

    @property
    def kind(self) -> str:
        """For the report."""
        return "change" if self.before_change else "moment, children too" if self.children else "moment"


class _Comparison:
    """Checks one store whenever a process that writes to it has ended."""

    def __init__(self, reference: Reference, stage: str, root: Path) -> None:
        self.reference, self.stage, self.root = reference, stage, root
        after = reference.after
        self.expected = after[STAGES[-1] if stage == RUN_COMMAND else stage]
        self.allowed = [contents(root), *(c for s, c in after.items() if stage in (s, RUN_COMMAND))]

    def before(self) -> None:
        """Notes what has been fetched, which must not be fetched again."""
        there = {p.stem for p in (self.root / "raw").glob("*.json")}
        hits = self.reference.site.hits
        # What a killed run has started may ask for a track late, and outlive that run by a while.
        there = set() if relatives(self.root) else there
        self.fetched = {path: n for path, n in hits.items() if any(f"-{Path(path).stem}-" in t for t in there)}

    def after(self, event: str) -> None:
        """Checks that nothing visible is incomplete and that nothing was fetched again."""
        problems = self.reference.results.problems
        again = [path for path, n in self.fetched.items() if self.reference.site.hits[path] != n]
        problems += [f"{self.stage}, {event}: {path} was fetched twice" for path in again]
        visible = self.visible()
        for name in (n for n in visible if n.startswith("raw/") and n.endswith(".json")):
            if name.replace(".json", ".wav") not in visible:
                problems.append(f"{self.stage}, {event}: {name} exists before its wav")
        for name, digest in visible.items():
            if not any(digest == one.get(name) for one in self.allowed):
                problems.append(f"{self.stage}, {event}: {name} is incomplete")

    def visible(self) -> dict[str, str]:
        """Contents of the store, without the pictures, which only Dagster's assets make."""
        return {n: d for n, d in contents(self.root).items() if not n.startswith("pictures/")}

    def at_the_end(self, plan: str) -> None:
        """Compares the store with the reference, and counts what the killed writers left."""
        results = self.reference.results
        results.problems += [f"{self.stage}, {plan}: {d}" for d in differences(self.visible(), self.expected)]
        left = split(self.root)[1]
        results.left_files += len(left)
        results.left_bytes += sum((self.root / path).stat().st_size for path in left)
        resumed = self.root.parent / "resumed"
        if resumed.exists():
            results.resumed += [int(step) for step in resumed.read_text().split() if int(step) > 0]
        self._check_and_repair()

    def _check_and_repair(self) -> None:
        """The check finds nothing bad, and the repair removes what is left and nothing else."""
        store, before = Store(str(self.root)), contents(self.root)
        # The repair keeps what somebody may be writing: what is younger than an hour.
        for path in self.root.rglob("*"):
            if hidden(path.relative_to(self.root)):
                os.utime(path, (0, 0))
        report = check_store(store, hashes=self.stage == RUN_COMMAND)
        problems = self.reference.results.problems
        problems += [f"{self.stage}, check: {f.path} {f.kind}" for f in report.of(*BAD)]
        repair_store(store, report)
        problems += [f"{self.stage}, repaired: {d}" for d in differences(contents(self.root), before)]
        problems += [f"{self.stage}, repaired: {path} is left" for path in split(self.root)[1]]


def _kill(pid: int, root: Path, *, children: bool) -> None:
    os.kill(pid, signal.SIGKILL)
    for child in relatives(root) if children else ():
        os.kill(child, signal.SIGKILL)


def wait_for_orphans(reference: Reference, root: Path, most_s: float = 60.0) -> None:
    """Waits for the children of a killed process to end by themselves; one that does not is a problem."""
    deadline = time.monotonic() + most_s
    while relatives(root):
        if time.monotonic() > deadline:
            running = f"processes {relatives(root)} are running after {most_s:g} s"
            reference.results.problems.append(f"{root}: {running}")
            return
        time.sleep(0.05)


def kill_stage_repeatedly(reference: Reference, stage: str, kills: Sequence[Kill]) -> int:
    """One episode: kills a stage several times in succession, lets it finish and compares.

    Returns:
        How many kills came before the stage's end.
    """
    root = reference.copy(stage)
    comparison, hit = _Comparison(reference, stage, root), 0
    for kill in kills:
        comparison.before()
        process = stages.process(stage, root, reference.sources, kill.before_change)
        process.join(None if kill.before_change else kill.after_s)
        if process.exitcode is None:
            assert process.pid is not None
            _kill(process.pid, root, children=kill.children)
            process.join()
        comparison.after(str(kill))
        if process.exitcode != -signal.SIGKILL:
            assert process.exitcode == 0, stages.log_of(root)
            break
        hit += 1
        reference.results.kills[stage, kill.kind] += 1
    comparison.before()
    reference.finish(stage, root)
    comparison.after("the last run")
    wait_for_orphans(reference, root)
    comparison.at_the_end(str(kills))
    shutil.rmtree(root.parent)
    return hit


def kill_one_of_two(reference: Reference, stage: str, kill: Kill) -> int:
    """Runs a stage in two processes at the same time and kills one of them.

    Returns:
        1 if the kill came before its end, else 0.
    """
    root = reference.copy(stage)
    comparison = _Comparison(reference, stage, root)
    first, second = (stages.process(stage, root, reference.sources) for _ in range(2))
    first.join(kill.after_s)
    if first.exitcode is None:
        assert first.pid is not None
        _kill(first.pid, root, children=False)
    first.join()
    second.join()
    assert second.exitcode == 0, stages.log_of(root)
    wait_for_orphans(reference, root)
    comparison.at_the_end(f"two at a time, {kill}")
    shutil.rmtree(root.parent)
    hit = int(first.exitcode == -signal.SIGKILL)
    reference.results.kills[stage, "one of two at a time"] += hit
    return hit


def _wait_for_output(process: subprocess.Popen[bytes], log: Path, start: int, words: str) -> None:
    while process.poll() is None and words.encode() not in log.read_bytes()[start:]:
        time.sleep(0.05)


def kill_run_command(reference: Reference, stage: str, moments_s: Sequence[float], after: str = "") -> int:
    """Kills `melodygan run` at several moments in succession, then lets it end and compares.

    Args:
        reference: Whose site and sources.
        stage: The store is as it was before this stage.
        moments_s: Seconds from its start to each kill.
        after: Seconds count from when it has printed this.

    Returns:
        How many kills came before its end.
    """
    root, hit = reference.copy(stage), 0
    comparison, log = _Comparison(reference, RUN_COMMAND, root), root.parent / "log"
    options = ["run", "--sources", str(reference.sources), "--store", str(root), "--preset", PRESET]
    command = [sys.executable, "-c", COMMAND, *options, "--allow-private"]
    command += ["--model-dir", str(reference.sources.parent / "models")]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MELODYGAN_")}
    environment |= {"OMP_NUM_THREADS": "1", "DAGSTER_HOME": str(root.parent / "home")}
    for moment_s in [*moments_s, None]:
        comparison.before()
        with log.open("ab") as file:
            start = file.tell()
            process = subprocess.Popen(
                command, cwd=stages.ROOT, env=environment, stdout=file, stderr=file, start_new_session=True
            )
            _wait_for_output(process, log, start, after if moment_s else "")
            try:
                process.wait(moment_s)
            except subprocess.TimeoutExpired:
                _kill(process.pid, root, children=False)
        status = process.wait()
        comparison.after(f"killed after {moment_s} s" if moment_s else "the last run")
        if status == -signal.SIGKILL:
            hit += 1
            reference.results.kills[RUN_COMMAND, "moment"] += 1
        else:
            assert status == 0, stages.log_of(root)
    wait_for_orphans(reference, root)
    comparison.at_the_end(f"killed after {moments_s} s")
    shutil.rmtree(root.parent)
    return hit
