"""Evaluate: what the figures of a pipeline say, where each sound comes from, and two releases side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from melodygan_core.gallery.summary import sentences
from melodygan_core.services.release_comparison import Comparison, all_releases, compare_releases
from melodygan_core.storage import Artifact, Store
from melodygan_web.screens import Screen
from melodygan_web.screens.evaluate_lineage import NEAREST, lineage, nearest_of, nearest_part
from melodygan_web.sounds import Sound
from melodygan_web.studio import Studio, studio_of
from melodygan_web.templating import render

# Sounds that are listed.
_SOUNDS = 12
_SETS = {
    "real_baseline": "other real music",
    "vocoder": "real music through the vocoder",
    "codec": "real music through codec and vocoder",
    "generated": "new music",
    "reference": "test music",
    "shuffled": "shuffled music",
}
# Name of a picture in the store and its description.
_PICTURES = {"": "Distances of the sets to the test music, with intervals", "/music": "Measures of the music"}


def page(request: Request) -> Response:
    """The figures of a pipeline, its sounds, and two releases side by side."""
    studio, query = studio_of(request), request.query_params
    evaluations = evaluations_in_use(studio.store)
    releases = all_releases(studio.store)
    names = list(dict.fromkeys([*evaluations, *(release.group for release in releases)]))
    chosen = query.get("pipeline", "")
    chosen = chosen if chosen in names else (names[0] if names else "")
    evaluation = evaluations.get(chosen)
    return render(
        request,
        "evaluate.html",
        pipelines=names,
        chosen=chosen,
        evaluation=evaluation,
        conclusions=conclusions({chosen: evaluation.metrics}) if evaluation else [],
        table=_rows(evaluation, "table"),
        music=_rows(evaluation, "music"),
        set_names=_SETS,
        pictures=_pictures(studio.store, evaluation),
        sounds=[(s, lineage(studio, s), nearest_of(studio, s)) for s in _sounds(studio, chosen)],
        can_search=studio.jobs.is_working,
        stars=set(),
        releases=releases,
        **_compared(releases, query),
    )


def evaluations_in_use(store: Store) -> dict[str, Artifact]:
    """The evaluation in use of every pipeline that has one, by name of the pipeline."""
    folder = store.record_path("x/evaluation").parent
    suffix = ".evaluation.json"
    files = folder.iterdir() if folder.is_dir() else ()
    names = sorted(path.name.removesuffix(suffix) for path in files if path.name.endswith(suffix))
    found = {name: store.record(f"{name}/evaluation") for name in names}
    return {name: artifact for name, artifact in found.items() if artifact is not None}


def conclusions(evaluations: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What figures say in plain sentences; one sentence where an evaluation lacks them."""
    try:
        return sentences(evaluations)
    except (KeyError, TypeError):
        return ["The evaluation lacks figures: materialize it again."]


def _rows(evaluation: Artifact | None, name: str) -> list[dict[str, Any]]:
    rows = evaluation.metrics.get(name) if evaluation else None
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _pictures(store: Store, evaluation: Artifact | None) -> list[tuple[str, str]]:
    """Names and descriptions of the pictures that the evaluation made."""
    if evaluation is None:
        return []
    there = ((n, text) for n, text in _PICTURES.items() if store.picture(evaluation.uri + n).exists())
    return [(name.strip("/") or "distances", text) for name, text in there]


def _sounds(studio: Studio, pipeline: str) -> list[Sound]:
    return [sound for sound in studio.sounds.all() if sound.pipeline == pipeline and sound.service != NEAREST][
        :_SOUNDS
    ]


def _compared(releases: list[Artifact], query: Mapping[str, str]) -> dict[str, Any]:
    """The two releases that are compared: those of the query, else the first two."""
    known = {release_id(release): release for release in releases}
    ids = list(known)
    first, second = query.get("first", ""), query.get("second", "")
    first = first if first in known else (ids[0] if ids else "")
    second = second if second in known else next((i for i in ids if i != first), "")
    comparison: Comparison | None = None
    if first and second:
        comparison = (
            compare_releases(known[first], known[second])
            if first != second
            else Comparison("Choose two different releases.")
        )
    return {"first": first, "second": second, "comparison": comparison, "release_ids": ids}


def release_id(release: Artifact) -> str:
    """What a page names a release by."""
    return f"{release.group}/{release.version}"


def picture(request: Request) -> Response:
    """A picture of the evaluation in use of a pipeline."""
    studio = studio_of(request)
    evaluation = evaluations_in_use(studio.store).get(request.path_params["pipeline"])
    suffix = {"distances": "", "music": "/music"}.get(request.path_params["name"])
    if evaluation is None or suffix is None:
        raise HTTPException(404, "There is no such picture.")
    path = studio.store.picture(evaluation.uri + suffix)
    if not path.exists():
        raise HTTPException(404, "There is no such picture.")
    return Response(path.read_bytes(), media_type="image/png")


SCREEN = Screen(
    "evaluate",
    "Evaluate",
    6,
    [
        Route("/evaluate", page),
        Route("/evaluate/sounds/{sound_id:str}/nearest", nearest_part),
        Route("/evaluate/{pipeline:str}/{name:str}.png", picture),
    ],
)
