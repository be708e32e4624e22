"""The sources file: a list of URLs and of paths to local audio."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from melodygan_core.catalogue.tracks import canonical_url, slug
from melodygan_core.config import RIGHTS, plain_yaml
from melodygan_core.errors import InputError
from melodygan_core.text import plain_text

TAG_LENGTH = 60
_SOURCE_FIELDS = ("url", "path", "licence", "rights", "tags", "max_items")


@dataclass(frozen=True)
class Source:
    """One entry of sources.yaml: a `url` or a `path`, never both.

    Attributes:
        url: The page of a track, a direct link, a playlist, a channel or a feed.
        path: An audio file or a folder of them, relative to the sources file.
        licence: Free text; every track of the source gets it.
        rights: One of config.RIGHTS.
        tags: Every track of the source gets them.
        max_items: Most tracks taken from the source; None means the limit of the config.
    """

    url: str = ""
    path: str = ""
    licence: str = ""
    rights: str = "unknown"
    tags: tuple[str, ...] = ()
    max_items: int | None = None

    def __post_init__(self) -> None:
        if bool(self.url) == bool(self.path):
            raise InputError(f"exactly one of url and path must be set, got {self.url!r} and {self.path!r}")
        if self.rights not in RIGHTS:
            raise InputError(f"rights must be {', '.join(RIGHTS)}, got {self.rights!r}")
        if self.max_items is not None and not 1 <= self.max_items <= 100_000:
            raise InputError(f"max_items must be 1 to 100000, got {self.max_items!r}")
        if self.url:
            canonical_url(self.url)
        if "\0" in self.path:
            raise InputError(f"path must have no NUL, got {self.path!r}")

    @property
    def name(self) -> str:
        """The url or path as written."""
        return self.url or self.path

    @property
    def source_id(self) -> str:
        """A readable id that depends on the url or path alone."""
        origin = canonical_url(self.url) if self.url else f"path:{self.path}"
        words = origin.partition("://")[2] if self.url else self.path
        return f"{slug(words, 40)}-{hashlib.sha256(origin.encode('utf-8', 'replace')).hexdigest()[:8]}"


def read_sources(path: Path) -> list[Source]:
    """Returns the sources of a YAML file (`.yaml`, `.yml`), or of a text file with one url or path per line.

    Raises:
        InputError: the file is unreadable or larger than 1 MB, or an entry is wrong; names the line.
    """
    is_yaml = path.suffix.lower() in (".yaml", ".yml")
    found = parse_sources(path.name, plain_yaml.read_text(path), is_yaml=is_yaml)
    return list(dict.fromkeys(source for _, source in found))


def parse_sources(name: str, text: str, *, is_yaml: bool) -> list[tuple[int, Source]]:
    """Returns the line and the source of every entry of a text, repeated ones too.

    Args:
        name: Name of the file, for messages.
        text: Content of the file.
        is_yaml: Whether it is YAML, not one url or path per line.

    Raises:
        InputError: an entry is wrong; names the line.
    """
    if is_yaml:
        entries = _yaml_entries(name, text)
    else:
        lines = [(n, re.split(r"(?:^|\s)#", line)[0].strip()) for n, line in enumerate(text.split("\n"), 1)]
        entries = [(n, line) for n, line in lines if line]
    sources: list[tuple[int, Source]] = []
    for line, value in entries:
        try:
            sources.append((line, _source(value)))
        except InputError as error:
            raise InputError(f"{name}, line {line}: {error}") from error
    return sources


def _yaml_entries(name: str, text: str) -> list[tuple[int, Any]]:
    data, root = plain_yaml.parse(name, text, typed=False)
    if not isinstance(data, dict) or set(data) != {"sources"} or not isinstance(data["sources"], list):
        raise InputError(f"{name}, line 1: the file must have one key `sources:` with a list below it")
    assert root is not None, "data is a dict"
    _, items = root.value[0]
    return [(node.start_mark.line + 1, value) for node, value in zip(items.value, data["sources"], strict=True)]


def _source(value: Any) -> Source:
    if isinstance(value, str):
        # A string with a scheme is a URL, so that `ytsearch:` and `file:` are refused as URLs.
        return Source(url=value) if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", value) else Source(path=value)
    if not isinstance(value, dict):
        raise InputError(f"a source must be a string or a mapping, got {str(value)[:100]!r}")
    for key, content in value.items():
        if key not in _SOURCE_FIELDS:
            raise InputError(f"a key of a source must be {', '.join(_SOURCE_FIELDS)}, got {key!r}")
        if not isinstance(content, list if key == "tags" and isinstance(content, list) else str):
            kind = "a list" if key == "tags" else "one value"
            raise InputError(f"{key} must be {kind}, got {str(content)[:100]!r}")
    tags = value.get("tags", [])
    tags = [t for t in tags.split(",") if t.strip()] if isinstance(tags, str) else tags
    if not all(isinstance(t, str) for t in tags):
        raise InputError(f"tags must be a list of strings, got {str(tags)[:100]!r}")
    most = value.get("max_items", "")
    if most and not re.fullmatch(r"[0-9]{1,9}", most):
        raise InputError(f"max_items must be 1 to 100000, got {most[:100]!r}")
    return Source(
        url=value.get("url", ""),
        path=value.get("path", ""),
        licence=plain_text(value.get("licence", "")),
        rights=value.get("rights") or "unknown",
        tags=tuple(dict.fromkeys(plain_text(t, TAG_LENGTH) for t in tags)),
        max_items=int(most) if most else None,
    )
