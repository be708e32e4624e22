"""Generate: new pieces, and what the prior of a release can do with a sound, as jobs."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from melodygan_core.config import to_dict
from melodygan_core.config.registry import able
from melodygan_core.config.values import MAX_SEED
from melodygan_core.services.release_facts import ReleaseFacts, releases_in_use
from melodygan_web.forms import FormField, form_fields
from melodygan_web.job_routes import sounds_of
from melodygan_web.jobs import JOB_KINDS, JobKind
from melodygan_web.playable import Playable, find_playable
from melodygan_web.screens import Screen
from melodygan_web.sounds import Sound
from melodygan_web.sounds.stars import read_stars
from melodygan_web.studio import Studio, studio_of
from melodygan_web.templating import render

# Jobs of this screen that it lists, and sounds to choose from.
LISTED, OFFERED = 6, 100


@dataclass(frozen=True)
class Mode:
    """What a person wants to do.

    Attributes:
        name: Of its tab, in addresses.
        kind: Name in JOB_KINDS.
        title: Of its tab.
        lead: One sentence about it.
        main: Fields that are always shown.
        more: Fields behind "More settings", for every prior.
        sound_field: Field of the sound that it starts from; empty for none.
        sound_is_optional: Whether it can do without.
        capability: What the prior must be able to do; empty for what the kind of job asks for.
    """

    name: str
    kind: str
    title: str
    lead: str
    main: tuple[str, ...]
    more: tuple[str, ...] = ()
    sound_field: str = ""
    sound_is_optional: bool = False
    capability: str = ""

    @property
    def job_kind(self) -> JobKind:
        """The job that it asks for."""
        return JOB_KINDS[self.kind]

    @property
    def needs(self) -> str:
        """What the prior must be able to do; empty for nothing."""
        return self.capability or self.job_kind.capability


MODES = (
    Mode(
        "generate",
        "generate",
        "New pieces",
        "New music from noise. Each piece has a seed of its own, with which it can be made again.",
        ("count", "duration_s", "condition"),
        ("loudness_lufs",),
    ),
    Mode(
        "plan",
        "generate",
        "Play chords or a melody",
        "New pieces that play chords, a melody that you hum or choose, a key, a form or a tempo.",
        ("chords", "key", "form", "tempo_bpm", "count", "duration_s"),
        ("beats", "condition", "loudness_lufs"),
        "melody",
        sound_is_optional=True,
        capability="plan",
    ),
    Mode(
        "variations",
        "variations",
        "Vary",
        "A sound made anew from a mixture of itself and noise.",
        ("count", "strength", "condition"),
        sound_field="sound",
    ),
    Mode(
        "continue",
        "continue",
        "Continue",
        "A sound that goes on where it ends. What is there keeps every sample.",
        ("count", "duration_s", "condition"),
        sound_field="sound",
    ),
    Mode(
        "inpaint",
        "inpaint",
        "Make a part anew",
        "Mark a part of a sound. It is made anew so that it goes with what is before and after it.",
        ("start_s", "end_s", "count", "condition"),
        sound_field="sound",
    ),
    Mode(
        "loop",
        "loop",
        "Loop",
        "A loop whose end goes over into its beginning: give seconds, or bars.",
        ("count", "duration_s", "bars", "tempo_bpm", "condition"),
        ("beats",),
    ),
)
_MODES = {mode.name: mode for mode in MODES}
_KINDS = frozenset(mode.kind for mode in MODES)
# A setting by which a piece was made by a plan.
_PLANNED = ("chords", "key", "form", "tempo_bpm", "beats")
# What a form begins with where the default of the request does not suit a page.
_FIRST: dict[str, dict[str, Any]] = {
    "generate": {"count": 4},
    "plan": {"count": 1, "chords": "Am F C G"},
    "loop": {"bars": 4},
}
# Of a flow, and of a GAN.
_FLOW, _GAN = ("guidance", "autoguidance", "steps"), ("truncation",)


@dataclass(frozen=True)
class Wish:
    """What the page was opened for.

    Attributes:
        mode: What to do.
        release: Whose pipeline does it; None where the store has no release.
        source: Sound to start from; None for none yet.
        values: Settings to begin with.
        seed: To begin with.
        is_again: Whether the settings are those of a sound, and go before remembered ones.
    """

    mode: Mode
    release: ReleaseFacts | None
    source: Playable | None
    values: dict[str, Any]
    seed: int
    is_again: bool = False


def page(request: Request) -> Response:
    """The form for a mode and pipeline, and the last jobs of this screen."""
    studio = studio_of(request)
    releases = releases_in_use(studio.store)
    wish = read_wish(request.query_params, releases, studio)
    jobs = [job for job in studio.jobs.all() if job.kind in _KINDS][:LISTED]
    return render(
        request,
        "generate.html",
        wish=wish,
        mode=wish.mode,
        modes=[(mode, _able(mode, wish.release)) for mode in MODES],
        releases=releases,
        main=_fields(wish, wish.mode.main),
        more=_fields(wish, (*wish.mode.more, *_sampling_fields(wish))),
        offered=studio.sounds.all()[:OFFERED] if wish.mode.sound_field else [],
        max_seed=MAX_SEED,
        able=able,
        jobs=[(job, sounds_of(studio, job)) for job in jobs],
        stars=read_stars(studio.store),
        is_working=studio.jobs.is_working,
    )


def read_wish(query: Mapping[str, str], releases: Sequence[ReleaseFacts], studio: Studio) -> Wish:
    """What a page was opened for: `do`, `pipeline`, `sound`, or `again` with the id of a sound.

    What is not known is left out, so that an old link still opens the page.
    """
    again = studio.sounds.get(query.get("again", ""))
    if again is not None and again.service not in _KINDS:
        again = None
    mode = _MODES.get(_mode_of(again) if again else query.get("do", ""), MODES[0])
    release = _release(releases, mode, again.pipeline if again else query.get("pipeline", ""))
    source = find_playable(studio, query.get("sound", ""))
    values = to_dict(release.generation) if release and mode.kind == "generate" else {}
    seed = secrets.randbelow(1_000_000)
    if again is not None:
        values |= again.settings
        seed = again.settings.get("seed", seed)
        source = source or _source_of(again, studio)
    return Wish(mode, release, source, values, seed, again is not None)


def _mode_of(sound: Sound) -> str:
    planned = sound.service == "generate" and any(sound.settings.get(name) for name in _PLANNED)
    return "plan" if planned else sound.service


def _source_of(sound: Sound, studio: Studio) -> Playable | None:
    """What a sound was made from, as its job knows it; None where that is gone."""
    job = studio.jobs.get(sound.job_id)
    if job is None or not job.inputs:
        return None
    [given, *_] = job.inputs.values()
    return find_playable(studio, given.id)


def _release(releases: Sequence[ReleaseFacts], mode: Mode, pipeline: str) -> ReleaseFacts | None:
    """The release of a pipeline if it can do what the mode needs, else the first that can, else any."""
    able = [release for release in releases if _able(mode, release)]
    named = [release for release in releases if release.pipeline == pipeline]
    return next(iter([r for r in named if r in able] or able or named or releases), None)


def _able(mode: Mode, release: ReleaseFacts | None) -> bool:
    return not mode.needs or (release is not None and mode.needs in release.capabilities)


def _sampling_fields(wish: Wish) -> tuple[str, ...]:
    return _FLOW if wish.release is not None and wish.release.is_flow else _GAN


def _fields(wish: Wish, names: Sequence[str]) -> list[FormField]:
    conditions = wish.release.conditions if wish.release else ()
    # Without conditions there is nothing to choose.
    wanted = [name for name in names if name != "condition" or conditions]
    values = {**wish.values, **({} if wish.is_again else _FIRST.get(wish.mode.name, {}))}
    empty = "One at random" if wish.mode.kind == "generate" else "None"
    request = wish.mode.job_kind.request
    return form_fields(request, wanted, values, {"condition": conditions}, {"condition": empty})


SCREEN = Screen("generate", "Generate", 2, [Route("/generate", page)])
