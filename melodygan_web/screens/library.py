"""Library: what models learn from. Sources, tracks with rights and stems, and problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from melodygan_core.catalogue import Source, read_sources
from melodygan_core.config import RIGHTS
from melodygan_core.errors import InputError, TransientError
from melodygan_web import dagster_tracks
from melodygan_web.library import LibraryTrack, Problem, erasure
from melodygan_web.library.index import STATES
from melodygan_web.playable import Playable, of_library
from melodygan_web.screens import Screen, library_actions
from melodygan_web.studio import Studio, studio_of
from melodygan_web.templating import render

PAGE_SIZE, MAX_PROBLEMS = 20, 50
RIGHTS_TITLES = {
    "own": "Mine",
    "licensed": "Licensed to me",
    "open": "Open licence",
    "unknown": "Unknown: to listen to, not to train on",
}
STATE_TITLES = {
    "failed": "Failed",
    "waiting": "Waiting to be fetched",
    "fetched": "Fetched",
    "separated": "Separated",
    "ready": "Ready to learn from",
}
STAGE_TITLES = {"raw_wav": "fetching", "stems": "separation", "features": "features"}


@dataclass(frozen=True)
class Part:
    """A sound of a track and its name for people.

    Attributes:
        name: Such as `vocals`.
        sound: For the player.
    """

    name: str
    sound: Playable


@dataclass(frozen=True)
class Card:
    """A track as a page shows it.

    Attributes:
        entry: The track.
        sound: Its sound; None before it is fetched.
        link: Page of the track on its site; empty for a file.
        stems: Filled on the page of the track alone.
    """

    entry: LibraryTrack
    sound: Playable | None
    link: str
    stems: list[Part] = field(default_factory=list)


@dataclass(frozen=True)
class ListedSource:
    """A source and what it brought.

    Attributes:
        source: Its entry in the sources file.
        tracks: Number of tracks whose first source it is.
        reason: Why it failed when it was asked last; empty where it did not.
    """

    source: Source
    tracks: int
    reason: str = ""


def page(request: Request) -> Response:
    """Sources, problems and tracks; with `part=1` only tracks, from `from` on."""
    studio, query = studio_of(request), request.query_params
    tracks = studio.library.tracks()
    found = _selected(tracks, query)
    text = query.get("from", "0")
    start = int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0
    following = start + PAGE_SIZE
    is_part = query.get("part") == "1"
    sources, sources_error = ([], "") if is_part else _sources(studio, tracks, {})
    return render(
        request,
        "_library_tracks.html" if is_part else "library.html",
        cards=[card_of(studio, track) for track in found[start:following]],
        total=len(found),
        everything=len(tracks),
        following=following if following < len(found) else None,
        is_first=start == 0,
        words=query.get("q", "")[:200],
        state=query.get("state", ""),
        state_titles=STATE_TITLES,
        rights_titles=RIGHTS_TITLES,
        sources=sources,
        sources_error=sources_error,
        can_add=studio.sources is not None,
        can_add_files=studio.sources is not None and studio.store.is_local,
        **_problems(studio, tracks, asks_dagster=False),
    )


def _selected(tracks: Sequence[LibraryTrack], query: Mapping[str, str]) -> list[LibraryTrack]:
    """Tracks whose title, uploader, tags or licence have all words, in a state."""
    words = query.get("q", "")[:200].casefold().split()
    state = query.get("state", "")

    def fits(entry: LibraryTrack) -> bool:
        row = entry.track
        text = " ".join((entry.title, row.uploader, row.licence, row.rights, *row.tags)).casefold()
        return all(word in text for word in words) and state in ("", entry.state)

    return [entry for entry in tracks if fits(entry)] if words or state in STATES else list(tracks)


def card_of(studio: Studio, entry: LibraryTrack, *, has_stems: bool = False) -> Card:
    """A track as a page shows it."""
    url = entry.track.url
    # Nothing else is a link, whatever the catalogue says.
    link = url if url.startswith(("http://", "https://")) else ""
    stems = [Part(s.part, of_library(studio, s)) for s in entry.stems] if has_stems else []
    return Card(entry, None if entry.wav is None else of_library(studio, entry.wav), link, stems)


def _sources(
    studio: Studio, tracks: Sequence[LibraryTrack], reasons: Mapping[str, str]
) -> tuple[list[ListedSource], str]:
    """The entries of the sources file, or the sentence why it cannot be read."""
    if studio.sources is None or not studio.sources.exists():
        return [], ""
    try:
        sources = read_sources(studio.sources)
    except InputError as error:
        return [], str(error)
    counts: dict[str, int] = {}
    for entry in tracks:
        counts[entry.track.source_id] = counts.get(entry.track.source_id, 0) + 1
    listed = [ListedSource(s, counts.get(s.source_id, 0), reasons.get(s.name, "")) for s in sources]
    return listed, ""


def problems(request: Request) -> Response:
    """Problems alone, with those that Dagster knows; the page asks for them when it is open."""
    studio = studio_of(request)
    values = _problems(studio, studio.library.tracks(), asks_dagster=True)
    return render(request, "_library_problems.html", **values)


def _problems(studio: Studio, tracks: Sequence[LibraryTrack], *, asks_dagster: bool) -> dict[str, object]:
    """Values of the template of problems: those of the store, and of Dagster's last runs."""
    found = {problem.track_id: problem for problem in studio.library.failed_for_good()}
    reasons: dict[str, str] = {}
    dagster_error = ""
    if asks_dagster and studio.dagster is not None:
        try:
            of_runs, reasons = dagster_tracks.failures(studio.dagster.ask)
        except TransientError as error:
            of_runs, dagster_error = [], str(error)
        known = {entry.id: entry for entry in tracks}
        for problem in of_runs:
            if problem.track_id in known and _is_missing(known[problem.track_id], problem.stage):
                found.setdefault(problem.track_id, problem)
    return {
        "problems": list(found.values())[:MAX_PROBLEMS],
        "more_problems": max(0, len(found) - MAX_PROBLEMS),
        "failed_sources": reasons,
        "dagster_error": dagster_error,
        "stage_titles": STAGE_TITLES,
        "asks_dagster": asks_dagster,
    }


def _is_missing(entry: LibraryTrack, stage: str) -> bool:
    """Whether a stage has still not made its part of a track."""
    made = {"raw_wav": entry.wav is not None, "stems": bool(entry.stems), "features": entry.has_features}
    return not made.get(stage, True)


def track_page(request: Request) -> Response:
    """A track with its stems, where it is from, and what can be done with it."""
    studio, entry = library_actions.entry_of(request)
    note = studio.library.note(entry)
    return render(
        request,
        "library_track.html",
        card=card_of(studio, entry, has_stems=True),
        problem=_own_problem(studio, entry),
        defects=[str(text) for text in note.get("problems", [])],
        original=", ".join(str(note.get("original", {}).get(k) or "") for k in ("codec", "ext")).strip(", "),
        fetched_at=str(note.get("fetched_at", "")),
        state_titles=STATE_TITLES,
        rights_titles=RIGHTS_TITLES,
        stage_titles=STAGE_TITLES,
    )


def _own_problem(studio: Studio, entry: LibraryTrack) -> Problem | None:
    return next((p for p in studio.library.failed_for_good() if p.track_id == entry.id), None)


def forget_page(request: Request) -> Response:
    """What follows from forgetting a track, and the button that does it."""
    studio, entry = library_actions.entry_of(request)
    found = erasure.consequences(studio.store.root, entry.id)
    return render(
        request,
        "library_forget.html",
        card=card_of(studio, entry),
        found=found,
        most=erasure.MAX_LISTED,
        is_own_file=entry.track.url.startswith("file:") and not library_actions.is_added(studio, entry),
    )


assert tuple(RIGHTS_TITLES) == RIGHTS, "every kind of rights has a title"
SCREEN = Screen(
    "library",
    "Library",
    4,
    [
        Route("/library", page),
        Route("/library/problems", problems),
        Route("/library/tracks/{track_id:str}", track_page),
        Route("/library/tracks/{track_id:str}/forget", forget_page),
        *library_actions.ROUTES,
    ],
)
