"""What `melodygan ui` serves on its one port: Dagster's web app, the files of the store, and apps beside them.

| path | what |
|---|---|
| `/store/...` | sounds, pictures, galleries and releases of a local store; nothing else of it |
| `/gallery` | goes to the newest gallery |
| `/studio/...` | the studio, of `melodygan_web` |
| all others | Dagster's web app |
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from melodygan_core.gallery.assets import script_source
from melodygan_core.storage import Store
from melodygan_dagster.guard import Guard
from melodygan_dagster.resources import STORE_PATH

# Folders of the store that are served; not records, locks or Dagster's database.
SERVED = ("raw", "stems", "samples", "uses", "gallery", "releases", "pictures")
# A page of the store has the origin of Dagster's app, which launches runs. It runs one script, the gallery's
# player, which the browser knows by its hash: no other script, no handler in an attribute, no file. The player
# can reach nothing, because `connect-src` (by default) and `form-action` are 'none'. With `sandbox` the page
# would have an origin of its own, and the guard would refuse its sounds and pictures. A gallery with the player
# of another version is shown without it.
STORE_POLICY = (
    "default-src 'none'; img-src 'self' data:; media-src 'self'; style-src 'unsafe-inline';"
    f" script-src {script_source()}; base-uri 'none'; form-action 'none'"
)
# Dagster executes what the query string of a GET holds, mutations too.
GRAPHQL = "/graphql"


def build_app(
    store: Store,
    dagster: ASGIApp,
    hosts: Collection[str],
    beside: Mapping[str, ASGIApp] | None = None,
    uploads: Collection[str] = (),
) -> ASGIApp:
    """Returns everything behind one guard.

    Args:
        store: Of a remote one, no file is served.
        dagster: Dagster's web app, made for the root.
        hosts: Values of `Host` to answer to, from `guard.allowed_hosts`.
        beside: Path to another app of this project, such as `/studio` for a studio.
        uploads: Paths of those apps that take a file as it is, such as `/studio/uploads`.
    """
    mounts = [route for path, app in (beside or {}).items() for route in (_with_slash(path), Mount(path, app))]
    own = [*_store_routes(store), *mounts]
    # Dagster's app answers every path, so that it comes last.
    return Guard(Starlette(routes=[*own, Mount("/", dagster)]), hosts, post_only={GRAPHQL}, uploads=uploads)


def _with_slash(path: str) -> Route:
    """Sends the address of an app without its slash on, which would be Dagster's otherwise."""

    def moved(_: Request) -> Response:
        return RedirectResponse(f"{path}/")

    return Route(path, moved)


class _StoreFiles(StaticFiles):
    """A folder whose pages run no script but the gallery's player."""

    def file_response(self, *arguments: Any, **options: Any) -> Response:
        response = super().file_response(*arguments, **options)
        response.headers["Content-Security-Policy"] = STORE_POLICY
        return response


def _store_routes(store: Store) -> list[Route | Mount]:
    def newest(_: Request) -> Response:
        made = store.record("gallery")
        if made is None:
            return PlainTextResponse("There is no gallery yet: materialize `gallery`.\n", status_code=404)
        return RedirectResponse(f"{STORE_PATH}/{made.uri}/{made.metrics['page']}")

    def not_here(_: Request) -> Response:
        text = f"Files of a remote store are not served here: look for them in {store.root}.\n"
        return PlainTextResponse(text, status_code=404)

    def unknown(_: Request) -> Response:
        return PlainTextResponse("There is no such file in the store.\n", status_code=404)

    rest = Route(f"{STORE_PATH}/{{path:path}}", unknown)
    if not store.is_local:
        return [Route("/gallery", not_here), Route(f"{STORE_PATH}/{{path:path}}", not_here)]
    root = Path(store.base.path)
    files = [Mount(f"{STORE_PATH}/{n}", _StoreFiles(directory=root / n, check_dir=False)) for n in SERVED]
    return [Route("/gallery", newest), *files, rest]
