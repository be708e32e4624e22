"""The sentences with which the gallery begins: each says what its figures say, and no more."""

from __future__ import annotations

from typing import Any

import pytest

from melodygan_core.gallery.summary import sentences

MEASURED = {
    "real_baseline/kad": 1.25,
    "codec/kad": 4.0,
    "codec/excess_kad_high": 5.0,
    "generated/kad": 21.0,
    "memorisation/ratio": 1.4,
}


def excess(value: float, low: float, high: float, **changes: Any) -> dict[str, Any]:
    found = {"generated/excess_kad": value, "generated/excess_kad_low": low, "generated/excess_kad_high": high}
    return {**MEASURED, **found, **changes}


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        (excess(0.5, -1.0, 2.0), "as far from the test music as other real music is."),
        (excess(0.0, 0.0, 0.0), "as far from the test music as other real music is."),
        (excess(-3.0, -4.0, -2.0), "nearer to the test music than other real music is."),
        (
            excess(4.0, 3.0, 6.0),
            "as far from the test music as real music that went through codec and vocoder, and farther than"
            " real music as it is.",
        ),
        (
            excess(19.8, 15.0, 24.0),
            "farther from the test music than other real music is: a distance of 21.0, against 1.2 for other"
            " real music and 4.0 for real music through codec and vocoder.",
        ),
    ],
)
def test_the_distance_is_one_sentence(figures: dict[str, Any], expected: str) -> None:
    assert sentences({"temporal_gan": figures})[0] == f"The new music of temporal_gan is {expected}"


def test_what_was_not_measured_is_not_known() -> None:
    note = "too few tracks to compare (2 of at least 5)"
    unknown = {"generated/kad": None, "generated/note": note, "memorisation/ratio": 1.4}
    found = sentences({"a": unknown, "b": unknown})
    assert found[0] == f"How far the new music of a and b is from the test music is not known: {note}."
    note = "no excess over the real baseline: too few {tracks}"
    alone = {
        "generated/kad": 7.0,
        "generated/excess_kad": None,
        "generated/note": note,
        "memorisation/ratio": 1,
    }
    assert (
        sentences({"a": alone})[0] == f"The new music of a is at a distance of 7.0 from the test music: {note}."
    )


def test_pipelines_share_a_sentence_where_it_says_the_same() -> None:
    found = sentences({"a": excess(0.5, -1.0, 2.0), "b": excess(0.0, -1.0, 1.0), "c": excess(19.0, 15.0, 24.0)})
    assert found[0] == "The new music of a and b is as far from the test music as other real music is."
    assert found[1].startswith("The new music of c is farther from")


def test_nearness_to_the_training_music_is_reported_of_each() -> None:
    found = sentences({"a": excess(0, -1, 1), "b": excess(0, -1, 1, **{"memorisation/ratio": 0.62})})
    expected = "nearer to the training music than unheard real music is"
    assert found[1:] == [
        f"New passages are no {expected}: 1.40 times its distance (a).",
        f"New passages are {expected}: 0.62 times its distance (b).",
    ]
