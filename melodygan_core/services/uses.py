"""Sounds of a service in a store: `uses/<job>/<run>`, with a note for erasure and doctor."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upath import UPath

from melodygan_core.storage import Artifact, Store, dump_json
from melodygan_core.storage.kinds import USE

if TYPE_CHECKING:
    from melodygan_core.services.output import ServiceResult

USE_FILE = USE.marker


def use_note(job: str, config: dict[str, Any], release: Artifact) -> dict[str, Any]:
    """What erasure and `doctor` know such a folder by.

    Args:
        job: Name of the job.
        config: Its settings, as plain JSON.
        release: Record of the release that was used.
    """
    return {"job": job, "config": config, "release": dataclasses.asdict(release)}


def write_use(
    store: Store, target: UPath, note: dict[str, Any], make: Callable[[Path], ServiceResult]
) -> ServiceResult:
    """Runs a service into a folder of a store, which appears when all its sounds are there.

    Args:
        store: That the folder is in.
        target: From `store.use`.
        note: From `use_note`.
        make: Calls the service with the folder that it writes to.

    Raises:
        MelodyGANError: what the service raises; nothing is written then.
    """
    with store.writing_folder(target) as folder:
        result = make(folder / "made")
        for path in (folder / "made").iterdir():
            path.rename(folder / path.name)
        (folder / "made").rmdir()
        dump_json(folder / USE_FILE, note)
    return result
