"""What an inspection says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from melodygan_core.maintenance.inspection.listing import Stat
from melodygan_core.storage.store import Store

Kind = Literal["damaged", "torn", "mismatch", "missing", "stale", "orphaned", "superseded"]
# A healthy store has none of these, however often its runs were killed and started again.
BAD: tuple[Kind, ...] = ("damaged", "torn", "mismatch", "missing")


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be, or that nobody needs.

    Attributes:
        path: Relative to the store's root.
        kind: `damaged` cannot be read; `torn` is half of what belongs together; `mismatch` is not what was
            written (hash, size, name); `missing` is named by something and is not there; `stale` was made of
            something that has changed; `orphaned` is needed by nobody; `superseded` is whole, and not in use.
        sentence: What is wrong, and what mending does about it.
        remove: What mending takes away, so that the next run makes it again; nothing for what is whole.
    """

    path: str
    kind: Kind
    sentence: str
    remove: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """What an inspection came to.

    Attributes:
        findings: In the order of the store's stages.
        files: How many there are.
        bytes: How many there are.
        busy: Things that were not judged, because another run was writing them.
        hashed: Whether contents were compared with their hashes.
        repairable: Names of the units that mending can do something about.
    """

    findings: tuple[Finding, ...]
    files: int
    bytes: int
    busy: int = 0
    hashed: bool = True
    repairable: frozenset[str] = frozenset()

    def of(self, *kinds: Kind) -> list[Finding]:
        """The findings of some kinds."""
        return [f for f in self.findings if f.kind in kinds]

    @property
    def good(self) -> bool:
        """Whether nothing is damaged, torn, mismatching or missing."""
        return not self.of(*BAD)


@dataclass(frozen=True)
class Place:
    """The store as one inspection sees it.

    Attributes:
        store: Which.
        files: What it held when the inspection began.
        hashes: Whether contents are hashed.
        forgotten: Tracks that must not be here.
    """

    store: Store
    files: dict[str, Stat]
    hashes: bool
    forgotten: frozenset[str]

    def below(self, folder: str, depth: int) -> list[str]:
        """Folders and files that many levels below a folder, without temporaries."""
        start = folder.split("/")
        deep = len(start) + depth
        found = {
            "/".join(p[:deep])
            for u in self.files
            if (p := u.split("/"))[: len(start)] == start and len(p) >= deep
        }
        return sorted(f for f in found if not any(part.startswith(".") for part in f.split("/")))

    def quiet(self, uri: str) -> bool:
        """Whether a file has not been written for long."""
        return uri in self.files and self.files[uri].quiet


@dataclass(frozen=True)
class Unit:
    """One thing to judge, and the locks of whoever writes it.

    Attributes:
        name: Its URI, or one for all of a kind.
        locks: Held while a bad verdict is confirmed, and while it is mended.
        check: Looks at the store as it is now.
    """

    name: str
    locks: tuple[str, ...]
    check: Callable[[], Sequence[Finding]]
