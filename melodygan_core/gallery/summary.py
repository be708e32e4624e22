"""What the figures of evaluations say, in plain sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Figures = Mapping[str, Any]


def sentences(evaluations: Mapping[str, Figures]) -> list[str]:
    """Returns how far new music is from real music, and whether it is nearer to the training music.

    Args:
        evaluations: Name of each pipeline to the figures of its evaluation. Distances are those of the first
            length of window.
    """
    names_of: dict[str, list[str]] = {}
    for name, figures in evaluations.items():
        names_of.setdefault(_distance(figures), []).append(name)
    distances = [text.format(names=" and ".join(names)) for text, names in names_of.items()]
    return [*distances, *_copies(evaluations)]


def _distance(figures: Figures) -> str:
    """A sentence with `{names}` in the place of the pipelines."""
    kad, excess = (figures.get(f"generated/{key}") for key in ("kad", "excess_kad"))
    reason = (figures.get("generated/note") or "not measured").replace("{", "{{").replace("}", "}}")
    if kad is None:
        return f"How far the new music of {{names}} is from the test music is not known: {reason}."
    if excess is None:
        return f"The new music of {{names}} is at a distance of {kad:.1f} from the test music: {reason}."
    if figures["generated/excess_kad_high"] < 0:
        return "The new music of {names} is nearer to the test music than other real music is."
    if figures["generated/excess_kad_low"] <= 0:
        return "The new music of {names} is as far from the test music as other real music is."
    codec_high = figures.get("codec/excess_kad_high")
    if codec_high is not None and excess <= codec_high:
        return (
            "The new music of {names} is as far from the test music as real music that went through codec and"
            " vocoder, and farther than real music as it is."
        )
    real, codec = (figures.get(f"{key}/kad") for key in ("real_baseline", "codec"))
    known = [
        f"{value:.1f} for {what}"
        for value, what in ((real, "other real music"), (codec, "real music through codec and vocoder"))
        if value is not None
    ]
    return (
        "The new music of {names} is farther from the test music than other real music is: a distance of"
        f" {kad:.1f}, against {' and '.join(known)}."
    )


def _copies(evaluations: Mapping[str, Figures]) -> list[str]:
    ratios = {name: figures["memorisation/ratio"] for name, figures in evaluations.items()}
    found = []
    for near, text in (
        (False, "New passages are no nearer to the training music than unheard real music is"),
        (True, "New passages are nearer to the training music than unheard real music is"),
    ):
        those = [
            f"{ratio:.2f} times its distance ({name})" for name, ratio in ratios.items() if (ratio < 1) == near
        ]
        if those:
            found.append(f"{text}: {', '.join(those)}.")
    return found
