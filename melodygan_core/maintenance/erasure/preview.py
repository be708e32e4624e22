"""What the erasure of tracks would remove and what it would leave, before it is done."""

from __future__ import annotations

from dataclasses import dataclass

from melodygan_core.maintenance.erasure import copies, lineage
from melodygan_core.maintenance.erasure.lineage import Mark
from melodygan_core.storage import Store, kinds
from melodygan_core.storage.listing import store_files


@dataclass(frozen=True)
class Preview:
    """What follows from the erasure of tracks.

    Attributes:
        files: URIs of files and folders that are of these tracks alone, and are removed.
        marks: What was made from them and stays: models, samples, evaluations, releases and results.
    """

    files: list[str]
    marks: list[Mark]


def preview(store: Store, track_ids: list[str]) -> Preview:
    """Returns what `forget` would do; removes nothing.

    Rows in datasets, latent tables and galleries with the tracks are removed, too, and are not listed.

    Args:
        store: Whose tracks.
        track_ids: The tracks.
    """
    ids = set(track_ids)
    parsed = [kinds.parse(uri) for uri in store_files(store)]
    own = {p.track_uri for p in parsed if p.track_id in ids}
    gone = copies.copies_of(store, ids)
    marks = [mark for mark in lineage.made_from(store, ids) if mark.uri not in gone]
    return Preview(sorted({*own, *gone}), marks)
