"""The demo's site and its sources.yaml: songs that the project makes itself, for a loopback server."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import yaml

from melodygan_core.demo import songs

DIRECT_LINKS = 3


def make(folder: Path, count: int, duration_s: float) -> None:
    """Writes the songs into `folder/site`, unless they are there."""
    site = folder / "site"
    names = json.loads((site / "songs.json").read_text("utf-8")) if (site / "songs.json").exists() else []
    if len(names) != count:
        songs.write_songs(site, count, duration_s)


def port(folder: Path) -> int:
    """A free port, the same one for this folder whenever it can be: a track is known by its URL."""
    file = folder / "port"
    if file.exists():
        return int(file.read_text())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        chosen = int(probe.getsockname()[1])
    file.write_text(str(chosen))
    return chosen


def write_sources(folder: Path, url: str) -> Path:
    """Writes `folder/sources.yaml`: a few direct links, and the site's feed for the rest.

    The links are in the feed too: a track that is seen twice is one row.
    """
    listed = json.loads((folder / "site" / "songs.json").read_text("utf-8"))
    common = {"licence": "CC0-1.0", "rights": "own"}
    sources = [{"url": f"{url}/{s['file']}", "tags": list(s["tags"]), **common} for s in listed[:DIRECT_LINKS]]
    sources.append({"url": f"{url}/feed.xml", "tags": ["demo"], **common})
    path = folder / "sources.yaml"
    path.write_text(yaml.safe_dump({"sources": sources}, sort_keys=False), "utf-8")
    return path
