"""One row a track: its columns, its name, and the table on disk."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit, urlunsplit

import pyarrow as pa
import pyarrow.parquet as pq

from melodygan_core.errors import InputError
from melodygan_core.sandbox import net
from melodygan_core.storage.store import Store

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
        track_id: See track_id().
        url: Canonical; `file:` for one's own files.
        title: Empty when no site said.
        uploader: Empty when no site said.
        licence: The source's, else the site's, else empty, which means unknown and not free.
        rights: One of config.RIGHTS.
        tags: Of every source that lists it.
        duration_s: As the site says, in seconds.
        source_id: The first source that lists it.
        first_seen: UTC.
        status: `listed`, or `unlisted` when its sources answer and name it no more.
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
    """What of a text may stand in a file name: `[A-Za-z0-9_-]`, capped."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", text).strip("-")[:length].strip("-")


def canonical_url(url: str) -> str:
    """One spelling of a URL: lower-case scheme and host, no default port, no fragment, ASCII only.

    Raises:
        InputError: not http(s), credentials in it, white space, or longer than 4096 characters.
    """
    if len(url) > 4096 or re.search(r"[\x00-\x20\x7f\ud800-\udfff]", url):
        raise InputError(
            f"url is {url[:200]!r}; allowed: at most 4096 characters, no spaces or control characters"
        )
    net.check_url(url)
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise InputError(f"url on {parts.hostname!r} has a user name in it; allowed: URLs without credentials")
    host = parts.hostname or ""
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError as error:
            raise InputError(f"url is {url[:200]!r}; allowed: a valid host name ({error})") from error
    # Unicode's compatible forms may hide a slash, a space or a digit.
    if not re.fullmatch(r"[0-9a-f:.]+" if ":" in host else r"[a-z0-9._-]+", host):
        raise InputError(
            f"url is {url[:200]!r}; allowed: a valid host name of letters, digits, dots and hyphens"
        )
    host = f"[{host}]" if ":" in host else host
    scheme = parts.scheme.lower()
    if parts.port and parts.port != {"http": 80, "https": 443}[scheme]:
        host = f"{host}:{parts.port}"
    safe = "%/:=&?~+!$,;'@()*[]"
    return urlunsplit((scheme, host, quote(parts.path or "/", safe=safe), quote(parts.query, safe=safe), ""))


def track_id(extractor: str, site_id: str, url: str) -> str:
    """A name for a track that is safe as a file name and a partition key.

    Args:
        extractor: yt-dlp's, or `local`; a function of the url.
        site_id: The site's own id; a function of the url.
        url: Canonical.

    Returns:
        `[A-Za-z0-9_-]+`; two different URLs never share one.
    """
    parts = (slug(extractor, 24), slug(site_id, 40), hashlib.sha256(url.encode()).hexdigest()[:12])
    return "-".join(p for p in parts if p)


def load(store: Store) -> list[Track]:
    """All rows of the catalogue, oldest first; none when there is no catalogue yet."""
    if not store.catalogue().exists():
        return []
    with store.reading(store.catalogue()) as path:
        rows = pq.read_table(path, schema=SCHEMA).to_pylist()
    return [
        Track(**row | {"tags": tuple(row["tags"]), "first_seen": row["first_seen"].astimezone(UTC)})
        for row in rows
    ]


def save(store: Store, tracks: Sequence[Track]) -> None:
    """Replaces the table, atomically."""
    assert len({t.track_id for t in tracks}) == len(tracks), "two URLs share a track_id"
    table = pa.Table.from_pylist([asdict(t) | {"tags": list(t.tags)} for t in tracks], schema=SCHEMA)
    with store.writing(store.catalogue()) as path:
        pq.write_table(table, path, compression="zstd")
