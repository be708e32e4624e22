"""What pages load of sounds: audio, peaks, spectrograms, provenance, archives; and stars and uploads."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from melodygan_core.config import require
from melodygan_core.errors import MelodyGANError, storage_errors
from melodygan_web.actions import action, error_response
from melodygan_web.playable import Playable, find_playable, of_upload, require_playable
from melodygan_web.security import UPLOADS
from melodygan_web.sounds import archive, stars, uploads, views
from melodygan_web.sounds.uploads import save_upload
from melodygan_web.studio import Studio, studio_of

# An id stands for one file for ever.
_CACHED = {"Cache-Control": "private, max-age=86400"}
_WAV = "audio/wav"


def _found(request: Request) -> tuple[Studio, Playable]:
    studio = studio_of(request)
    found = find_playable(studio, request.path_params["sound_id"])
    if found is None:
        raise HTTPException(404, "There is no such sound.")
    return studio, found


def audio_file(request: Request) -> Response:
    """The wav, in parts where the browser asks for parts."""
    studio, sound = _found(request)
    path = studio.store.locate(sound.uri)
    if not path.exists():
        raise HTTPException(404, "The sound is gone.")
    if studio.store.is_local:
        return FileResponse(path.path, media_type=_WAV, headers=_CACHED)
    return Response(path.read_bytes(), media_type=_WAV, headers=_CACHED)


def peaks(request: Request) -> Response:
    """The waveform as JSON."""
    studio, sound = _found(request)
    path = views.peaks_json(studio.store, sound.id, studio.store.locate(sound.uri))
    return FileResponse(path, media_type="application/json", headers=_CACHED)


def spectrogram(request: Request) -> Response:
    """The spectrogram as PNG."""
    studio, sound = _found(request)
    path = views.spectrogram_png(studio.store, sound.id, studio.store.locate(sound.uri))
    return FileResponse(path, media_type="image/png", headers=_CACHED)


def provenance(request: Request) -> Response:
    """How a sound was made, as the JSON beside it."""
    studio = studio_of(request)
    sound = studio.sounds.get(request.path_params["sound_id"])
    if sound is None:
        raise HTTPException(404, "There is no such sound.")
    return JSONResponse(studio.store.read_json(studio.store.at(sound.provenance_uri)))


def download(request: Request) -> Response:
    """A zip of the sounds whose ids are in the query, with their provenance."""
    studio = studio_of(request)
    ids = [part for part in request.query_params.get("ids", "").split(",") if part]
    found = [studio.sounds.get(part) for part in ids]
    unknown = [part for part, sound in zip(ids, found, strict=True) if sound is None]
    require(not unknown, "ids", ", ".join(unknown), "ids of sounds of this store")
    with tempfile.NamedTemporaryFile(prefix="melodygan-", suffix=".zip", delete=False) as file:
        path = Path(file.name)
    try:
        archive.write_archive(studio.store, [sound for sound in found if sound is not None], path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    name = "melodygan-sounds.zip" if len(ids) > 1 else f"melodygan-{ids[0]}.zip"
    return FileResponse(
        path,
        media_type="application/zip",
        filename=name,
        background=BackgroundTask(path.unlink, missing_ok=True),
    )


@action
def star(request: Request, data: dict[str, Any]) -> dict[str, Any]:
    """Sets or removes a star: `{"starred": true}`."""
    studio = studio_of(request)
    sound = require_playable(studio, request.path_params["sound_id"], "sound")
    starred = data.get("starred")
    require(isinstance(starred, bool), "starred", starred, "true or false")
    stars.set_star(studio.store, sound.id, bool(starred))
    return {"id": sound.id, "starred": starred}


async def upload(request: Request) -> Response:
    """Takes a sound or video file as the body; its name is in `X-File-Name`, percent-encoded."""
    studio, name = studio_of(request), unquote(request.headers.get("x-file-name", ""))
    try:
        with storage_errors():
            saved = await save_upload(studio.store, request.stream(), name, uploads.MAX_BYTES)
    except MelodyGANError as error:
        return error_response(error)
    sound = of_upload(saved)
    return JSONResponse(
        {
            "id": sound.id,
            "title": sound.title,
            "duration_s": sound.duration_s,
            "loudness_lufs": sound.loudness_lufs,
        }
    )


ROUTES = (
    Route("/sounds.zip", download),
    Route("/sounds/{sound_id:str}.wav", audio_file),
    Route("/sounds/{sound_id:str}/peaks.json", peaks),
    Route("/sounds/{sound_id:str}/spectrogram.png", spectrogram),
    Route("/sounds/{sound_id:str}/provenance.json", provenance),
    Route("/sounds/{sound_id:str}/star", star, methods=["POST"]),
    Route(UPLOADS, upload, methods=["POST"]),
)
