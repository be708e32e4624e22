"""Pages from templates: everything that is shown is escaped, and every link is below the app's path."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from melodygan_web.forms import field_label, plain_value
from melodygan_web.sounds.listing import Sound
from melodygan_web.studio import studio_of

_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_SERVICES = {
    "generate": "Generated",
    "continue": "Continued",
    "inpaint": "Inpainted",
    "loop": "Loop",
    "variations": "Variation",
    "reconstruct": "Reconstructed",
    "interpolate": "Interpolated",
    "transfer": "Transferred",
    "augment": "Augmented",
    "nearest": "Training music",
}


def render(request: Request, template: str, status: int = 200, /, **values: Any) -> HTMLResponse:
    """A page or a part of one.

    Args:
        request: That it answers.
        template: Name of the template.
        status: Of the response.
        **values: Of the template, besides those that all have: `request`, `root`, `csrf_token`, `screens`,
            `events_after`, `has_dagster`, `has_player`.
    """
    studio = studio_of(request)
    text = _ENVIRONMENT.get_template(template).render(
        request=request,
        root=request.scope.get("root_path", ""),
        csrf_token=request.state.csrf_token,
        screens=request.app.state.screens,
        events_after=f"{studio.jobs.epoch}-{studio.jobs.version}",
        has_dagster=studio.dagster is not None,
        has_player=request.app.state.has_player,
        **values,
    )
    return HTMLResponse(text, status)


def ago(when_s: float) -> str:
    """How long ago a time is, such as `3 min ago`; a date beyond a week."""
    past = time.time() - when_s
    if past < 45:
        return "just now"
    for limit, unit, name in ((3600, 60, "min"), (86_400, 3600, "h"), (7 * 86_400, 86_400, "d")):
        if past < limit:
            return f"{max(1, round(past / unit))} {name} ago"
    return datetime.fromtimestamp(when_s, UTC).strftime("%d %b %Y").lstrip("0")


def iso_time(when_s: float) -> str:
    """A time for `<time datetime>`."""
    return datetime.fromtimestamp(when_s, UTC).isoformat(timespec="seconds")


def duration(seconds: float) -> str:
    """A length such as `0:08` or `1:02:03`."""
    total_s = int(seconds + 0.5)
    hours, minutes = divmod(total_s // 60, 60)
    return f"{hours}:{minutes:02d}:{total_s % 60:02d}" if hours else f"{minutes}:{total_s % 60:02d}"


def service_title(sound: Sound) -> str:
    """What made a sound, as a word."""
    return service_name(sound.service)


def service_name(service: str) -> str:
    """What a service does to a sound, as a word."""
    return _SERVICES.get(service, service.capitalize())


_ENVIRONMENT.filters |= {
    "ago": ago,
    "iso_time": iso_time,
    "duration": duration,
    "service_title": service_title,
    "service_name": service_name,
    "field_label": field_label,
    "plain_value": plain_value,
}
