"""Contents of a store that must not depend on how often its runs were killed, and what killed writers leave."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from melodygan_core.config import VOCODERS
from melodygan_core.storage import Store
from melodygan_core.storage.kinds import parse

SPEED = ("duration_s", *(f"test/{vocoder}/times_real_time" for vocoder in VOCODERS))
# What no two runs share, by file: keys of JSON, columns of Parquet. All else must be the same.
VOLATILE = {
    "catalogue.parquet": ("first_seen",),
    "raw/*.json": ("fetched_at", "when"),
    "dataset/shards/*/index.parquet": ("fingerprint",),  # size and time of the feature file
    "dataset/health/*.json": ("file",),  # likewise
    "dataset/report.json": ("tracks_read",),
    "*/artifact.json": SPEED,
    "records/*.json": SPEED,
}


def _scrubbed(value: Any, keys: Sequence[str]) -> Any:
    if isinstance(value, dict):
        return {k: _scrubbed(v, keys) for k, v in value.items() if k not in keys}
    return [_scrubbed(v, keys) for v in value] if isinstance(value, list) else value


_DIGESTS: dict[tuple[int, int, int], str] = {}


def _digest(path: Path, relative: Path) -> str:
    volatile = next((v for pattern, v in VOLATILE.items() if relative.match(pattern)), ())
    stat = path.stat()
    key = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
    if key not in _DIGESTS:
        if volatile and path.suffix == ".json":
            content = json.dumps(_scrubbed(json.loads(path.read_text("utf-8")), volatile)).encode()
        elif volatile:
            table = pq.read_table(path).drop_columns(list(volatile))
            content = json.dumps(table.to_pylist(), default=str).encode()
        else:
            content = path.read_bytes()
        _DIGESTS[key] = hashlib.sha256(content).hexdigest()
    return _DIGESTS[key]


def hidden(relative: Path) -> bool:
    """Whether only its writer reads a path: an unfinished file, or scratch."""
    parsed = parse(relative.as_posix())
    return relative.parts[0] == "work" or bool(parsed.temporary)


def split(root: Path) -> tuple[list[Path], list[Path]]:
    """Files that any reader may see, and those that a killed writer left, relative; locks are neither."""
    files = [path.relative_to(root) for path in root.rglob("*") if not path.is_dir()]
    files = [path for path in files if path.parts[:2] != ("work", "locks")]
    return [path for path in files if not hidden(path)], [path for path in files if hidden(path)]


def contents(root: Path) -> dict[str, str]:
    """File -> hash of everything visible, without what no two runs share; a damaged file is `damaged`."""
    found = {}
    for relative in split(root)[0]:
        try:
            found[relative.as_posix()] = _digest(root / relative, relative)
        except (ValueError, pa.ArrowException):
            found[relative.as_posix()] = "damaged"
    return found


IMMUTABLE = ("models", "samples", "releases", "evaluations", "marks")


def root_of(store: Store) -> Path:
    return Path(store.root)


def texts(path: Path) -> Iterator[str]:
    """Text of a file: its bytes, and the strings of a table, which are compressed."""
    yield path.read_bytes().decode("latin-1")
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        yield str([table[f.name].to_pylist() for f in table.schema if pa.types.is_string(f.type)])


def traces(store: Store, word: str) -> list[str]:
    """Files of a store that contain a word, in their name or content."""
    found = []
    for path in root_of(store).rglob("*"):
        uri = path.relative_to(root_of(store)).as_posix()
        inside = path.is_file() and any(word in text for text in texts(path))
        if inside or word in path.name:
            found.append(uri)
    return sorted(u for u in found if u != "forgotten.json" and u.split("/")[0] not in IMMUTABLE)


def differences(found: dict[str, str], wanted: dict[str, str]) -> list[str]:
    return [
        f"{name}: {'missing' if name not in found else 'unexpected' if name not in wanted else 'different'}"
        for name in sorted(found.keys() | wanted.keys())
        if found.get(name) != wanted.get(name)
    ]


def relatives(root: Path) -> list[int]:
    """Processes with a working directory below a folder: children of a stage, in their own sessions (Linux)."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").readlink().is_relative_to(root):
                found.append(int(entry.name))
        except OSError:
            continue
    return found
