"""What of a release goes into every sound that is made with it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from melodygan_core.config.base import ConfigModel, Rule

# Characters of a title, licence or name; the catalogue cuts titles at 300.
LONGEST_LINE = 1000
# Codec, refiner, prior and vocoder.
_MOST_PARTS = 4

Line = Annotated[str, Field(max_length=LONGEST_LINE)]


def is_line(value: object) -> bool:
    """Whether a value is a text of at most LONGEST_LINE characters."""
    return isinstance(value, str) and len(value) <= LONGEST_LINE


def are_texts(values: dict[str, Any]) -> bool:
    """Whether names and values are texts, as of `is_line`."""
    return all(is_line(k) and is_line(v) for k, v in values.items())


class TrainingTrack(ConfigModel):
    """A track that a release was trained on."""

    track_id: Line
    title: Line
    url: Annotated[str, Field(max_length=10_000)]
    licence: Line
    rights: Line


class Sources(ConfigModel):
    """What a release was trained on, as `generation.sources` describes it; every sound carries it."""

    dataset: Line
    stems: tuple[Line, ...]
    tracks: tuple[TrainingTrack, ...]
    licences: tuple[Line, ...]
    rights: tuple[Line, ...] = ()


class StartedFrom(ConfigModel):
    """A release that trainings of another one began with."""

    pipeline: Line
    version: Line
    parts: Annotated[tuple[Line, ...], Field(max_length=_MOST_PARTS)]


class Provenance(ConfigModel):
    """What of a release goes into every sound that is made with it."""

    pipeline: Line
    version: Line
    models: Annotated[dict[str, Any], Rule("names with their versions, each text", are_texts)]
    sources: Sources
    started_from: Annotated[tuple[StartedFrom, ...], Field(max_length=_MOST_PARTS)] = ()
