"""A loopback site with sounds: files, a page with `<audio>` tags, and a podcast feed."""

from __future__ import annotations

import html
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from melodygan_core.errors import InputError

CONTENT_TYPES = {
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".m4a": "audio/mp4",
}


def audio_files(folder: Path) -> list[Path]:
    """The sounds directly in a folder, by name."""
    return sorted(f for f in folder.iterdir() if f.is_file() and f.suffix.lower() in CONTENT_TYPES)


def titles(folder: Path) -> dict[str, str]:
    """File name to title: of `songs.json` where it is listed there, else the name itself."""
    listed = folder / "songs.json"
    known = {s["file"]: s["title"] for s in json.loads(listed.read_text("utf-8"))} if listed.exists() else {}
    return {f.name: known.get(f.name, f.stem) for f in audio_files(folder)}


def index_page(titles: dict[str, str]) -> str:
    """An HTML page that plays the files."""
    players = "\n".join(
        f'<p>{html.escape(title)}</p>\n<audio controls src="/{quote(name)}"></audio>'
        for name, title in titles.items()
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><title>Songs</title></head><body>\n{players}\n</body></html>\n'
    )


def feed(base_url: str, titles: dict[str, str], sizes: dict[str, int]) -> str:
    """An RSS 2.0 podcast feed with one enclosure a file."""
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


class _Handler(BaseHTTPRequestHandler):
    folder: Path
    protocol_version = "HTTP/1.1"

    def _answer(self) -> tuple[bytes, str] | None:
        name = unquote(urlsplit(self.path).path).lstrip("/")
        files = {f.name: f for f in audio_files(self.folder)}
        if name in ("", "index.html"):
            return index_page(titles(self.folder)).encode(), "text/html; charset=utf-8"
        if name == "feed.xml":
            base_url = f"http://127.0.0.1:{self.connection.getsockname()[1]}"
            text = feed(base_url, titles(self.folder), {n: f.stat().st_size for n, f in files.items()})
            return text.encode(), "application/rss+xml; charset=utf-8"
        # Only what is listed: no path from a request ever reaches the file system.
        if name in files:
            return files[name].read_bytes(), CONTENT_TYPES[files[name].suffix.lower()]
        return None

    def do_GET(self) -> None:
        answer = self._answer()
        if answer is None:
            self.send_error(404)
            return
        body, content_type = answer
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            try:
                self.wfile.write(body)
            except ConnectionError:
                # yt-dlp reads the first bytes to see what it is, and hangs up.
                self.close_connection = True

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of clients that hang up; what else fails is this module's own fault."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


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
    if not folder.is_dir():
        raise InputError(f"folder is {str(folder)!r}; allowed: an existing folder")
    handler = type("Handler", (_Handler,), {"folder": folder})
    try:
        bound = _Server(("127.0.0.1", port), handler)
    except OSError as error:
        taken = "taken already: is a UI of this demo open? Close it first"
        raise InputError(f"port is {port}, {taken} ({error.strerror})") from error
    with bound as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


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
