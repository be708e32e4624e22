"""Builds the artifact of a training, in one process or in several."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from upath import UPath

from melodygan_core.storage import Artifact, Store
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
    """Returns the artifact of a training, which all processes train together if it does not exist.

    Only the main process writes to the store; see `Store.get_or_build`.

    Args:
        name: The asset's name.
        store: Where the artifact is kept.
        folder: Of the artifact; its last part is the version.
        work: Name of the folder of the resumable state; deleted once the artifact exists.
        build: Trains. Takes the folder of the state and the folder to fill, returns the metrics.
        config: The stage's config, as plain JSON.
        inputs: Upstream name to version.
    """

    def build_in_all(out: Path) -> dict[str, Any]:
        distributed.broadcast(None)
        return build(store.work(work), out)

    if distributed.is_main_process():
        artifact = store.get_or_build(name, folder, build_in_all, config=config, inputs=inputs)
        store.drop_work(work)
        return distributed.broadcast(artifact)
    # The main process holds the lock. It broadcasts the artifact if that exists, and None before it builds.
    artifact = distributed.broadcast(None)
    if artifact is None:
        with tempfile.TemporaryDirectory(prefix="melodygan-") as discarded:
            build(store.work(work), Path(discarded))
        artifact = distributed.broadcast(None)
    assert artifact is not None, "the main process broadcasts the artifact last"
    return artifact
