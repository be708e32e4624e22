"""Lets calls of a stage fail as a full or broken disk does, and checks what the user sees and what is left.

`failing_calls.c` is loaded before libc into the process that forks the stages (Linux, with a C compiler). It
counts the calls of a stage on paths in its store, also those of C and Rust libraries, and lets one fail.
"""

from __future__ import annotations

import ctypes
import errno
import json
import re
import shutil
import subprocess
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pyarrow.parquet as pq

from melodygan_core.errors import MelodyGANError, storage_errors
from melodygan_core.storage import Store
from tests import aftermath, stages
from tests.reference import Reference, run_undisturbed
from tests.stages import TracksFailedError

CATALOGUE = "catalogue.parquet"
# In the order of failing_calls.c; what can go wrong with each.
_DISK = (errno.ENOSPC, errno.EIO, errno.EACCES)
CALLS = {
    "write": (errno.ENOSPC, errno.EIO),
    "fsync": (errno.ENOSPC, errno.EIO),
    "rename": _DISK,
    "open to write": _DISK,
    "mkdir": _DISK,
    "open to read": (errno.EIO, errno.EACCES),
}
# `parallel.attempt` reports an error that is not one of ours with the place in the code.
_UNKNOWN = re.compile(r"^\w+: .*\(\w+, \w+\.py:\d+\)$", re.DOTALL)


@dataclass(frozen=True)
class Fault:
    """One call that fails.

    Attributes:
        call: Of CALLS.
        k: Which call of its kind on the store, from 1; 0 for none.
        code: The error.
        for_good: Whether all later calls of the kind fail, too.
    """

    call: str = "write"
    k: int = 0
    code: int = errno.EIO
    for_good: bool = False

    def __str__(self) -> str:
        since = " and all later ones" if self.for_good else ""
        return f"{self.call} {self.k}{since}: {errno.errorcode[self.code]}"


@dataclass
class Faults:
    """What the failed calls led to.

    Attributes:
        outcomes: Number by (call, error, outcome).
        stages: Number by stage.
        messages: Examples of what the user saw, by error.
        unseen: Failed calls that the stage got over by itself.
        problems: Sentences; empty when all is well.
    """

    outcomes: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    stages: Counter[str] = field(default_factory=Counter)
    messages: dict[str, str] = field(default_factory=dict)
    unseen: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def compiled(folder: Path) -> Path:
    """The library that lets calls fail.

    Raises:
        RuntimeError: there is no C compiler.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise RuntimeError(
            "a C compiler must be installed to let calls fail, got none: `apt-get install gcc` (Linux only)"
        )
    library = folder / "failing_calls.so"
    source = Path(__file__).with_name("failing_calls.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


Counts = dict[str, dict[str, int]]


def run_counted(reference: Reference, names: Sequence[str], counted: Sequence[str]) -> Counts:
    """Runs stages undisturbed, and counts the calls of some of them."""
    stages.start_server(LD_PRELOAD=str(compiled(reference.folder)))
    run_undisturbed(reference, names)
    return {stage: _counted(reference, stage) for stage in counted}


def _counted(reference: Reference, stage: str) -> dict[str, int]:
    root = reference.copy(stage)
    found = _run(reference, stage, root, Fault())
    assert found["outcome"] == "nothing", found
    shutil.rmtree(root.parent)
    return found["calls"]


def choose(counts: Counts, number: int, rng: Random) -> list[tuple[str, Fault]]:
    """So many faults, as evenly as can be over stages and kinds of calls."""
    kinds = [(stage, call) for stage, calls in counts.items() for call, n in calls.items() if n]
    chosen = []
    while len(chosen) < number:
        for stage, call in rng.sample(kinds, min(len(kinds), number - len(chosen))):
            k, code = rng.randint(1, counts[stage][call]), rng.choice(CALLS[call])
            chosen.append((stage, Fault(call, k, code, for_good=rng.random() < 0.3)))
    return chosen


def fail(reference: Reference, stage: str, fault: Fault, faults: Faults) -> None:
    """Runs a stage with a call that fails, then undisturbed, and checks what is seen and what is left."""
    root = reference.copy(stage)
    found = _run(reference, stage, root, fault)
    where, name = f"{stage}, {fault}", errno.errorcode[fault.code]
    if found["outcome"] == "nothing" and found["calls"][fault.call] < fault.k:
        # Threads race to make a folder, so that the numbers of calls differ a little.
        found["outcome"] = "did not come"
    faults.stages[stage] += 1
    faults.outcomes[fault.call, name, found["outcome"]] += 1
    if found["outcome"] == "one sentence":
        faults.messages.setdefault(name, found["message"].replace(str(root), "STORE"))
    elif found["outcome"] == "nothing":
        faults.unseen.append(where)
    elif found["outcome"] == "traceback":
        faults.problems.append(f"{where}: {found['message']}")
    problems = aftermath.look(reference, stage, root).problems
    partial = stage == "catalogue" and _rows(root).items() <= _rows(reference.undisturbed).items()
    problems += aftermath.run_again(reference, stage, root, repair=False)
    if partial and _rows(root) == _rows(reference.undisturbed):
        # A source that could not be read has its rows after those of the others.
        problems = [problem for problem in problems if CATALOGUE not in problem]
    faults.problems += [f"{fault}: {problem}" for problem in problems]
    shutil.rmtree(root.parent)


def _rows(root: Path) -> dict[str, str]:
    """The rows of a store's catalogue by track_id, without the time of the first sight."""
    if not (root / CATALOGUE).exists():
        return {}
    rows = pq.read_table(root / CATALOGUE).drop_columns(["first_seen"]).to_pylist()
    return {row["track_id"]: str(row) for row in rows}


def _run(reference: Reference, stage: str, root: Path, fault: Fault) -> dict[str, Any]:
    process = stages.fork(_run_failing, stage, str(root), reference.sources, root.parent, fault)
    process.join()
    result = root.parent / "result.json"
    if not result.exists():
        return {"outcome": "traceback", "message": f"it ended with {process.exitcode}: {stages.log_of(root)}"}
    return json.loads(result.read_text("utf-8"))


def _run_failing(name: str, root: str, sources: Path, folder: Path, fault: Fault) -> None:
    """In the forked process: runs a stage as the command line does, and writes what its user would see."""
    stages.start_in(folder)
    library = ctypes.CDLL(None)
    start = library.failing_calls_start
    start.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_long, ctypes.c_int, ctypes.c_int]
    start(root.encode(), [*CALLS].index(fault.call), fault.k, fault.code, fault.for_good)
    outcome, message = "nothing", ""
    try:
        with storage_errors():
            stages.run(name, Store(root), sources)
    except MelodyGANError as error:
        outcome, message = "one sentence", str(error)
    except TracksFailedError as error:
        unknown = [reason for reason in error.args if _UNKNOWN.match(reason)]
        outcome, message = ("traceback", unknown[0]) if unknown else ("one sentence", error.args[0])
    except Exception:
        outcome, message = "traceback", traceback.format_exc()
    calls = {call: library.failing_calls_count(i) for i, call in enumerate(CALLS)}
    result = {"outcome": outcome, "message": message, "calls": calls}
    # The folder is beside the store, so that this call does not fail.
    (folder / "result.json").write_text(json.dumps(result), "utf-8")
