"""Immutable folders (models, samples, evaluations, releases, galleries, datasets) and records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial

from melodygan_core.maintenance.inspection.listing import TEMPORARY, lock_name, remove
from melodygan_core.maintenance.inspection.report import Finding, Place, Unit
from melodygan_core.maintenance.inspection.tracks import UNREADABLE, compare, read_object, short
from melodygan_core.storage.store import ARTIFACT_FILE, Artifact, Store

# Where folders of artifacts lie, and how deep.
FOLDERS = {"dataset": 1, "models": 3, "samples": 2, "evaluations": 2, "releases": 2, "gallery": 1}


def units(place: Place) -> Iterator[Unit]:
    """Every folder of an artifact, then the records that name those in use."""
    in_use = _in_use(place)
    for uri in folders(place):
        yield Unit(uri, (lock_name(uri),), partial(_folder, place, uri, in_use))
    for uri in place.below("records", 1):
        yield Unit(uri, (lock_name(uri),), partial(_record, place, uri))


def folders(place: Place) -> list[str]:
    """URIs of all folders of artifacts, whole or not."""
    return [
        u
        for top, depth in FOLDERS.items()
        for u in place.below(top, depth)
        if u not in place.files and u not in ("dataset/shards", "dataset/health")
    ]


def read(store: Store, uri: str) -> Artifact:
    """The artifact in a folder, as its own file describes it."""
    return Artifact(**read_object(store, store.at(f"{uri}/{ARTIFACT_FILE}")))


def drop(store: Store, uri: str) -> list[str]:
    """Removes the folder of an artifact, and the record that names it, so that the next run makes it anew."""
    gone = []
    try:
        record = store.record(read(store, uri).name)
        # The record first: without it nobody looks for the folder.
        if record is not None and record.uri == uri:
            gone.append(store.uri(store.record_path(record.name)))
            remove(store, gone[0])
    except UNREADABLE:
        pass  # A torn folder, or a damaged record: inspection names it.
    return [*gone, uri] if remove(store, uri) else gone


@dataclass(frozen=True)
class _InUse:
    """What records name, and what that and other artifacts were made from."""

    versions: frozenset[tuple[str, str]]
    recorded: frozenset[str]


def _in_use(place: Place) -> _InUse:
    made: list[Artifact] = []
    for uri in place.below("records", 1):
        try:
            made.append(Artifact(**read_object(place.store, place.store.at(uri))))
        except UNREADABLE:
            continue  # Its own finding.
    recorded = {(a.name, a.version) for a in made}
    for uri in folders(place):
        try:
            made.append(read(place.store, uri))
        except UNREADABLE:
            continue
    versions = recorded | {pair for a in made for pair in a.inputs.items()}
    return _InUse(frozenset(versions), frozenset(name for name, _ in recorded))


def _folder(place: Place, uri: str, in_use: _InUse) -> list[Finding]:
    store, folder = place.store, place.store.at(uri)
    again = "mending removes the folder, to make it again"
    if not folder.exists():
        return []
    if not (folder / ARTIFACT_FILE).exists():
        return [Finding(uri, "torn", f"has no {ARTIFACT_FILE}, which is written last; {again}", (uri,))]
    try:
        wrong = next(_differences(place, uri, again), None)
    except UNREADABLE as error:
        wrong = Finding(uri, "damaged", f"cannot be read ({short(error)}); {again}", (uri,))
    return [wrong] if wrong else list(_not_needed(place, read(store, uri), in_use))


def _differences(place: Place, uri: str, again: str) -> Iterator[Finding]:
    """How the folder differs from what it says of itself."""
    folder, made = place.store.at(uri), read(place.store, uri)
    if (made.version, made.uri) != (folder.name, uri):
        yield Finding(uri, "mismatch", f"says that it is {made.uri}; {again}", (uri,))
    for name, sha256 in made.files.items():
        if not (folder / name).exists():
            yield Finding(uri, "torn", f"has no {name}; {again}", (uri,))
        elif difference := compare(place, folder / name, sha256, None):
            yield Finding(f"{uri}/{name}", "mismatch", f"{difference}; {again}", (uri,))
    size = sum((folder / name).stat().st_size for name in made.files)
    if size != made.bytes:
        what = f"holds {size} bytes, not the {made.bytes} that were written"
        yield Finding(uri, "mismatch", f"{what}; {again}", (uri,))


def _not_needed(place: Place, made: Artifact, in_use: _InUse) -> Iterator[Finding]:
    extra = {f.removeprefix(f"{made.uri}/") for f in place.files if f.startswith(f"{made.uri}/")}
    for name in sorted(extra - {*made.files, ARTIFACT_FILE}):
        if not any(TEMPORARY.match(part) for part in name.split("/")):
            yield Finding(f"{made.uri}/{name}", "orphaned", "does not belong to its folder; it is kept")
    if (made.name, made.version) not in in_use.versions and made.name in in_use.recorded:
        yield Finding(made.uri, "superseded", f"another version of {made.name} is in use; it is kept")


def _record(place: Place, uri: str) -> list[Finding]:
    again = "mending removes the record; the next run makes what it stands for, or finds it"
    if not place.store.at(uri).exists():
        return []
    try:
        record = Artifact(**read_object(place.store, place.store.at(uri)))
        there = place.store.at(f"{record.uri}/{ARTIFACT_FILE}").exists()
        same = there and asdict(read(place.store, record.uri)) == asdict(record)
    except UNREADABLE as error:
        return [Finding(uri, "damaged", f"cannot be read ({short(error)}); {again}", (uri,))]
    if not there:
        return [Finding(uri, "missing", f"names {record.uri}, which is not there; {again}", (uri,))]
    if not same:
        return [Finding(uri, "mismatch", f"does not say what {record.uri} says of itself; {again}", (uri,))]
    return []
