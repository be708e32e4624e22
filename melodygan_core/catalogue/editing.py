"""Changes to the sources file: one entry is added or removed, and all other lines stay as they are."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from melodygan_core.catalogue.sources import TAG_LENGTH, Source, parse_sources, read_sources
from melodygan_core.config import plain_yaml
from melodygan_core.errors import InputError
from melodygan_core.storage import replacing
from melodygan_core.storage.files import synced
from melodygan_core.text import plain_text

_SUFFIXES = (".yaml", ".yml")


def add_source(path: Path, source: Source) -> None:
    """Adds an entry at the end of a sources file; creates the file if it does not exist.

    The file is replaced atomically. The caller holds a lock, because two writers would lose an entry.

    Args:
        path: A YAML file; a list without keys cannot hold rights.
        source: The entry.

    Raises:
        InputError: the file is wrong or no YAML file, lists the source already, or would be too large.
    """
    _require_yaml(path)
    tags = tuple(dict.fromkeys(plain_text(tag, TAG_LENGTH) for tag in source.tags))
    source = replace(source, licence=plain_text(source.licence), tags=tags)
    before = read_sources(path) if path.exists() else []
    if source.source_id in {known.source_id for known in before}:
        field = "url" if source.url else "path"
        raise InputError(f"{field} must be new, got {source.name!r}, which {path.name} lists already")
    text = plain_yaml.read_text(path) if path.exists() else "sources: []\n"
    _replace(path, _with_entry(path, text, source), [*before, source])


def remove_source(path: Path, source: Source) -> None:
    """Removes an entry of a sources file.

    Args:
        path: A YAML file whose list has one entry per line, as `add_source` writes it.
        source: The entry.

    Raises:
        InputError: the file is wrong, does not list the source, or lists it in a form that is not changed here.
    """
    _require_yaml(path)
    before = read_sources(path)
    if source not in before:
        raise InputError(f"source must be one that {path.name} lists, got {source.name!r}")
    text = plain_yaml.read_text(path)
    _replace(path, _without_entry(path, text, source), [known for known in before if known != source])


def _require_yaml(path: Path) -> None:
    if path.suffix.lower() not in _SUFFIXES:
        raise InputError(f"sources must be a .yaml file to hold the rights of a source, got {path.name!r}")


def _list_node(path: Path, text: str) -> tuple[yaml.Node, yaml.SequenceNode]:
    """The key `sources` and its list."""
    _, root = plain_yaml.parse(path.name, text, typed=False)
    if not isinstance(root, yaml.MappingNode) or not isinstance(root.value[0][1], yaml.SequenceNode):
        raise InputError(f"{path.name}, line 1: the file must have one key `sources:` with a list below it")
    return root.value[0]


def _with_entry(path: Path, text: str, source: Source) -> str:
    (_, node), fields = _list_node(path, text), _fields(source)
    newline = "\r\n" if "\r\n" in text else "\n"
    if node.flow_style and not node.value:
        # An empty list becomes a list with one entry per line.
        return text[: node.start_mark.index].rstrip() + newline + _block(fields, "  ", newline)
    if node.flow_style:
        end = node.end_mark.index - 1
        entry = ", ".join(f"{name}: {value}" for name, value in fields.items())
        return f"{text[:end].rstrip().removesuffix(',')}, {{{entry}}}{text[end:]}"
    last = "" if text.endswith("\n") else newline
    return text + last + _block(fields, " " * node.start_mark.column, newline)


def _without_entry(path: Path, text: str, source: Source) -> str:
    (key, node), lines = _list_node(path, text), text.splitlines(keepends=True)
    if node.flow_style:
        raise InputError(f"{path.name} must have one source per line to remove one: remove it by hand")
    if len(node.value) == 1:
        return text[: key.end_mark.index] + ": []\n"
    listed = [known for _, known in parse_sources(path.name, text, is_yaml=True)]
    index = listed.index(source)
    starts = [*(item.start_mark.line for item in node.value), len(lines)]
    start, end = starts[index], starts[index + 1]
    # Comments above the next entry are about that one.
    while end > start + 1 and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
        end -= 1
    return "".join([*lines[:start], *lines[end:]])


def _fields(source: Source) -> dict[str, str]:
    """Keys of an entry and their values as YAML in one line."""
    given: dict[str, Any] = {
        "url": source.url,
        "path": source.path,
        "licence": source.licence,
        "rights": source.rights,
        "tags": list(source.tags),
        "max_items": "" if source.max_items is None else str(source.max_items),
    }
    return {name: _quoted(value) for name, value in given.items() if value}


def _quoted(value: str | list[str]) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_quoted, value))}]"
    # Quoted and escaped, so that no text is read as a key, a comment, a number or a tag.
    return yaml.safe_dump(value, default_style='"', width=2**30).strip()


def _block(fields: dict[str, str], indent: str, newline: str) -> str:
    marks = ["- ", *["  "] * (len(fields) - 1)]
    rows = zip(marks, fields.items(), strict=True)
    return "".join(f"{indent}{mark}{name}: {value}{newline}" for mark, (name, value) in rows)


def _replace(path: Path, text: str, expected: Sequence[Source]) -> None:
    """Replaces the file, if the new text is read as exactly what is expected."""
    content = text.encode("utf-8")
    if len(content) > plain_yaml.MAX_BYTES:
        raise InputError(f"{path.name} must have at most {plain_yaml.MAX_BYTES} bytes, got {len(content)}")
    found = [source for _, source in parse_sources(path.name, text, is_yaml=True)]
    if list(dict.fromkeys(found)) != list(expected):
        raise InputError(f"{path.name} must be in a form that can be changed here: change it by hand")
    # A link stays a link.
    target = path.resolve()
    with replacing(target) as temporary:
        temporary.write_bytes(content)
        if target.exists():
            shutil.copymode(target, temporary)
        synced(temporary)
