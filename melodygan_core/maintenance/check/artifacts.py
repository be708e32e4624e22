"""Checks the immutable folders of artifacts (models, samples, releases, datasets, ...) and their records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial

from melodygan_core.maintenance.check.report import (
    UNREADABLE,
    Finding,
    Snapshot,
    Unit,
    difference,
    read_object,
    repair_sentence,
    short,
)
from melodygan_core.storage import Artifact, Store
from melodygan_core.storage.kinds import ARTIFACT_FILE, ARTIFACTS, RECORD, TEMPORARY, Parsed


def units(snapshot: Snapshot) -> Iterator[Unit]:
    """Every folder of an artifact, then the records of those in use."""
    in_use = _in_use(snapshot)
    for parsed in folders(snapshot):
        yield Unit(parsed.uri, (parsed.lock,), partial(_folder, snapshot, parsed, in_use))
    for uri, parsed in snapshot.of(RECORD).items():
        yield Unit(uri, (parsed.lock,), partial(_record, snapshot, uri))


def folders(snapshot: Snapshot) -> list[Parsed]:
    """All folders of artifacts, complete or not."""
    return [parsed for kind in ARTIFACTS for parsed in snapshot.of(kind).values()]


def read(store: Store, uri: str) -> Artifact:
    """The artifact in a folder, as its own file describes it."""
    return Artifact.from_json(read_object(store, store.at(f"{uri}/{ARTIFACT_FILE}")))


def drop(store: Store, uri: str) -> list[str]:
    """Removes an artifact's folder and the record that names it, so that the next run makes it again."""
    removed = []
    try:
        record = store.record(read(store, uri).name)
        # The record first: without it nothing looks for the folder.
        if record is not None and record.uri == uri:
            path = store.record_path(record.name)
            removed.append(store.uri(path))
            store.remove(path)
    except UNREADABLE:
        pass  # An incomplete folder or a damaged record, which the check reports.
    return [*removed, uri] if store.remove(store.at(uri)) else removed


@dataclass(frozen=True)
class _InUse:
    """What the records name, and what that and other artifacts were made from.

    Attributes:
        versions: (name, version).
        recorded: Names with a record.
    """

    versions: frozenset[tuple[str, str]]
    recorded: frozenset[str]


def _in_use(snapshot: Snapshot) -> _InUse:
    found: list[Artifact] = []
    for uri in snapshot.of(RECORD):
        try:
            found.append(Artifact.from_json(read_object(snapshot.store, snapshot.store.at(uri))))
        except UNREADABLE:
            continue  # Reported as a record.
    recorded = {(a.name, a.version) for a in found}
    for parsed in folders(snapshot):
        try:
            found.append(read(snapshot.store, parsed.uri))
        except UNREADABLE:
            continue  # Reported as a folder.
    versions = recorded | {pair for a in found for pair in a.inputs.items()}
    return _InUse(frozenset(versions), frozenset(name for name, _ in recorded))


def _folder(snapshot: Snapshot, parsed: Parsed, in_use: _InUse) -> list[Finding]:
    store, uri = snapshot.store, parsed.uri
    again = repair_sentence("the folder", parsed.kind.remake)
    if not store.at(uri).exists():
        return []
    if not (store.at(uri) / ARTIFACT_FILE).exists():
        what = f"has no {ARTIFACT_FILE}, which is written last; {again}"
        return [Finding(uri, "incomplete", what, (uri,))]
    try:
        wrong = next(_problems(snapshot, uri, again), None)
    except UNREADABLE as error:
        wrong = Finding(uri, "damaged", f"cannot be read ({short(error)}); {again}", (uri,))
    return [wrong] if wrong else list(_not_needed(snapshot, read(store, uri), in_use))


def _problems(snapshot: Snapshot, uri: str, again: str) -> Iterator[Finding]:
    """How a folder differs from its own description."""
    folder, artifact = snapshot.store.at(uri), read(snapshot.store, uri)
    if (artifact.version, artifact.uri) != (folder.name, uri):
        yield Finding(uri, "mismatch", f"describes itself as {artifact.uri}; {again}", (uri,))
    for name, sha256 in artifact.files.items():
        if not (folder / name).exists():
            yield Finding(uri, "incomplete", f"has no {name}; {again}", (uri,))
        elif wrong := difference(snapshot, folder / name, sha256, None):
            yield Finding(f"{uri}/{name}", "mismatch", f"{wrong}; {again}", (uri,))
    size = sum((folder / name).stat().st_size for name in artifact.files)
    if size != artifact.bytes:
        yield Finding(uri, "mismatch", f"has {size} bytes instead of {artifact.bytes}; {again}", (uri,))


def _not_needed(snapshot: Snapshot, artifact: Artifact, in_use: _InUse) -> Iterator[Finding]:
    extra = set(snapshot.inside(artifact.uri)) - {*artifact.files, ARTIFACT_FILE}
    for name in sorted(extra):
        if not any(TEMPORARY.match(part) for part in name.split("/")):
            yield Finding(f"{artifact.uri}/{name}", "orphaned", "does not belong to its folder; it is kept")
    if (artifact.name, artifact.version) not in in_use.versions and artifact.name in in_use.recorded:
        yield Finding(artifact.uri, "superseded", f"another version of {artifact.name} is in use; it is kept")


def _record(snapshot: Snapshot, uri: str) -> list[Finding]:
    store = snapshot.store
    again = repair_sentence("the record", RECORD.remake)
    if not store.at(uri).exists():
        return []
    try:
        record = Artifact.from_json(read_object(store, store.at(uri)))
        exists = store.at(f"{record.uri}/{ARTIFACT_FILE}").exists()
        same = exists and asdict(read(store, record.uri)) == asdict(record)
    except UNREADABLE as error:
        return [Finding(uri, "damaged", f"cannot be read ({short(error)}); {again}", (uri,))]
    if not exists:
        return [Finding(uri, "missing", f"names {record.uri}, which does not exist; {again}", (uri,))]
    if not same:
        return [Finding(uri, "mismatch", f"differs from the description in {record.uri}; {again}", (uri,))]
    return []
