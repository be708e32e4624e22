"""What the library changes: sources are added and removed, tracks are tried again or forgotten."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route

from melodygan_core.catalogue import Source, add_source, added_files, local_path, read_sources, remove_source
from melodygan_core.config import RIGHTS, require
from melodygan_core.errors import InputError, MelodyGANError, TransientError
from melodygan_core.maintenance.tracks import retry
from melodygan_core.storage.files import make_folders, synced
from melodygan_core.storage.kinds import ADDED_FILE, UPLOAD
from melodygan_core.text import plain_text
from melodygan_web import dagster_tracks
from melodygan_web.actions import action, text_field
from melodygan_web.library import LibraryTrack, erasure
from melodygan_web.sounds.uploads import find_upload
from melodygan_web.studio import Studio, studio_of

MAX_TAGS = 20
# Of a name with four bytes per character, below the 255 that file systems take.
NAME_LENGTH = 60


@action
def add_url(request: Request, data: dict[str, Any]) -> dict[str, Any]:
    """Adds a URL to the sources: `{"url", "rights", "licence", "tags"}`."""
    studio = studio_of(request)
    # Source itself checks the URL.
    source = Source(url=text_field(data, "url", most=4096).strip(), **_facts(data))
    require(bool(source.url), "url", source.url, "the address of a track, playlist, channel or feed")
    _add(studio, source)
    return {"source_id": source.source_id}


@action
def add_file(request: Request, data: dict[str, Any]) -> dict[str, Any]:
    """Adds an uploaded file to the sources: `{"upload", "rights", "licence", "tags"}`.

    It moves from the uploads, so that forgetting its track leaves no copy.
    """
    studio, facts = studio_of(request), _facts(data)
    require(studio.store.is_local, "store", studio.store.root, "a local folder, to add files to it")
    upload = find_upload(studio.store, text_field(data, "upload"))
    if upload is None:
        raise InputError("upload must be the id of an uploaded file of this store, and there is none")
    store, sources = studio.store, _sources_file(studio)
    target = Path(store.path(ADDED_FILE, file_id=upload.id).path) / f"{file_name(upload.name)}.wav"
    folder = sources.absolute().parent
    path = target.absolute()
    named = path.relative_to(folder) if path.is_relative_to(folder) else path
    source = Source(path=named.as_posix(), **facts)
    make_folders(target.parent)
    try:
        shutil.copyfile(store.at(upload.uri).path, target)
        synced(target)
        _add(studio, source)
    except BaseException:
        shutil.rmtree(target.parent, ignore_errors=True)
        raise
    store.remove(store.path(UPLOAD, upload_id=upload.id))
    return {"source_id": source.source_id, "title": target.stem}


def file_name(name: str) -> str:
    """A file's name without suffix as one that is safe everywhere: letters and digits of any script."""
    stem = plain_text(name).rpartition(".")[0] or plain_text(name)
    return re.sub(r"[^\w -]+", "-", stem).strip(" -")[:NAME_LENGTH].strip(" -") or "sound"


@action
def drop_source(request: Request, data: dict[str, Any]) -> dict[str, Any]:
    """Removes a source from the sources file: `{"source_id"}`. Its tracks stay, as unlisted."""
    studio, source_id = studio_of(request), text_field(data, "source_id")
    path = _sources_file(studio)
    with studio.store.lock("sources"):
        found = [source for source in read_sources(path) if source.source_id == source_id]
        require(bool(found), "source", source_id, f"one that {path.name} lists")
        remove_source(path, found[0])
    return {"source_id": source_id}


@action
def ingest(request: Request, data: dict[str, Any]) -> dict[str, Any]:
    """Has Dagster list the tracks of all sources now."""
    studio = studio_of(request)
    if studio.dagster is None:
        raise HTTPException(404, "There is no Dagster beside this studio.")
    return {"run": dagster_tracks.look_for_tracks(studio.dagster.ask)}


@action
def try_again(request: Request, data: dict[str, Any]) -> dict[str, Any]:
    """Has a track processed again: `{"stage"}`. Without Dagster, the next `melodygan run` does so."""
    studio, entry = entry_of(request)
    stage = text_field(data, "stage", "raw_wav")
    require(stage in dagster_tracks.STAGES, "stage", stage, ", ".join(dagster_tracks.STAGES))
    if entry.has_failed and stage == "raw_wav":
        retry(studio.store, [entry.id])
        studio.library.refresh()
    if studio.dagster is None:
        return {"track": entry.id, "run": "", "message": "The next `melodygan run` tries it again."}
    return {
        "track": entry.id,
        "run": dagster_tracks.try_again(studio.dagster.ask, entry.id, stage),
        "message": "Dagster tries it again.",
    }


@action
def forget(request: Request, data: dict[str, Any]) -> dict[str, Any]:
    """Forgets a track for good: `{"confirmed": track_id}`."""
    studio, entry = entry_of(request)
    confirmed = data.get("confirmed")
    require(confirmed == entry.id, "confirmed", confirmed, f"the track_id, {entry.id}")
    added = is_added(studio, entry)
    done = erasure.forget(studio.store.root, entry.id)
    studio.library.refresh()
    studio.sounds.refresh()
    remaining = _drop_entry(studio, entry) if added else ""
    return {
        "track": entry.id,
        "removed": len(done.files),
        "learned": list(done.learned),
        "running": list(done.running),
        "remaining": " ".join(filter(None, (remaining, _drop_partition(studio, entry)))),
    }


def _drop_partition(studio: Studio, entry: LibraryTrack) -> str:
    """Removes a track from Dagster; returns why not where it cannot."""
    if studio.dagster is None:
        return ""
    try:
        dagster_tracks.drop_partitions(studio.dagster.ask, [entry.id])
    except TransientError as error:
        return f"Its partition in Dagster stays: {error}."
    return ""


def _drop_entry(studio: Studio, entry: LibraryTrack) -> str:
    """Removes the source of an added file that is gone; returns why not where it cannot."""
    path, gone = _sources_file(studio), local_path(entry.track.url)
    try:
        with studio.store.lock("sources"):
            for source in read_sources(path):
                if source.path and (path.absolute().parent / source.path).resolve() == gone:
                    remove_source(path, source)
    except MelodyGANError as error:
        return f"Its entry in {path.name} stays: {error}."
    return ""


def is_added(studio: Studio, entry: LibraryTrack) -> bool:
    """Whether a track is a file that was added in the studio, and lies in the store."""
    url = entry.track.url
    if not studio.store.is_local or not url.startswith("file:"):
        return False
    return local_path(url).is_relative_to(added_files(studio.store).resolve())


def _add(studio: Studio, source: Source) -> None:
    with studio.store.lock("sources"):
        add_source(_sources_file(studio), source)


def _sources_file(studio: Studio) -> Path:
    if studio.sources is None:
        raise HTTPException(404, "This studio serves a store without a sources file.")
    return studio.sources


def _facts(data: dict[str, Any]) -> dict[str, Any]:
    """Rights, licence and tags of a source. Rights have to be given: nobody else knows them."""
    rights = data.get("rights")
    require(rights in RIGHTS, "rights", rights, ", ".join(RIGHTS))
    tags = data.get("tags", [])
    require(
        isinstance(tags, list) and len(tags) <= MAX_TAGS and all(isinstance(t, str) for t in tags),
        "tags",
        tags,
        f"a list of at most {MAX_TAGS} texts",
    )
    found = tuple(filter(None, (plain_text(tag, 60).strip() for tag in tags)))
    return {"rights": rights, "licence": plain_text(text_field(data, "licence", "")).strip(), "tags": found}


def entry_of(request: Request) -> tuple[Studio, LibraryTrack]:
    """The studio and the track that an address names; a missing track is answered with 404."""
    studio = studio_of(request)
    entry = studio.library.get(request.path_params["track_id"])
    if entry is None:
        raise HTTPException(404, "There is no such track.")
    return studio, entry


ROUTES = (
    Route("/library/sources", add_url, methods=["POST"]),
    Route("/library/files", add_file, methods=["POST"]),
    Route("/library/sources/remove", drop_source, methods=["POST"]),
    Route("/library/ingest", ingest, methods=["POST"]),
    Route("/library/tracks/{track_id:str}/retry", try_again, methods=["POST"]),
    Route("/library/tracks/{track_id:str}/forget", forget, methods=["POST"]),
)
