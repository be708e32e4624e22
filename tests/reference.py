"""One undisturbed run of every stage, with which the stores of disturbed ones are compared."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import yaml

from melodygan_core.demo import songs
from tests import stages
from tests.conftest import Site
from tests.contents import contents
from tests.stages import STAGES

# Some of the songs come by yt-dlp, which costs two seconds each, the others from a folder.
SERVED, OWN, SONG_S = 2, 4, 7.0


@dataclass
class Results:
    """The kills so far and what they led to.

    Attributes:
        kills: Number by (stage, kind).
        episodes: Number.
        resumed: Steps at which killed trainings resumed.
        problems: Sentences; empty when all is well.
        left_files: Number of files that killed writers left.
        left_bytes: Their size.
    """

    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    episodes: int = 0
    resumed: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    left_files: int = 0
    left_bytes: int = 0

    def kills_of(self, stage: str) -> int:
        """Number of kills of a stage."""
        return sum(n for (name, _), n in self.kills.items() if name == stage)


@dataclass
class Reference:
    """One undisturbed run.

    Attributes:
        folder: Of everything.
        site: Serves some of the songs.
        sources: The sources file.
        results: Of the episodes.
        stores: The store before each stage.
        after: Contents of the store after each stage.
        duration_s: Of each stage.
        changes: Number of changes of files by each stage.
    """

    folder: Path
    site: Site
    sources: Path
    results: Results = field(default_factory=Results)
    stores: dict[str, Path] = field(default_factory=dict)
    after: dict[str, dict[str, str]] = field(default_factory=dict)
    duration_s: dict[str, float] = field(default_factory=dict)
    changes: dict[str, int] = field(default_factory=dict)

    @property
    def undisturbed(self) -> Path:
        """The store after the last stage."""
        return self.folder / "undisturbed" / "store"

    def copy(self, stage: str) -> Path:
        """A store as it was before a stage; files are links, because nothing may be changed in place."""
        root = self.folder / f"episode-{self.results.episodes}" / "store"
        shutil.copytree(self.stores[stage], root, copy_function=os.link)
        self.results.episodes += 1
        return root

    def expected_stores(self) -> Iterator[tuple[Path, dict[str, str]]]:
        """The store before each stage and what it must hold, because the copies share files with it."""
        for before, stage in pairwise(STAGES):
            yield self.stores[stage], self.after[before]

    def finish(self, stage: str, root: Path) -> None:
        """Runs a stage to its end."""
        process = stages.process(stage, root, self.sources)
        process.join()
        assert process.exitcode == 0, f"{stage} ended with {process.exitcode}:\n{stages.log_of(root)}"


def make_reference(folder: Path, site: Site) -> Reference:
    """Makes songs and sources, and runs every stage undisturbed."""
    stages.start_server()
    reference = write_sources(folder, site)
    run_undisturbed(reference)
    return reference


def write_sources(
    folder: Path, site: Site, served: int = SERVED, own: int = OWN, song_s: float = SONG_S
) -> Reference:
    """Makes songs, some of which the site serves, and a sources file."""
    paths = songs.write_songs(folder / "songs", served + own, song_s)
    items = ""
    for path in paths[:served]:
        url = site.add(f"/{path.name}", path.read_bytes(), content_type="audio/flac")
        items += f'<item><title>{path.stem}</title><enclosure url="{url}" length="1" type="audio/flac"/></item>'
        path.unlink()
    feed = f'<?xml version="1.0"?><rss version="2.0"><channel><title>Songs</title>{items}</channel></rss>'
    url = site.add("/feed.xml", feed.encode(), content_type="application/rss+xml")
    common = {"licence": "CC0-1.0", "rights": "own"}
    sources = folder / "sources.yaml"
    listed = [{"url": url, **common}] if served else []
    sources.write_text(yaml.safe_dump({"sources": [*listed, {"path": "songs", **common}]}))
    return Reference(folder, site, sources)


def run_undisturbed(reference: Reference, names: Sequence[str] = STAGES) -> None:
    """Runs stages in order, and keeps a copy of the store before each of them."""
    folder, root = reference.folder, reference.folder / "undisturbed" / "store"
    root.mkdir(parents=True)
    for stage in names:
        reference.stores[stage] = folder / "before" / stage
        shutil.copytree(
            root, reference.stores[stage], copy_function=os.link, ignore=shutil.ignore_patterns("work")
        )
        started = time.monotonic()
        reference.finish(stage, root)
        reference.duration_s[stage] = time.monotonic() - started
        reference.changes[stage] = int((root.parent / "changes").read_text())
        reference.after[stage] = contents(root)
