"""The studio's app: screens, sounds and jobs behind one session, to be mounted at `/studio`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from melodygan_core.config import Config
from melodygan_core.errors import InputError, MelodyGANError
from melodygan_core.storage import Store
from melodygan_web import job_routes, sound_routes
from melodygan_web.dagster_runs import DagsterRuns
from melodygan_web.jobs import JobQueue
from melodygan_web.jobs.queue import Runner
from melodygan_web.screens import all_screens
from melodygan_web.security import Security
from melodygan_web.sounds import SoundIndex
from melodygan_web.studio import Studio
from melodygan_web.templating import render

STATIC = Path(__file__).parent / "static"


class StudioApp:
    """An ASGI app and the jobs behind it, as a context manager that starts and ends them.

    Attributes:
        studio: What its screens work with.
    """

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self._app = Security(_routes(studio))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        await self._app(scope, receive, send)

    def __enter__(self) -> StudioApp:
        self.studio.jobs.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.studio.jobs.close()


def build_studio(
    store_root: str,
    *,
    dagster: DagsterRuns | None = None,
    sources: Path | None = None,
    config: Config | None = None,
    runner: Runner | None = None,
) -> StudioApp:
    """Returns the studio of a store; nothing runs before its `with` block.

    Args:
        store_root: A folder, or any fsspec URI.
        dagster: Dagster's runs, where Dagster is served beside it.
        sources: The deployment's sources.yaml.
        config: The deployment's config.
        runner: Makes the sounds of jobs; a process of its own by default.
    """
    store = Store(store_root)
    sounds = SoundIndex(store)
    jobs = JobQueue(store, runner, sounds.refresh)
    return StudioApp(Studio(store, sounds, jobs, dagster, sources, config))


class _Static(StaticFiles):
    """Files that a browser asks for again after an update."""

    def file_response(self, *arguments: Any, **options: Any) -> Response:
        response = super().file_response(*arguments, **options)
        response.headers["Cache-Control"] = "no-cache"
        return response


def _routes(studio: Studio) -> Starlette:
    screens = all_screens()

    def home(request: Request) -> Response:
        return RedirectResponse(f"{request.scope.get('root_path', '')}/{screens[0].name}")

    app = Starlette(
        routes=[
            Route("/", home),
            Mount("/static", _Static(directory=STATIC, packages=_gallery_assets())),
            *(route for screen in screens for route in screen.routes),
            *sound_routes.ROUTES,
            *job_routes.ROUTES,
        ],
        exception_handlers={HTTPException: _http_error, MelodyGANError: _package_error},
    )
    app.state.studio = studio
    app.state.screens = screens
    app.state.has_player = bool(_gallery_assets())
    return app


def _gallery_assets() -> list[str | tuple[str, str]]:
    """The player is the gallery's, so that both pages sound and look alike."""
    found = find_spec("melodygan_core.gallery")
    there = found is not None and found.origin and (Path(found.origin).parent / "assets").is_dir()
    return [("melodygan_core.gallery", "assets")] if there else []


def _wants_page(request: Request) -> bool:
    return request.method == "GET" and "text/html" in request.headers.get("accept", "")


def _error(request: Request, status: int, sentence: str) -> Response:
    if _wants_page(request):
        return render(request, "error.html", status, status=status, sentence=sentence)
    return JSONResponse({"error": sentence}, status)


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(request, error.status_code, error.detail)


def _package_error(request: Request, error: Exception) -> Response:
    return _error(request, 400 if isinstance(error, InputError) else 500, str(error))
