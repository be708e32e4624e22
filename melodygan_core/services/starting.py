"""Opens the release that trainings begin with, by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from melodygan_core.config import require
from melodygan_core.services.releases import ALLOWED, resolve_release
from melodygan_core.storage import ARTIFACT_FILE, Store
from melodygan_core.storage.start import NAME

if TYPE_CHECKING:
    from melodygan_core.config.config import Config
    from melodygan_core.release.starting import StartingRelease
    from melodygan_core.training import Start


def resolve_start(name: str) -> str:
    """The name of the release that is in use now, whatever is published later; local paths are absolute.

    Args:
        name: As for `open_start`; empty for random weights.

    Raises:
        InputError: there is no such release.
    """
    if not name:
        return ""
    found = resolve_release(name)
    if "://" not in found:
        folder = Path(found)
        require(folder.is_dir(), NAME, name, ALLOWED)
        return str(folder.absolute())
    root, _, uri = found.rstrip("/").rpartition("/releases/")
    there = "://" in root and (Store(root).at(f"releases/{uri}") / ARTIFACT_FILE).exists()
    require(there, NAME, name, ALLOWED)
    return found


@contextmanager
def open_start(name: str) -> Iterator[StartingRelease]:
    """The release that trainings begin with; its files are there until the block ends.

    Args:
        name: A folder, or `STORE/releases/PIPELINE[/VERSION]` of a store.

    Raises:
        InputError: there is none, or it is damaged.
    """
    from melodygan_core.release import starting

    found = resolve_start(name)
    if "://" not in found:
        require(any(Path(found).glob("*.json")), NAME, name, ALLOWED)
        yield starting.read(Path(found))
        return
    root, _, uri = found.rstrip("/").rpartition("/releases/")
    store = Store(root)
    with store.reading(store.at(f"releases/{uri}")) as folder:
        yield starting.read(folder)


@contextmanager
def open_part(name: str, part: str) -> Iterator[Start | None]:
    """One part of the release that trainings begin with; None for an empty name."""
    if not name:
        yield None
        return
    with open_start(name) as release:
        yield release.part(part)


def check_start(config: Config) -> str:
    """Checks that the release of `start_from` fits all that is trained; reads no weight.

    Returns:
        Which release it is, and its licences, in one sentence; empty for random weights.

    Raises:
        InputError: no release, or a part that does not fit; names it and the setting.
    """
    if not config.start_from:
        return ""
    from melodygan_core.release import starting

    with open_start(config.start_from) as release:
        starting.check(release, config, starting.checkpoints_of(config))
        return f"Starting from {release.sentence}: {', '.join(config.start_parts)}"
