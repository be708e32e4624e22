"""The player and the styles of the page, as text, and the policy by which a browser runs no other script."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
PLAYER, THEME, PAGE = "player.js", "theme.css", "gallery.css"


@cache
def text(name: str) -> str:
    """Returns the text of an asset, such as PLAYER."""
    return (FOLDER / name).read_text("utf-8")


@cache
def script_source() -> str:
    """Returns the `script-src` of a Content-Security-Policy that runs the player, inline, and nothing else.

    The browser compares the hash of every script with it. Markup that slipped through the escaping of a title,
    an event handler in an attribute, or a script of another page of the same server has another hash.
    """
    digest = hashlib.sha256(text(PLAYER).encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


@cache
def version() -> str:
    """Returns 8 hexadecimal digits that change with any asset: a page with another player would not run it."""
    joined = "\0".join(text(name) for name in (PLAYER, THEME, PAGE))
    return hashlib.sha256(joined.encode()).hexdigest()[:8]
