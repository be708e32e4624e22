"""A check that a page shows text of strangers as text."""

from __future__ import annotations

from html.parser import HTMLParser

_LOADS = {"src", "srcset", "data", "action", "formaction", "poster", "background"}
_STRANGE = {"iframe", "object", "embed", "base", "math", "animate", "style"}


class _Page(HTMLParser):
    """What a page has that its policy would stop, or that would act by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        names = [n for n in values if n.startswith("on") or n in ("style", "srcdoc")]
        foreign = [v for n, v in values.items() if n in _LOADS and not v.startswith("/studio/")]
        # An address in a link is opened by a click only, and must be of the web.
        link = values.get("href", "/")
        acts = [v for n, v in values.items() if n in ("hx-get", "data-post") and not v.startswith("/studio/")]
        wrong = link.split(":", 1)[0].strip().lower() not in ("http", "https") and not link.startswith(
            ("/", "#")
        )
        inline = tag == "script" and "src" not in values
        if names or foreign or acts or wrong or inline or tag in _STRANGE:
            self.found.append(self.get_starttag_text() or tag)


def check_markup(page: str, tags: int = 0) -> int:
    """Checks that nothing in a page runs, loads or leads elsewhere.

    Args:
        page: HTML.
        tags: Number of tags that the page has without the text of strangers; 0 for unknown.

    Returns:
        The number of tags.
    """
    parsed = _Page()
    parsed.feed(page)
    assert parsed.found == []
    count = page.count("<")
    # Every "<" of a stranger is escaped, so that other text of the same length gives the same tags.
    assert tags in (0, count)
    return count
