"""Compares a store that a disturbed stage has left with those of the undisturbed run."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from melodygan_core.maintenance.check import BAD, check_store
from melodygan_core.maintenance.repair import repair_store
from melodygan_core.storage import Store
from tests.contents import contents, differences, hidden
from tests.reference import Reference


@dataclass
class Aftermath:
    """What is left.

    Attributes:
        findings: Number of findings of the check by kind, of those that must be repaired.
        problems: Sentences; empty when every visible file is one of the undisturbed run.
    """

    findings: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def look(reference: Reference, stage: str, root: Path) -> Aftermath:
    """What a disturbed stage has left: each visible file must be the one before the stage, or the one after."""
    where = f"{stage}, {root.parent.name}"
    allowed = [contents(reference.stores[stage]), reference.after[stage]]
    try:
        bad = check_store(Store(str(root)), hashes=True).of(*BAD)
    except Exception as error:
        return Aftermath(problems=[f"{where}: the check failed with {type(error).__name__}: {error}"])
    found = Aftermath(Counter(f.kind for f in bad))
    for name, digest in contents(root).items():
        if not any(digest == one.get(name) for one in allowed):
            named = any(name == f.path or name.startswith(f"{f.path}/") for f in bad)
            unnamed = "" if named else ", and the check does not name it"
            found.problems.append(f"{where}: {name} is neither the old nor the new file{unnamed}")
    return found


def run_again(reference: Reference, stage: str, root: Path, *, repair: bool = True) -> list[str]:
    """Repairs a store and runs the stage again; returns how the result differs from the undisturbed store."""
    where = f"{stage}, {root.parent.name}"
    store = Store(str(root))
    if repair:
        for path in root.rglob("*"):
            # The repair keeps what somebody may be writing: what is younger than an hour.
            if hidden(path.relative_to(root)):
                os.utime(path, (0, 0))
        repair_store(store, check_store(store, hashes=True))
    try:
        reference.finish(stage, root)
    except AssertionError as error:
        return [f"{where}: the next run failed: {error}"]
    wrong = differences(contents(root), reference.after[stage])
    bad = check_store(store, hashes=True).of(*BAD)
    return [
        *(f"{where}: after the next run {d}" for d in wrong),
        *(f"{where}: after the next run {f.path} is {f.kind}" for f in bad),
    ]
