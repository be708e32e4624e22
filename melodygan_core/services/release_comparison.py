"""Two releases side by side: whether their figures may be compared, and what they say. Loads no model code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from melodygan_core.errors import MelodyGANError
from melodygan_core.storage import ARTIFACT_FILE, Artifact, Store
from melodygan_core.storage.kinds import RELEASE
from melodygan_core.storage.listing import store_files

# As `release.gate` records them.
_HISTORY = "gate_history"
_SETUP = {
    "test_tracks": "test tracks",
    "stems": "stems",
    "spectral": "features",
    "embedding": "embedding",
    "window_s": "length of windows",
    "max_windows": "number of windows",
    "generation": "settings of generation",
}
# Figure, its name for people, and whether a lower one is better.
_FIGURES = (
    ("generated/kad", "Distance to the test music (KAD)", True),
    ("generated/excess_kad", "Distance beyond that of other real music", True),
    ("codec/kad", "Distance of real music through codec and vocoder", True),
    ("generated/density", "Density", False),
    ("generated/coverage", "Coverage", False),
    ("memorisation/ratio", "Distance to the training music, by that of unheard music", False),
)


@dataclass(frozen=True)
class ComparedFigure:
    """A figure of two releases.

    Attributes:
        title: For people.
        values: Of the first and the second release; None where it was not measured.
        lower_is_better: How to read it.
    """

    title: str
    values: tuple[float | None, float | None]
    lower_is_better: bool


@dataclass(frozen=True)
class Comparison:
    """Two releases side by side.

    Attributes:
        sentence: What the comparison says, or why there is none.
        figures: Figures of both; empty where they may not be compared.
    """

    sentence: str
    figures: tuple[ComparedFigure, ...] = ()


def all_releases(store: Store) -> list[Artifact]:
    """Every release of a store, by pipeline, the newest first; damaged ones are left out."""
    found: list[tuple[str, float, Artifact]] = []
    for uri, stat in store_files(store, (RELEASE.top,)).items():
        folder, _, name = uri.rpartition("/")
        if name != ARTIFACT_FILE or uri.count("/") != RELEASE.parts:
            continue
        try:
            artifact = store.artifact(store.at(folder))
        except MelodyGANError:
            # `melodygan doctor` reports it.
            continue
        if artifact is not None and "/" in artifact.name:
            found.append((artifact.group, -stat.modified, artifact))
    return [artifact for *_, artifact in sorted(found, key=lambda row: row[:2])]


def compare_releases(first: Artifact, second: Artifact) -> Comparison:
    """Compares the distances of two releases, if both were measured on the same test tracks in the same way.

    A difference counts if it is larger than what chance explains, as for the release gate: the root of the
    squared distances from the lower KAD to the upper end of its interval, and from the higher to its lower end.
    """
    setups = [_setup(artifact) for artifact in (first, second)]
    if obstacle := _obstacle(*setups):
        return Comparison(f"These two cannot be compared: {obstacle}.")
    figures = tuple(
        ComparedFigure(title, (_number(first, name), _number(second, name)), lower)
        for name, title, lower in _FIGURES
        if _number(first, name) is not None or _number(second, name) is not None
    )
    return Comparison(_sentence(first, second), figures)


def _setup(artifact: Artifact) -> Mapping[str, Any]:
    """What the distances of a release were measured on; empty where it does not say."""
    history = artifact.metrics.get(_HISTORY)
    newest = history[0] if isinstance(history, list) and history else {}
    setup = newest.get("setup") if isinstance(newest, dict) else None
    return setup if isinstance(setup, dict) else {}


def _obstacle(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    if not first or not second:
        return "one of them does not say what it was measured on"
    names = [
        _SETUP.get(name, name)
        for name in dict.fromkeys([*first, *second])
        if first.get(name) != second.get(name)
    ]
    if not names:
        return ""
    listed = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    return f"they were measured with other {listed}"


def _sentence(first: Artifact, second: Artifact) -> str:
    a, b = (_number(artifact, "generated/kad") for artifact in (first, second))
    if a is None or b is None:
        lacking = first if a is None else second
        note = lacking.metrics.get("generated/note") or "it was not measured"
        return (
            "Both were measured on the same test tracks, but the distance of"
            f" {lacking.version} is not known: {note}."
        )
    lower, higher = (first, second) if a <= b else (second, first)
    gap = abs(a - b)
    margin = math.hypot(_end(lower, "high") - min(a, b), max(a, b) - _end(higher, "low"))
    if gap <= margin:
        return (
            "Both make music that is as far from the test music:"
            f" {a:.1f} and {b:.1f} differ by no more than chance."
        )
    return (
        f"{lower.group} {lower.version} is nearer to the test music: a distance of {min(a, b):.1f},"
        f" against {max(a, b):.1f}, which is more than chance explains."
    )


def _end(artifact: Artifact, end: str) -> float:
    value = _number(artifact, f"generated/kad_{end}")
    # Without an interval nothing but equality is certain.
    return math.copysign(math.inf, 1 if end == "high" else -1) if value is None else value


def _number(artifact: Artifact, name: str) -> float | None:
    value = artifact.metrics.get(name)
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None
