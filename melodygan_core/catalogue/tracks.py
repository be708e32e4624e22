"""The table of tracks: columns, track_ids, reading and writing; tombstones of forgotten tracks."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit, urlunsplit

import pyarrow as pa
import pyarrow.parquet as pq

from melodygan_core.errors import InputError, damage_errors
from melodygan_core.sandbox import net
from melodygan_core.storage import Store

SCHEMA = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("url", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("uploader", pa.string(), nullable=False),
        pa.field("licence", pa.string(), nullable=False),
        pa.field("rights", pa.string(), nullable=False),
        pa.field("tags", pa.list_(pa.string()), nullable=False),
        pa.field("duration_s", pa.float64()),
        pa.field("source_id", pa.string(), nullable=False),
        pa.field("first_seen", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("status", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Track:
    """One row of the catalogue.

    Attributes:
        track_id: File name; see track_id().
        url: Canonical URL; `file:` for local files.
        title: Empty if unknown.
        uploader: Empty if unknown.
        licence: The licence of the source, else of the site; empty means unknown, not free.
        rights: One of config.RIGHTS.
        tags: The tags of every source that lists the track.
        duration_s: Duration in seconds according to the site.
        source_id: The first source that lists the track.
        first_seen: Time in UTC.
        status: `listed`, or `unlisted` once its sources answer without it.
    """

    track_id: str
    url: str
    title: str
    uploader: str
    licence: str
    rights: str
    tags: tuple[str, ...]
    duration_s: float | None
    source_id: str
    first_seen: datetime
    status: str


def slug(text: str, length: int) -> str:
    """Returns a text as part of a file name: `[A-Za-z0-9_-]`, at most `length` characters."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", text).strip("-")[:length].strip("-")


def canonical_url(url: str) -> str:
    """Returns the canonical spelling of a URL: lower-case scheme and host, no default port or fragment, ASCII.

    Raises:
        InputError: it is not http(s), has credentials or white space, or is longer than 4096 characters.
    """
    if len(url) > 4096 or re.search(r"[\x00-\x20\x7f\ud800-\udfff]", url):
        raise InputError(
            f"url must be at most 4096 characters without spaces or control characters, got {url[:200]!r}"
        )
    net.check_url(url)
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise InputError(f"url must be without credentials, got one with a user name on {parts.hostname!r}")
    host = parts.hostname or ""
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError as error:
            raise InputError(f"url must have a valid host name, got {url[:200]!r} ({error})") from error
    # Compatibility forms of Unicode may hide a slash, a space or a digit.
    if not re.fullmatch(r"[0-9a-f:.]+" if ":" in host else r"[a-z0-9._-]+", host):
        raise InputError(f"url must have a host name of letters, digits, dots and hyphens, got {url[:200]!r}")
    host = f"[{host}]" if ":" in host else host
    scheme = parts.scheme.lower()
    if parts.port and parts.port != {"http": 80, "https": 443}[scheme]:
        host = f"{host}:{parts.port}"
    safe = "%/:=&?~+!$,;'@()*[]"
    return urlunsplit((scheme, host, quote(parts.path or "/", safe=safe), quote(parts.query, safe=safe), ""))


def track_id(extractor: str, site_id: str, url: str) -> str:
    """Returns the id of a track, safe as a file name.

    Args:
        extractor: yt-dlp's extractor, or `local`; a function of the url.
        site_id: The id on the site; a function of the url.
        url: Canonical URL.

    Returns:
        `[A-Za-z0-9_-]+`; two different URLs never share one.
    """
    parts = (slug(extractor, 24), slug(site_id, 40), hashlib.sha256(url.encode()).hexdigest()[:12])
    return "-".join(p for p in parts if p)


def load(store: Store) -> list[Track]:
    """Returns all rows of the catalogue, oldest first; an empty list if there is no catalogue yet.

    Raises:
        DamagedError: the table cannot be read.
    """
    if not store.catalogue().exists():
        return []
    with store.reading(store.catalogue()) as path, damage_errors(store.catalogue()):
        rows = pq.read_table(path, schema=SCHEMA).to_pylist()
        return [
            Track(**row | {"tags": tuple(row["tags"]), "first_seen": row["first_seen"].astimezone(UTC)})
            for row in rows
        ]


def save(store: Store, tracks: Sequence[Track]) -> None:
    """Replaces the table atomically."""
    assert len({t.track_id for t in tracks}) == len(tracks), "two URLs share a track_id"
    table = pa.Table.from_pylist([asdict(t) | {"tags": list(t.tags)} for t in tracks], schema=SCHEMA)
    with store.writing(store.catalogue()) as path:
        pq.write_table(table, path, compression="zstd")


@dataclass(frozen=True)
class Tombstone:
    """A forgotten track, which no source may add again.

    Attributes:
        url_sha256: Hash of its canonical URL, which is not kept; empty if the URL is unknown.
        when: Time in UTC.
    """

    url_sha256: str
    when: str


def url_sha256(url: str) -> str:
    """Returns the hash of a URL for a tombstone."""
    return hashlib.sha256(url.encode()).hexdigest()


def forgotten(store: Store) -> dict[str, Tombstone]:
    """Returns the tombstones by track_id.

    Raises:
        InputError: the file is damaged; without it the sources would add forgotten tracks again.
    """
    path = store.forgotten()
    if not path.exists():
        return {}
    try:
        return {str(track_id): Tombstone(**stone) for track_id, stone in store.read_json(path).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged ({error}): restore it, or forget its tracks once more") from error


def save_forgotten(store: Store, stones: Mapping[str, Tombstone]) -> None:
    """Replaces the tombstones atomically; the caller holds the lock of the catalogue."""
    store.write_json(store.forgotten(), {track_id: asdict(stone) for track_id, stone in sorted(stones.items())})
