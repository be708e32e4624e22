"""Which models, evaluations, samples and releases a forgotten track went into: they stay, and are marked.

Their folders are immutable, so the mark is in what they were made from: every one names its inputs, down to a
version of the dataset, which lists its tracks. What forgetting removes on that way leaves its inputs and its
list of tracks in `marks/`, so that even a training that was running meanwhile is marked when it is done.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq

from melodygan_core import catalogue
from melodygan_core.dataset.assemble import NAME as DATASET
from melodygan_core.maintenance.erasure import uses
from melodygan_core.maintenance.inspection import artifacts
from melodygan_core.maintenance.inspection.listing import files
from melodygan_core.maintenance.inspection.report import Place
from melodygan_core.maintenance.inspection.tracks import UNREADABLE, read_object
from melodygan_core.storage.store import Artifact, Store


@dataclass(frozen=True)
class Mark:
    """One artifact that a forgotten track went into.

    Attributes:
        name: Of the asset.
        version: Of the artifact.
        uri: Its folder.
        tracks: Forgotten track to its split: `train` is what was learned from, `validation` chose among
            checkpoints, `test` was compared with.
    """

    name: str
    version: str
    uri: str
    tracks: dict[str, str]

    @property
    def trained(self) -> list[str]:
        """The forgotten tracks that were learned from."""
        return sorted(t for t, split in self.tracks.items() if split == "train")


@dataclass
class Lineage:
    """What every artifact was made from, those that forgetting removed among them.

    Attributes:
        inputs: (name, version) to upstream name to version.
        tracks: Version of the dataset to track to split.
        there: Artifacts that are in the store.
    """

    inputs: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    tracks: dict[str, dict[str, str]] = field(default_factory=dict)
    there: list[Artifact] = field(default_factory=list)

    def datasets(self, name: str, version: str) -> set[str]:
        """Versions of the dataset that an artifact was made from, at any distance."""
        if name == DATASET:
            return {version}
        return {d for pair in self.inputs.get((name, version), {}).items() for d in self.datasets(*pair)}

    def tracks_of(self, name: str, version: str) -> dict[str, str]:
        """Tracks that an artifact was made from, and the split; `train` where any of its datasets says so."""
        found: dict[str, str] = {}
        for dataset in sorted(self.datasets(name, version)):
            for track_id, split in self.tracks.get(dataset, {}).items():
                found[track_id] = split if split == "train" else found.get(track_id, split)
        return found


def artifact_place(store: Store) -> Place:
    """The folders of artifacts, the records, and what was made with releases."""
    return Place(store, files(store, (*artifacts.FOLDERS, "records", "marks", "uses")), False, frozenset())


def lineage(place: Place) -> Lineage:
    """Reads what every artifact says of its inputs, and what removed ones left."""
    store, found = place.store, Lineage()
    for uri in place.below("marks", 2):
        mark = read_object(store, store.at(uri))
        found.inputs[mark["name"], mark["version"]] = mark["inputs"]
        if mark["name"] == DATASET:
            found.tracks[mark["version"]] = mark["tracks"]
    for uri in artifacts.folders(place):
        try:
            made = artifacts.read(store, uri)
        except UNREADABLE:
            continue  # Torn or damaged: nothing can be made from it either.
        found.there.append(made)
        found.inputs[made.name, made.version] = made.inputs
        if made.name == DATASET:
            found.tracks[made.version] = tracks_in(store, uri)
    return found


def tracks_in(store: Store, uri: str) -> dict[str, str]:
    """Track to split of a version of the dataset."""
    with store.reading(store.at(f"{uri}/tracks.parquet")) as path:
        rows = pq.read_table(path, columns=["track_id", "split"]).to_pylist()
    return {row["track_id"]: row["split"] for row in rows}


def leave(store: Store, removed: Iterable[Artifact], known: Lineage) -> None:
    """Writes what is to be removed into `marks/`; the caller removes it after that."""
    for made in removed:
        path = store.mark(made.name, made.version)
        if not path.exists():
            when = datetime.now(UTC).isoformat(timespec="seconds")
            mark = {"name": made.name, "version": made.version, "when": when, "inputs": made.inputs}
            if made.name == DATASET:
                mark["tracks"] = known.tracks[made.version]
            store.write_json(path, mark)


def marks(store: Store) -> list[Mark]:
    """Every artifact of a store that a forgotten track went into, and what jobs made with its releases."""
    stones = catalogue.forgotten(store)
    if not stones:
        return []
    place = artifact_place(store)
    found = lineage(place)
    result = []
    made = [(a, a.name, a.version, a.uri) for a in found.there]
    # What a job made with a release is named after the job and its run.
    made += [(a, *uri.rsplit("/", 1), uri) for uri, a in uses.made(place)]
    for artifact, name, version, uri in made:
        tracks = found.tracks_of(artifact.name, artifact.version)
        touched = {t: split for t, split in sorted(tracks.items()) if t in stones}
        if touched:
            result.append(Mark(name, version, uri, touched))
    return result


def of_artifact(store: Store, artifact: Artifact) -> list[str]:
    """Forgotten tracks that an artifact was trained on, itself or what it was made from."""
    return in_store(store, artifact.uri)


def in_release(folder: Path) -> list[str]:
    """Forgotten tracks that the models of a release folder were trained on, as its store knows.

    Only where the folder lies in its store (`<store>/releases/<family>/<version>`): a copy elsewhere does not
    know what was forgotten after it was made.
    """
    folder = folder.absolute()
    if len(folder.parts) < 5 or folder.parts[-3] != "releases":
        return []
    return in_store(Store(str(folder.parents[2])), "/".join(folder.parts[-3:]))


def in_store(store: Store, uri: str) -> list[str]:
    """Forgotten tracks that what lies at a URI of a store was trained on, itself or what it was made from."""
    return [t for mark in marks(store) if mark.uri == uri for t in mark.trained]
