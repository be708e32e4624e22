"""What was made with releases (`uses/`): what goes with a track, and of which release the rest is."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from melodygan_core.maintenance.inspection.report import Place
from melodygan_core.maintenance.inspection.tracks import UNREADABLE, read_object
from melodygan_core.storage.store import Artifact, Store


def made(place: Place) -> Iterator[tuple[str, Artifact]]:
    """Each use, and the release that it was made with."""
    for uri in place.below("uses", 2):
        if f"{uri}/use.json" in place.files:
            try:
                yield uri, Artifact(**read_object(place.store, place.store.at(f"{uri}/use.json"))["release"])
            except (*UNREADABLE, KeyError, TypeError):
                continue  # Damaged: it says nothing of itself any more.


def take_rows(store: Store, place: Place, ids: set[str]) -> list[str]:
    """Writes the tables of augmented sets without the tracks whose variations were removed."""
    removed = []
    gone = {f"{track_id}.wav" for track_id in ids}
    for uri in place.below("uses/augment", 1):
        path = store.at(f"{uri}/metadata.csv")
        if not path.exists():
            continue
        reader = csv.DictReader(io.StringIO(path.read_text("utf-8")))
        rows = list(reader)
        kept = [row for row in rows if row.get("source_file") not in gone]
        if len(kept) < len(rows):
            text = io.StringIO()
            writer = csv.DictWriter(text, reader.fieldnames or [], lineterminator="\n")
            writer.writeheader()
            writer.writerows(kept)
            with store.writing(path) as temporary:
                temporary.write_text(text.getvalue(), "utf-8")
            removed.append(f"{uri}/metadata.csv")
    return removed
