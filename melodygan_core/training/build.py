"""What a training leaves: one artifact, whichever processes it took."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from upath import UPath

from melodygan_core.storage.store import Artifact, Store
from melodygan_core.training import distributed


def get_or_build(
    name: str,
    store: Store,
    folder: UPath,
    work: str,
    build: Callable[[Path, Path], dict[str, Any]],
    *,
    config: dict[str, Any],
    inputs: dict[str, str],
) -> Artifact:
    """`Store.get_or_build` for a training, by all of its processes; the leader alone writes to the store.

    Args:
        name: The asset's name.
        store: Where the artifact goes.
        folder: Where it belongs; its last part is the version.
        work: Name of the folder of its resumable state, which is dropped when the artifact is there.
        build: Trains: takes the folder of the state and the one to fill, returns the metrics.
        config: The stage's config, as plain JSON.
        inputs: Upstream name to version.
    """

    def lead(out: Path) -> dict[str, Any]:
        distributed.broadcast(None)
        return build(store.work(work), out)

    if distributed.is_main_process():
        artifact = store.get_or_build(name, folder, lead, config=config, inputs=inputs)
        store.drop_work(work)
        return distributed.broadcast(artifact)
    # The leader holds the lock. What it says first is the artifact, if that was there, or else that it builds.
    artifact = distributed.broadcast(None)
    if artifact is None:
        with tempfile.TemporaryDirectory(prefix="melodygan-") as thrown_away:
            build(store.work(work), Path(thrown_away))
        artifact = distributed.broadcast(None)
    assert artifact is not None, "the leader ends with an artifact"
    return artifact
