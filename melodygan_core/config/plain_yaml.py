"""Safe reading of YAML files that people write: no aliases, tags, deep nesting or repeated keys."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from melodygan_core.errors import InputError

MAX_BYTES = 1_000_000
_DEPTH = 8
# YAML 1.1 reads 1e-4 as text, because there is no dot in it.
_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$")


def read_text(path: Path) -> str:
    """The content of a small UTF-8 file, with or without a byte order mark.

    Raises:
        InputError: no file, larger than 1 MB, or not UTF-8; names the line of the first wrong byte.
    """
    try:
        # Reading a pipe or a device may never end.
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is not a readable UTF-8 file: it is a folder or a device")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise InputError(f"{path.name} must have at most {MAX_BYTES} bytes, got {path.stat().st_size}")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path} is not a readable UTF-8 file: line {line}: {error.reason}") from error
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not a readable UTF-8 file: {error}") from error


def parse(name: str, text: str, *, typed: bool) -> tuple[Any, yaml.Node | None]:
    """The data of one YAML document, and the nodes that hold its line numbers.

    Args:
        name: Name of the file, for messages.
        text: Content of the file.
        typed: Read numbers, dates and booleans; else all scalars are strings.

    Raises:
        InputError: not YAML, an alias, a tag, a repeated key, or nested deeper than 8; names the line.
    """
    loader: Any = _loader(typed)
    constructor = yaml.constructor.SafeConstructor() if typed else yaml.constructor.BaseConstructor()
    try:
        _check_events(name, text, loader)
        root = yaml.compose(text, Loader=loader)
        if root is None:
            return None, None
        _check_keys(name, root)
        return constructor.construct_document(root), root
    except yaml.YAMLError as error:
        raise InputError(f"{name}, line {_line(text, error)}: not valid YAML: {_reason(error)}") from error
    except (ValueError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name} is not valid YAML: a number or date in it: {error}") from error


@cache
def _loader(typed: bool) -> Any:
    # The C parser, where PyYAML was built with it, is ten times faster.
    kind = "SafeLoader" if typed else "BaseLoader"
    base = getattr(yaml, f"C{kind}", getattr(yaml, kind))
    if not typed:
        return base
    loader: Any = type("ExponentLoader", (base,), {})
    loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789"))
    return loader


def _check_events(name: str, text: str, loader: Any) -> None:
    # Before anything is built: aliases can grow a few lines to gigabytes, and deep nesting overflows the stack.
    depth = 0
    for event in yaml.parse(text, Loader=loader):
        where = f"{name}, line {(event.start_mark.line if event.start_mark else 0) + 1}"
        if isinstance(event, yaml.AliasEvent):
            raise InputError(f"{where}: an alias is not allowed")
        if getattr(event, "tag", None) is not None:
            raise InputError(f"{where}: a tag, {str(event.tag)[:60]!r}, is not allowed")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEPTH:
            raise InputError(f"{where}: nested {depth} deep, at most {_DEPTH} is allowed")


def _check_keys(name: str, node: yaml.Node) -> None:
    # YAML keeps the last of two equal keys and drops the first without a word.
    if isinstance(node, yaml.MappingNode):
        seen: set[Any] = set()
        for key, value in node.value:
            where = f"{name}, line {key.start_mark.line + 1}"
            if not isinstance(key, yaml.ScalarNode):
                raise InputError(f"{where}: a key that is a list or mapping is not allowed")
            if key.value in seen:
                raise InputError(f"{where}: {key.value[:100]!r} for the second time is not allowed")
            seen.add(key.value)
            _check_keys(name, value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _check_keys(name, value)


def _line(text: str, error: yaml.YAMLError) -> int:
    marks = [getattr(error, name, None) for name in ("problem_mark", "context_mark")]
    lines = [mark.line + 1 for mark in marks if mark is not None]
    if lines:
        # An unclosed quote is noticed at the end of the file; the context is where it opens.
        last = max(1, len(text.splitlines()))
        return min(lines[-1], last) if lines[0] > last else lines[0]
    position = getattr(error, "position", None)
    return text.count("\n", 0, position) + 1 if isinstance(position, int) else 1


def _reason(error: yaml.YAMLError) -> str:
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    return " ".join(str(problem).split())[:200]
