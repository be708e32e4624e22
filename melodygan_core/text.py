"""Text from strangers (titles, licences, file names, messages of tools) without control characters."""

from __future__ import annotations

import re
import unicodedata

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_INVISIBLE = re.compile(r"[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
# Control, format (bidirectional overrides among them) and surrogate characters, ends of lines and paragraphs.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# They join letters of several scripts and parts of emoji, and move nothing.
_JOINERS = "\u200c\u200d"


def plain_text(value: object, length: int = 300) -> str:
    """Returns untrusted text on one line, without control, bidirectional and surrogate characters, capped."""
    text = _CONTROLS.sub(" ", str(value if value is not None else ""))
    return " ".join(_INVISIBLE.sub("", text).split())[:length].strip()


def terminal_text(value: object, *, lines: bool = False) -> str:
    r"""Returns text to print: characters that a terminal obeys are escaped as in Python, such as `\x1b`.

    Everything that the commands, the progress bars and Dagster's logs print goes through this function: a title
    or a release can neither move the cursor nor change what stands beside it.

    Args:
        value: What is printed.
        lines: Keep line feeds, of a text of several lines.
    """
    text = str(value)
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if _is_safe(c, lines) else _escaped(c) for c in text)


def _is_safe(character: str, lines: bool) -> bool:
    if character == "\n":
        return lines
    return unicodedata.category(character) not in _UNSAFE or character in _JOINERS


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
