"""The provenance of the weights that a training began with, in the folder of its checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from melodygan_core.storage.artifact import Artifact
from melodygan_core.storage.store import Store

# Among the inputs of an artifact, beside the versions of what it was made from.
NAME = "start_from"
# It stays in the folder when the checkpoint becomes a part of a release.
FILE = "start.json"
# In the JSON of samples and releases.
RELEASES = "started_from"


def provenance(store: Store, artifacts: Sequence[Artifact]) -> list[dict[str, Any]]:
    """What the checkpoints among some artifacts began with; nothing of those that began with random weights.

    Returns:
        `id`, `pipeline` and `version` of the release, `part`, and `sources`: its training tracks, as in its
        manifest.
    """
    return [store.read_json(store.at(a.uri) / FILE) for a in artifacts if FILE in a.files]
