"""What a person can do with a sound in Transform: the tabs of the screen, and what each asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from melodygan_web.jobs import JOB_KINDS, JobKind


@dataclass(frozen=True)
class Slot:
    """Where a person puts a sound.

    Attributes:
        name: Field of the request.
        title: For people.
        hint: One sentence.
        is_optional: Whether it may stay empty.
        is_multiple: Whether it takes several sounds, a job each.
    """

    name: str
    title: str
    hint: str = ""
    is_optional: bool = False
    is_multiple: bool = False


@dataclass(frozen=True)
class Mode:
    """What a person wants to do with a sound.

    Attributes:
        kind: Name in JOB_KINDS.
        title: Of its tab.
        lead: One sentence about it.
        slots: Sounds that it starts from.
        main: Fields that are always shown.
        more: Fields behind "More settings".
        labels: Labels that fit here better than those of all screens.
        hints: Descriptions likewise.
    """

    kind: str
    title: str
    lead: str
    slots: tuple[Slot, ...]
    main: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    hints: Mapping[str, str] = field(default_factory=dict)

    @property
    def job_kind(self) -> JobKind:
        """The job that it asks for."""
        return JOB_KINDS[self.kind]


MODES = (
    Mode(
        "transfer",
        "Transfer",
        "A sound keeps its melody and rhythm and gets the timbre of another one.",
        (
            Slot("content", "Melody and rhythm", "This sound keeps its notes."),
            Slot("style", "Timbre", "Only what this one sounds like is taken.", is_optional=True),
        ),
        ("style_tag", "strength"),
        ("method", "style_weight", "keep_melody", "seed", "steps", "guidance", "autoguidance"),
        {"style_tag": "or the timbre of a tag"},
        {"style_tag": "Of the music that the models learned from."},
    ),
    Mode(
        "reconstruct",
        "Reconstruct",
        "A sound goes through the models and comes back. What it lost, no piece that they make can have.",
        (Slot("sound", "Sound"),),
    ),
    Mode(
        "interpolate",
        "Interpolate",
        "Sounds between two sounds, step by step.",
        (Slot("first", "From"), Slot("second", "To")),
        ("steps",),
        labels={"steps": "How many, both ends included"},
    ),
    Mode(
        "augment",
        "Augment",
        "Variations that keep melody, rhythm and length, to have more of a set that you train on.",
        (Slot("sound", "Sounds", "One or several.", is_multiple=True),),
        ("count", "strength", "seed"),
        ("method",),
        {"count": "Variations of each"},
    ),
)
