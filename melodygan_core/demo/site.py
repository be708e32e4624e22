"""The files of the demo: generated songs, the port of the loopback server, and sources.yaml."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import yaml

from melodygan_core.demo import songs

DIRECT_LINKS = 3


def make(folder: Path, count: int, duration_s: float) -> None:
    """Writes the songs into `folder/site` unless they exist."""
    site = folder / "site"
    names = json.loads((site / "songs.json").read_text("utf-8")) if (site / "songs.json").exists() else []
    if len(names) != count:
        songs.write_songs(site, count, duration_s)


def port(folder: Path) -> int:
    """Returns a free port, the same one for the folder every time: the port is part of each track's URL."""
    file = folder / "port"
    if file.exists():
        return int(file.read_text())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
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
