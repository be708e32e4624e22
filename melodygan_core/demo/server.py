"""A loopback site with sounds: files, a page with `<audio>` tags, and a podcast feed; files of the demo."""

from __future__ import annotations

import html
import json
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import yaml

from melodygan_core.errors import InputError

if TYPE_CHECKING:
    from starlette.applications import Starlette

HOST = "127.0.0.1"
# Songs that the demo's sources.yaml names one by one; the feed lists them all.
DIRECT_LINKS = 3
CONTENT_TYPES = {
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".m4a": "audio/mp4",
}


def audio_files(folder: Path) -> list[Path]:
    """Returns the sounds directly in a folder, sorted by name."""
    return sorted(f for f in folder.iterdir() if f.is_file() and f.suffix.lower() in CONTENT_TYPES)


def titles(folder: Path) -> dict[str, str]:
    """Returns file name to title: from `songs.json` where it lists the file, else the name itself."""
    listed = folder / "songs.json"
    known = {s["file"]: s["title"] for s in json.loads(listed.read_text("utf-8"))} if listed.exists() else {}
    return {f.name: known.get(f.name, f.stem) for f in audio_files(folder)}


def index_page(titles: dict[str, str]) -> str:
    """Returns an HTML page that plays the files."""
    players = "\n".join(
        f'<p>{html.escape(title)}</p>\n<audio controls src="/{quote(name)}"></audio>'
        for name, title in titles.items()
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><title>Songs</title></head><body>\n{players}\n</body></html>\n'
    )


def feed(base_url: str, titles: dict[str, str], sizes: dict[str, int]) -> str:
    """Returns an RSS 2.0 podcast feed with one enclosure per file."""
    items = "\n".join(
        f"<item><title>{html.escape(titles[name])}</title>"
        f'<enclosure url="{base_url}/{quote(name)}" length="{size}" '
        f'type="{CONTENT_TYPES[Path(name).suffix.lower()]}"/></item>'
        for name, size in sizes.items()
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<rss version="2.0"><channel><title>Songs</title>'
        f"<link>{base_url}/</link><description>Songs</description>\n{items}\n</channel></rss>\n"
    )


def site_app(folder: Path) -> Starlette:
    """Returns the site of a folder: `/` is the page, `/feed.xml` the feed, `/<name>` a sound.

    Only listed sounds are served: no path of a request reaches the file system.
    """
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import FileResponse, HTMLResponse, Response
    from starlette.routing import Route

    def page(_: Request) -> Response:
        return HTMLResponse(index_page(titles(folder)))

    def podcast(request: Request) -> Response:
        sizes = {f.name: f.stat().st_size for f in audio_files(folder)}
        # The address that was bound, not the Host header: a client must not write into the feed.
        text = feed(f"http://{HOST}:{request.scope['server'][1]}", titles(folder), sizes)
        return Response(text, media_type="application/rss+xml")

    def sound(request: Request) -> Response:
        file = {f.name: f for f in audio_files(folder)}.get(request.path_params["name"])
        if file is None:
            raise HTTPException(404)
        return FileResponse(file, media_type=CONTENT_TYPES[file.suffix.lower()])

    return Starlette(routes=[Route("/", page), Route("/feed.xml", podcast), Route("/{name}", sound)])


@contextmanager
def serve(folder: Path, port: int = 0) -> Iterator[str]:
    """Serves a folder's sounds on 127.0.0.1 for the length of the block.

    Args:
        folder: Its files are `/<name>`, the page is `/`, the feed is `/feed.xml`.
        port: 0 takes a free one.

    Yields:
        The base URL, without a slash at the end.

    Raises:
        InputError: no such folder, or the port is taken.
    """
    import uvicorn

    if not folder.is_dir():
        raise InputError(f"folder must be an existing folder, got {str(folder)!r}")
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            taken = f"{port}, taken already ({error.strerror}): close the UI of this demo first"
            # No option sets it: it is kept with the songs.
            raise InputError(f"the port of the demo's songs must be free, got {taken}") from error
        listener.listen()
        config = uvicorn.Config(site_app(folder), log_level="critical", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            # Connections wait in the listener's queue until the server is up.
            yield f"http://{HOST}:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def write_site(folder: Path, count: int, duration_s: float) -> None:
    """Writes the songs into `folder/site` unless they exist."""
    # Imported here: a server of songs that exist makes none.
    from melodygan_core.demo.songs import write_songs

    site = folder / "site"
    names = json.loads((site / "songs.json").read_text("utf-8")) if (site / "songs.json").exists() else []
    if len(names) != count:
        write_songs(site, count, duration_s)


def site_port(folder: Path) -> int:
    """Returns a free port, the same one for the folder every time: the port is part of each track's URL."""
    file = folder / "port"
    if file.exists():
        return int(file.read_text())
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        chosen = int(probe.getsockname()[1])
    file.write_text(str(chosen))
    return chosen


def write_sources(folder: Path, url: str) -> Path:
    """Writes `folder/sources.yaml`: a few direct links, and the feed of the site for the rest.

    The feed lists the linked tracks as well, and each stays one row of the catalogue.
    """
    listed = json.loads((folder / "site" / "songs.json").read_text("utf-8"))
    common = {"licence": "CC0-1.0", "rights": "own"}
    sources = [{"url": f"{url}/{s['file']}", "tags": list(s["tags"]), **common} for s in listed[:DIRECT_LINKS]]
    sources.append({"url": f"{url}/feed.xml", "tags": ["demo"], **common})
    path = folder / "sources.yaml"
    path.write_text(yaml.safe_dump({"sources": sources}, sort_keys=False), "utf-8")
    return path


def main(arguments: list[str]) -> None:
    """`python -m melodygan_core.demo.server FOLDER [PORT]`: serves until interrupted."""
    if len(arguments) not in (1, 2) or (len(arguments) == 2 and not arguments[1].isdecimal()):
        raise SystemExit("usage: python -m melodygan_core.demo.server FOLDER [PORT]")
    with serve(Path(arguments[0]), int(arguments[1]) if len(arguments) == 2 else 0) as base_url:
        print(base_url, flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main(sys.argv[1:])
