"""Whether new models may replace the release in use: pure functions of what evaluations recorded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from melodygan_core.config import require
from melodygan_core.evaluation.distances import SETUP

# Earlier releases that a new one is compared with, the one in use among them.
REMEMBERED = 5
# Name of the list of measurements among a release's figures.
HISTORY = "gate_history"

_FIGURES = ("generated/kad", "generated/kad_low", "generated/kad_high")


@dataclass(frozen=True)
class Measurement:
    """What the gate needs to know of one evaluation.

    Attributes:
        evaluation: Version of the evaluation.
        kad: KAD of the generated set to the test tracks, by track; None if there were too few tracks.
        low: Lower end of its interval; None with `kad`.
        high: Upper end of its interval; None with `kad`.
        note: Why there is no KAD; empty if there is one.
        setup: What the KAD depends on besides the models: a value for each name of
            `evaluation.distances.SETUP`.
    """

    evaluation: str
    kad: float | None
    low: float | None
    high: float | None
    note: str
    setup: Mapping[str, Any]

    @classmethod
    def of(cls, version: str, figures: Mapping[str, Any]) -> Measurement:
        """Reads the figures of an evaluation.

        Args:
            version: Of the evaluation.
            figures: What `evaluation.evaluate` reports.

        Raises:
            InputError: a value of the setup or the KAD is missing or not finite.
        """
        for name in (*SETUP, *_FIGURES):
            require(name in figures, f"{name} of evaluation {version}", None, "recorded by the evaluation")
        kad, low, high = (figures[name] for name in _FIGURES)
        for name in _FIGURES:
            value = figures[name]
            good = value is None if kad is None else value is not None and math.isfinite(value)
            require(good, f"{name} of evaluation {version}", value, "a finite number, or none with a note")
        note = str(figures.get("generated/note") or "") if kad is None else ""
        require(kad is not None or bool(note), f"generated/note of evaluation {version}", note, "a reason")
        return cls(version, kad, low, high, note, {name: figures[name] for name in SETUP})


@dataclass(frozen=True)
class Decision:
    """What the gate says of a new evaluation.

    Attributes:
        accepted: Whether the models may be released.
        reason: Why, in one sentence.
        history: Measurements of the releases so far, newest first, the new one included if it is accepted; what
            the next decision takes. At most REMEMBERED.
    """

    accepted: bool
    reason: str
    history: tuple[Measurement, ...]


def release_gate(new: Measurement, released: Sequence[Measurement]) -> Decision:
    """Decides whether models may replace the release in use.

    Only evaluations of the same test tracks, stems, windows, embedding and generation settings are compared.
    The new KAD is worse than an earlier one if their difference exceeds what chance explains: the root of the
    squared distances from the new KAD to its lower end and from the earlier KAD to its upper end. Both
    intervals count, so that an earlier release that was lucky, or measured on few tracks, does not bar its
    successors.

    The new KAD is compared with the release in use and with the best of the last five comparable releases. The
    second comparison is against drift: releases that are each a little worse than the one before fail it as
    soon as their sum is more than chance. A lucky release is forgotten after five others.

    Both KADs are measured on the same test tracks, so that their errors agree in part: the margin is too wide
    rather than too narrow.

    Args:
        new: Measurement of the models to be released.
        released: Measurements of earlier releases, newest first; the first is the release in use. Empty for the
            first release.
    """
    if released and new.evaluation == released[0].evaluation:
        return Decision(True, "the same evaluation as that of the release in use", tuple(released))
    history = (new, *released)[:REMEMBERED]
    comparable = [m for m in released[:REMEMBERED] if not _obstacle(new, m)]
    if not comparable:
        return Decision(True, _why_not_compared(new, released), history)
    rivals = {"the best of the last releases": min(comparable, key=_value)}
    if comparable[0] is released[0]:
        rivals = {"the release in use": released[0]} | rivals
    for name, earlier in rivals.items():
        if _value(new) - _value(earlier) > _margin(new, earlier):
            reason = f"KAD {_with_interval(new)} is worse than that of {name}, {_with_interval(earlier)}"
            return Decision(False, reason, tuple(released))
    name, earlier = next(iter(rivals.items()))
    return Decision(
        True, f"KAD {_with_interval(new)} is not worse than that of {name}, {_with_interval(earlier)}", history
    )


def to_figures(history: Sequence[Measurement]) -> list[dict[str, Any]]:
    """Returns measurements as plain JSON values, for a release's figures under HISTORY."""
    return [asdict(m) | {"setup": dict(m.setup)} for m in history]


def from_figures(figures: Mapping[str, Any]) -> list[Measurement]:
    """Returns the measurements that a release's figures hold, newest first; never empty.

    A release that was published before the gate recorded measurements has one that cannot be compared.
    """
    if HISTORY not in figures:
        return [Measurement("", None, None, None, "its evaluation recorded no test tracks", {})]
    return [Measurement(**values) for values in figures[HISTORY]]


def _obstacle(new: Measurement, earlier: Measurement) -> str:
    """Returns why two measurements cannot be compared, or an empty string."""
    if new.kad is None:
        return new.note
    if earlier.kad is None:
        return earlier.note
    for name in SETUP:
        if new.setup[name] != earlier.setup.get(name):
            return f"its {name} was {earlier.setup.get(name)} and is now {new.setup[name]}"
    return ""


def _why_not_compared(new: Measurement, released: Sequence[Measurement]) -> str:
    if not released:
        return (
            f"first release; KAD {_with_interval(new)}" if new.kad is not None else f"first release; {new.note}"
        )
    return f"not comparable with the release in use: {_obstacle(new, released[0])}"


def _margin(new: Measurement, earlier: Measurement) -> float:
    assert new.low is not None and earlier.high is not None, "a KAD has an interval"
    return math.hypot(_value(new) - new.low, earlier.high - _value(earlier))


def _value(measurement: Measurement) -> float:
    assert measurement.kad is not None, "only measurements with a KAD are compared"
    return measurement.kad


def _with_interval(m: Measurement) -> str:
    return f"{m.kad:.1f} [{m.low:.1f}, {m.high:.1f}]"
