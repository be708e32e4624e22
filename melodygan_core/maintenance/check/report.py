"""What a check reads and what it reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import pyarrow as pa
from upath import UPath

from melodygan_core.errors import DamagedError, MelodyGANError
from melodygan_core.storage import Store, kinds, sha256_of
from melodygan_core.storage.kinds import Kind, Parsed
from melodygan_core.storage.listing import Stat

FindingKind = Literal["damaged", "incomplete", "mismatch", "missing", "stale", "orphaned", "superseded"]
# A healthy store has none of these, however often its runs are killed and restarted.
BAD: tuple[FindingKind, ...] = ("damaged", "incomplete", "mismatch", "missing")
# What reading a damaged file raises.
UNREADABLE = (OSError, ValueError, TypeError, AttributeError, KeyError, pa.ArrowException, MelodyGANError)


@dataclass(frozen=True)
class Finding:
    """One problem, or one thing that nothing needs.

    Attributes:
        path: Relative to the store's root.
        kind: `damaged`: cannot be read. `incomplete`: a part is missing. `mismatch`: differs from what was
            written (hash, size, name). `missing`: is referenced and does not exist. `stale`: was made from
            something that has changed. `orphaned`: nothing needs it. `superseded`: valid, and not in use.
        sentence: What is wrong, and what repair does about it.
        remove: URIs that repair removes, so that the next run makes them again; empty for what is kept.
    """

    path: str
    kind: FindingKind
    sentence: str
    remove: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """Result of a check.

    Attributes:
        findings: In the order of the stages.
        files: Number of files.
        bytes: Size of all files.
        busy: Number of units that were skipped because another run was writing them.
        hashed: Whether contents were compared with their hashes.
        repairable: Names of the units that repair can do something about.
    """

    findings: tuple[Finding, ...]
    files: int
    bytes: int
    busy: int = 0
    hashed: bool = True
    repairable: frozenset[str] = frozenset()

    def of(self, *wanted: FindingKind) -> list[Finding]:
        """The findings of some kinds."""
        return [f for f in self.findings if f.kind in wanted]

    @property
    def good(self) -> bool:
        """Whether nothing is damaged, incomplete, mismatching or missing."""
        return not self.of(*BAD)


@dataclass(frozen=True)
class Snapshot:
    """The files of a store at the beginning of a check.

    Attributes:
        store: Whose files.
        files: URI to size and age, sorted.
        hashes: Whether contents are hashed.
        forgotten: Tracks that must not be in the store.
    """

    store: Store
    files: dict[str, Stat]
    hashes: bool = False
    forgotten: frozenset[str] = frozenset()

    @cached_property
    def _by_kind(self) -> dict[Kind, dict[str, Parsed]]:
        found: dict[Kind, dict[str, Parsed]] = {}
        for uri in self.files:
            parsed = kinds.parse(uri)
            unfinished = parsed.temporary and len(parsed.temporary) <= len(parsed.uri)
            # A file where a folder of the kind belongs is none.
            if not unfinished and bool(parsed.inside) == parsed.kind.is_folder:
                found.setdefault(parsed.kind, {}).setdefault(parsed.uri, parsed)
        return found

    def of(self, kind: Kind) -> dict[str, Parsed]:
        """Finished files or folders of a kind by URI, sorted."""
        return self._by_kind.get(kind, {})

    def inside(self, folder: str) -> list[str]:
        """Paths of the files in a folder, relative to it."""
        return [uri.removeprefix(f"{folder}/") for uri in self.files if uri.startswith(f"{folder}/")]

    def quiet(self, uri: str) -> bool:
        """Whether a file has not been written for long."""
        return uri in self.files and self.files[uri].quiet


@dataclass(frozen=True)
class Unit:
    """One thing to check, and the locks of its writers.

    Attributes:
        name: Its URI, or a name for several files that belong together.
        locks: Held while a finding is confirmed, and while it is repaired.
        check: Looks at the store as it is now.
    """

    name: str
    locks: tuple[str, ...]
    check: Callable[[], Sequence[Finding]] = field(compare=False)


def repair_sentence(what: str, remake: str) -> str:
    """What repair removes and what the next run does then."""
    return f"repair removes {what} and the next run {remake}"


def short(error: BaseException) -> str:
    """An error on one line; of a damaged file its cause, because the finding names the file."""
    if isinstance(error, DamagedError) and error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


def read_object(store: Store, path: UPath) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ValueError: the file holds something else.
    """
    value = store.read_json(path)
    if not isinstance(value, dict):
        raise ValueError(f"a {type(value).__name__}, not an object")
    return value


def difference(snapshot: Snapshot, path: UPath, sha256: str, size: int | None) -> str:
    """How a file differs from its recorded hash and size; empty where it does not."""
    if size is not None and (found := path.stat().st_size) != size:
        return f"has {found} bytes instead of {size}"
    if snapshot.hashes:
        with snapshot.store.reading(path) as local:
            if sha256_of(local) != sha256:
                return "does not have the recorded SHA-256: it has changed since it was written"
    return ""
