"""Finds the models, evaluations, samples and releases that were made from a forgotten track: they stay, marked.

Artifacts are immutable, so the mark is derived from their inputs: each names its own, down to a version of the
dataset, which lists its tracks. For what the erasure removes along that path it leaves the inputs, and the list
of tracks, in `marks/`. So even the model of a training that was running meanwhile is marked when it is done.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq

from melodygan_core import catalogue
from melodygan_core.dataset.assemble import NAME as DATASET
from melodygan_core.maintenance.check import artifacts
from melodygan_core.maintenance.check.report import UNREADABLE, Snapshot, read_object
from melodygan_core.storage import Artifact, Store, start
from melodygan_core.storage.kinds import ARTIFACTS, MARK, RECORD, RELEASE, USE, parse
from melodygan_core.storage.listing import store_files


@dataclass(frozen=True)
class Mark:
    """One artifact that was made from forgotten tracks.

    Attributes:
        name: The asset's name, or `uses/<job>` for what a job made with a release.
        version: The artifact's version, or the job's run.
        uri: Its folder.
        tracks: Forgotten track to its split: a model was trained on `train`, its checkpoint was chosen by
            `validation`, and it was compared with `test`.
    """

    name: str
    version: str
    uri: str
    tracks: dict[str, str]

    @property
    def trained_on(self) -> list[str]:
        """The forgotten tracks that it was trained on."""
        return sorted(t for t, split in self.tracks.items() if split == "train")


@dataclass
class Lineage:
    """What every artifact was made from, including those that the erasure removed.

    Attributes:
        inputs: (name, version) to upstream name to version.
        tracks: Version of the dataset, or id of starting weights, to track to split.
        present: Artifacts in the store.
    """

    inputs: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    tracks: dict[str, dict[str, str]] = field(default_factory=dict)
    present: list[Artifact] = field(default_factory=list)

    def datasets(self, name: str, version: str) -> set[str]:
        """Versions of the dataset, and ids of starting weights, that an artifact was made from."""
        if name in (DATASET, start.NAME):
            return {version}
        return {d for pair in self.inputs.get((name, version), {}).items() for d in self.datasets(*pair)}

    def tracks_of(self, name: str, version: str) -> dict[str, str]:
        """Tracks that an artifact was made from, and their split; `train` where any of its datasets says so."""
        found: dict[str, str] = {}
        for dataset in sorted(self.datasets(name, version)):
            for track_id, split in self.tracks.get(dataset, {}).items():
                found[track_id] = split if split == "train" else found.get(track_id, split)
        return found


def artifact_snapshot(store: Store) -> Snapshot:
    """The folders of artifacts, the records, the marks, and the results of jobs."""
    tops = tuple(dict.fromkeys(kind.top for kind in (*ARTIFACTS, RECORD, MARK, USE)))
    return Snapshot(store, store_files(store, tops))


def read_lineage(snapshot: Snapshot) -> Lineage:
    """Reads the inputs of every artifact, and what removed ones left in `marks/`."""
    store, found = snapshot.store, Lineage()
    for uri in snapshot.of(MARK):
        mark = read_object(store, store.at(uri))
        found.inputs[mark["name"], mark["version"]] = mark["inputs"]
        if mark["name"] == DATASET:
            found.tracks[mark["version"]] = mark["tracks"]
    for parsed in artifacts.folders(snapshot):
        try:
            artifact = artifacts.read(store, parsed.uri)
        except UNREADABLE:
            continue  # Incomplete or damaged: nothing can be made from it either.
        found.present.append(artifact)
        found.inputs[artifact.name, artifact.version] = artifact.inputs
        if artifact.name == DATASET:
            found.tracks[artifact.version] = tracks_in(store, parsed.uri)
        for begun in start.provenance(store, [artifact]):
            found.tracks[begun["id"]] = {row["track_id"]: "train" for row in begun["sources"]["tracks"]}
    return found


def tracks_in(store: Store, uri: str) -> dict[str, str]:
    """Track to split of a version of the dataset."""
    with store.reading(store.at(f"{uri}/tracks.parquet")) as path:
        rows = pq.read_table(path, columns=["track_id", "split"]).to_pylist()
    return {row["track_id"]: row["split"] for row in rows}


def leave(store: Store, removed: Iterable[Artifact], known: Lineage) -> None:
    """Writes the inputs of artifacts into `marks/`, before the caller removes them."""
    for artifact in removed:
        path = store.mark(artifact.name, artifact.version)
        if not path.exists():
            when = datetime.now(UTC).isoformat(timespec="seconds")
            mark = {
                "name": artifact.name,
                "version": artifact.version,
                "when": when,
                "inputs": artifact.inputs,
            }
            if artifact.name == DATASET:
                mark["tracks"] = known.tracks[artifact.version]
            store.write_json(path, mark)


def marks(store: Store) -> list[Mark]:
    """Every artifact that was made from a forgotten track, and what jobs made with such releases."""
    return made_from(store, set(catalogue.forgotten(store)))


def made_from(store: Store, ids: set[str]) -> list[Mark]:
    """Every artifact that was made from one of some tracks, and what jobs made with such releases."""
    if not ids:
        return []
    snapshot = artifact_snapshot(store)
    known = read_lineage(snapshot)
    candidates = [(a, a.name, a.version, a.uri) for a in known.present]
    # The result of a job is named after the job and its run.
    candidates += [(a, *uri.rsplit("/", 1), uri) for uri, a in _uses(snapshot)]
    result = []
    for artifact, name, version, uri in candidates:
        tracks = known.tracks_of(artifact.name, artifact.version)
        found = {t: split for t, split in sorted(tracks.items()) if t in ids}
        if found:
            result.append(Mark(name, version, uri, found))
    return result


def _uses(snapshot: Snapshot) -> Iterator[tuple[str, Artifact]]:
    """Each result of a job, and the release that it was made with."""
    for uri in snapshot.of(USE):
        note = f"{uri}/{USE.marker}"
        if note in snapshot.files:
            try:
                yield uri, Artifact.from_json(read_object(snapshot.store, snapshot.store.at(note))["release"])
            except (*UNREADABLE, KeyError, TypeError):
                continue  # Damaged: its release is not known any more.


def of_artifact(store: Store, artifact: Artifact) -> list[str]:
    """Forgotten tracks that an artifact, or what it was made from, was trained on."""
    return in_store(store, artifact.uri)


def in_release(folder: Path) -> list[str]:
    """Forgotten tracks that the models of a local release folder were trained on.

    Only where the folder is still in its store (`<store>/releases/<pipeline>/<version>`): a copy elsewhere does
    not know what was forgotten after it was made.
    """
    folder = folder.absolute()
    uri = "/".join(folder.parts[-RELEASE.parts :])
    parsed = parse(uri)
    if parsed.kind is not RELEASE or len(folder.parts) <= RELEASE.parts:
        return []
    return in_store(Store(str(folder.parents[RELEASE.parts - 1])), uri)


def in_store(store: Store, uri: str) -> list[str]:
    """Forgotten tracks that the artifact at a URI, or what it was made from, was trained on."""
    return [t for mark in marks(store) if mark.uri == uri for t in mark.trained_on]
