"""Listen: everything that was made, newest first, with filters, comparison by ear and downloads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from melodygan_web.screens import Screen
from melodygan_web.sounds import Sound
from melodygan_web.sounds.stars import read_stars
from melodygan_web.studio import studio_of
from melodygan_web.templating import render

PAGE_SIZE = 20


@dataclass(frozen=True)
class Filters:
    """What of the list is shown; empty values show everything.

    Attributes:
        pipeline: Name of a pipeline.
        service: Name of a service.
        condition: Name of a condition.
        seed: Digits of a seed.
        starred: Whether only starred sounds are shown.
    """

    pipeline: str = ""
    service: str = ""
    condition: str = ""
    seed: str = ""
    starred: bool = False

    def select(self, sounds: Sequence[Sound], stars: set[str]) -> list[Sound]:
        """The sounds that all filters let through, in order."""
        return [
            sound
            for sound in sounds
            if self.pipeline in ("", sound.pipeline)
            and self.service in ("", sound.service)
            and self.condition in ("", sound.condition)
            and self.seed in ("", str(sound.seed))
            and (not self.starred or sound.id in stars)
        ]

    @property
    def query(self) -> dict[str, str]:
        """The filters that are set, as a query."""
        found = {name: value for name, value in vars(self).items() if value}
        return {name: "1" if value is True else value for name, value in found.items()}


def read_filters(query: Mapping[str, str]) -> Filters:
    """The filters of a query; text is compared only."""
    texts = {name: query.get(name, "").strip()[:200] for name in ("pipeline", "service", "condition", "seed")}
    return Filters(**texts, starred=query.get("starred", "") == "1")


def page(request: Request) -> Response:
    """The list, or with `part=1` only its sounds, from `from` on."""
    studio = studio_of(request)
    filters, sounds = read_filters(request.query_params), studio.sounds.all()
    stars = read_stars(studio.store)
    found = filters.select(sounds, stars)
    start = _offset(request.query_params.get("from", "0"))
    following = start + PAGE_SIZE
    template = "_listen_list.html" if request.query_params.get("part") == "1" else "listen.html"
    return render(
        request,
        template,
        sounds=found[start:following],
        stars=stars,
        filters=filters,
        choices=_choices(sounds),
        total=len(found),
        everything=len(sounds),
        following=following if following < len(found) else None,
        is_first=start == 0,
    )


def _choices(sounds: Sequence[Sound]) -> dict[str, list[str]]:
    names = ("pipeline", "service", "condition")
    return {name: sorted({getattr(sound, name) for sound in sounds} - {""}) for name in names}


def _offset(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0


SCREEN = Screen("listen", "Listen", 1, [Route("/listen", page)])
