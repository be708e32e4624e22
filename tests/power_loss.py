"""Cuts the power after every recorded call of a stage, and checks what the disk would hold.

The *recording* is one undisturbed run of every stage under strace: each call that creates, writes, renames,
syncs or removes something in the store, with its data. For each of its prefixes the model of the disk gives
three stores, one per kind of loss. Stores that differ only in what nobody reads are checked once.
"""

from __future__ import annotations

import pickle
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from random import Random

from tests import aftermath, stages
from tests.conftest import Site
from tests.contents import hidden
from tests.disk_model import LOSSES, Disk, Loss
from tests.reference import Reference, run_undisturbed, write_sources
from tests.syscalls import Call, record

# Scratch that no later run reads.
_IGNORED = ("work/scratch/", "work/separation/", "work/locks/", "work/copies/")


@dataclass
class Losses:
    """What the power cuts of one stage led to.

    Attributes:
        calls: Number of recorded calls.
        cuts: Number of cuts: prefixes times kinds of loss.
        states: Number of distinct stores by kind of loss.
        findings: Findings of the check by kind.
        reruns: Stores from which the stage was run again.
        problems: Sentences; empty when all is well.
    """

    calls: int = 0
    cuts: int = 0
    states: Counter[Loss] = field(default_factory=Counter)
    findings: Counter[str] = field(default_factory=Counter)
    reruns: int = 0
    problems: list[str] = field(default_factory=list)


def record_stages(folder: Path, site: Site, names: Sequence[str] = stages.STAGES) -> Reference:
    """Records one undisturbed run of the stages; `calls_of` reads the calls.

    Args:
        folder: Of everything.
        site: Serves some of the songs.
        names: The stages, in order from the first one on.
    """
    stages.start_server()
    reference = write_sources(folder, site)
    root = folder / "undisturbed" / "store"
    calls: list[Call] = []
    stage = ""
    command = [sys.executable, "-c", f"from tests.power_loss import main; main({str(folder)!r}, {list(names)})"]
    for call in record(command, folder, folder / "recording.log"):
        if (
            call.name == "mkdir"
            and call.path.startswith(f"{folder}/before/")
            and call.path.count("/") == (str(folder).count("/") + 2)
        ):
            if stage:
                save_calls(folder, stage, calls)
            stage, calls = Path(call.path).name, []
        elif stage and f"{root}/" in (call.path[: len(str(root)) + 1], call.target[: len(str(root)) + 1]):
            if not call.path[len(str(root)) + 1 :].startswith(_IGNORED):
                calls.append(call)
        elif stage and call.path == str(root):
            calls.append(call)
    save_calls(folder, stage, calls)
    made = pickle.loads((folder / "reference.pickle").read_bytes())
    reference.stores, reference.after, reference.duration_s = made.stores, made.after, made.duration_s
    return reference


def main(folder: str, names: Sequence[str]) -> None:
    """Runs the stages undisturbed, in the process that is recorded."""
    stages.start_server()
    reference = Reference(Path(folder), Site(""), Path(folder) / "sources.yaml")
    run_undisturbed(reference, names)
    (Path(folder) / "reference.pickle").write_bytes(pickle.dumps(reference))


def save_calls(folder: Path, stage: str, calls: Sequence[Call]) -> None:
    """Keeps the calls of a stage."""
    path = folder / "calls" / f"{stage}.pickle"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pickle.dumps(calls))


def calls_of(reference: Reference, stage: str) -> list[Call]:
    """The recorded calls of a stage in its store, in order."""
    return pickle.loads((reference.folder / "calls" / f"{stage}.pickle").read_bytes())


@lru_cache(maxsize=1 << 16)
def _is_read(path: str) -> bool:
    """Whether a later run may read a file of the store: it is complete, or the state of a training."""
    training = path.startswith("work/training/") and not path.endswith(".tmp")
    return training or not hidden(Path(path))


def _can_matter(call: Call, root: str) -> bool:
    """Whether a call may change something other than the content of a file that nobody reads."""
    if call.name in ("write", "truncate", "fallocate", "fsync"):
        path = call.path[len(root) + 1 :]
        return not path or _is_read(path) or call.name == "fsync"
    return True


def lose_power(reference: Reference, stage: str, rng: Random, reruns: int) -> Losses:
    """Cuts the power after every call of a stage.

    Args:
        reference: The recording.
        stage: One of its stages.
        rng: Chooses what is torn, and from which stores the stage is run again.
        reruns: Most stores from which it is run again.
    """
    losses, root = Losses(), reference.folder / "undisturbed" / "store"
    disk = Disk(root, reference.stores[stage])
    stores: list[Path] = []
    for cut, loss in _cuts(reference, stage, disk, losses):
        store = reference.folder / "cuts" / stage / f"{cut}-{loss}" / "store"
        disk.write(loss, rng, store)
        found = aftermath.look(reference, stage, store)
        losses.findings.update(found.findings)
        losses.problems += found.problems
        # A wav without its provenance is fetched again. All else must be there before it is named.
        wrong = {kind: n for kind, n in found.findings.items() if kind != "incomplete"}
        losses.problems += [f"{stage}, {cut}-{loss}: {n} {kind}" for kind, n in wrong.items()]
        stores.append(store)
    losses.problems += _unlike(disk, reference, stage)
    for store in rng.sample(stores, min(reruns, len(stores))):
        losses.reruns += 1
        losses.problems += aftermath.run_again(reference, stage, store)
    shutil.rmtree(reference.folder / "cuts" / stage)
    return losses


def _cuts(reference: Reference, stage: str, disk: Disk, losses: Losses) -> Iterator[tuple[int, Loss]]:
    """Applies the calls one by one, and yields each cut that leaves a store that none before left."""
    seen: set[tuple[tuple[str, str], ...]] = set()
    for cut, call in enumerate(calls_of(reference, stage), 1):
        losses.calls, losses.cuts = cut, losses.cuts + len(LOSSES)
        if not disk.apply(call) or not _can_matter(call, disk.root):
            continue
        for loss in LOSSES:
            files = disk.files(loss)
            key = tuple(sorted((path, file.digest(loss)) for path, file in files.items() if _is_read(path)))
            if key not in seen:
                seen.add(key)
                losses.states[loss] += 1
                yield cut, loss


def _unlike(disk: Disk, reference: Reference, stage: str) -> list[str]:
    """How the disk after all calls differs from the real store: the recording must be complete."""
    expected, following = reference.after[stage], stages.STAGES.index(stage) + 1
    name = stages.STAGES[following] if following < len(stages.STAGES) else ""
    real = reference.stores.get(name, reference.folder / "undisturbed" / "store")
    found = {path: bytes(file.data) for path, file in disk.files("ordered").items()}
    wrong = [n for n in expected if found.get(n) != (real / n).read_bytes()]
    wrong += [n for n in found if not hidden(Path(n)) and n not in expected]
    return [f"{stage}: the recording does not lead to {name}" for name in wrong]
