"""What a person writes: a list of URLs and of paths to one's own audio."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from melodygan_core.catalogue.tracks import canonical_url, slug
from melodygan_core.config import RIGHTS, plain_yaml
from melodygan_core.errors import InputError
from melodygan_core.sandbox import net

_SOURCE_FIELDS = ("url", "path", "licence", "rights", "tags", "max_items")


@dataclass(frozen=True)
class Source:
    """One entry of sources.yaml: a `url` or a `path`, never both.

    Attributes:
        url: A track's page, direct link, playlist, channel or feed.
        path: A sound file or a folder of them, relative to the sources file.
        licence: As a person would write it; goes with every track.
        rights: One of config.RIGHTS.
        tags: Go with every track.
        max_items: Most tracks taken from it; None means the config's.
    """

    url: str = ""
    path: str = ""
    licence: str = ""
    rights: str = "unknown"
    tags: tuple[str, ...] = ()
    max_items: int | None = None

    def __post_init__(self) -> None:
        if bool(self.url) == bool(self.path):
            raise InputError(f"url is {self.url!r} and path is {self.path!r}; allowed: exactly one of them")
        if self.rights not in RIGHTS:
            raise InputError(f"rights is {self.rights!r}; allowed: {', '.join(RIGHTS)}")
        if self.max_items is not None and not 1 <= self.max_items <= 100_000:
            raise InputError(f"max_items is {self.max_items!r}; allowed: 1 to 100000")
        if self.url:
            canonical_url(self.url)
        if "\0" in self.path:
            raise InputError(f"path is {self.path!r}; allowed: no NUL")

    @property
    def name(self) -> str:
        """The url or path, as it was written."""
        return self.url or self.path

    @property
    def source_id(self) -> str:
        """Readable, and the same as long as the url or path is."""
        origin = canonical_url(self.url) if self.url else f"path:{self.path}"
        words = origin.partition("://")[2] if self.url else self.path
        return f"{slug(words, 40)}-{hashlib.sha256(origin.encode('utf-8', 'replace')).hexdigest()[:8]}"


def read_sources(path: Path) -> list[Source]:
    """The sources of a YAML file (`.yaml`, `.yml`), or of any other file with one url or path a line.

    Raises:
        InputError: unreadable, larger than 1 MB, or an entry is wrong; names the line.
    """
    text = plain_yaml.read_text(path)
    if path.suffix.lower() in (".yaml", ".yml"):
        entries = _yaml_entries(path.name, text)
    else:
        lines = [(n, re.split(r"(?:^|\s)#", line)[0].strip()) for n, line in enumerate(text.split("\n"), 1)]
        entries = [(n, line) for n, line in lines if line]
    sources: list[Source] = []
    for line, value in entries:
        try:
            sources.append(_source(value))
        except InputError as error:
            raise InputError(f"{path.name}, line {line}: {error}") from error
    return list(dict.fromkeys(sources))


def _yaml_entries(name: str, text: str) -> list[tuple[int, Any]]:
    data, root = plain_yaml.parse(name, text, typed=False)
    if not isinstance(data, dict) or set(data) != {"sources"} or not isinstance(data["sources"], list):
        raise InputError(f"{name}, line 1: allowed: one key `sources:` with a list below it")
    assert root is not None, "data is a dict"
    _, items = root.value[0]
    return [(node.start_mark.line + 1, value) for node, value in zip(items.value, data["sources"], strict=True)]


def _source(value: Any) -> Source:
    if isinstance(value, str):
        # Anything with a scheme is meant as a URL, so that `ytsearch:` and `file:` are refused as such.
        return Source(url=value) if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", value) else Source(path=value)
    if not isinstance(value, dict):
        raise InputError(f"a source is {str(value)[:100]!r}; allowed: a string or a mapping")
    for key, content in value.items():
        if key not in _SOURCE_FIELDS:
            raise InputError(f"a source has {key!r}; allowed: {', '.join(_SOURCE_FIELDS)}")
        if not isinstance(content, list if key == "tags" and isinstance(content, list) else str):
            raise InputError(
                f"{key} is {str(content)[:100]!r}; allowed: {'a list' if key == 'tags' else 'one value'}"
            )
    tags = value.get("tags", [])
    tags = [t for t in tags.split(",") if t.strip()] if isinstance(tags, str) else tags
    if not all(isinstance(t, str) for t in tags):
        raise InputError(f"tags is {str(tags)[:100]!r}; allowed: a list of strings")
    most = value.get("max_items", "")
    if most and not re.fullmatch(r"[0-9]{1,9}", most):
        raise InputError(f"max_items is {most[:100]!r}; allowed: 1 to 100000")
    return Source(
        url=value.get("url", ""),
        path=value.get("path", ""),
        licence=net.plain_text(value.get("licence", "")),
        rights=value.get("rights") or "unknown",
        tags=tuple(dict.fromkeys(net.plain_text(t, 60) for t in tags)),
        max_items=int(most) if most else None,
    )
