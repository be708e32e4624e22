"""Two releases side by side: the sentence is right, and none is made up where they cannot be compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from melodygan_core.evaluation.distances import SETUP
from melodygan_core.release.gate import HISTORY
from melodygan_core.services import release_comparison
from melodygan_core.services.release_comparison import all_releases, compare_releases
from melodygan_core.storage import ARTIFACT_FILE, Artifact, Store, dump_json


def release(version: str, kad: float | None, margin: float = 1.0, **setup: Any) -> Artifact:
    values = {"test_tracks": "t", "stems": "mix", **setup}
    figures: dict[str, Any] = {"generated/kad": kad, HISTORY: [{"setup": values}]}
    if kad is not None:
        figures |= {"generated/kad_low": kad - margin, "generated/kad_high": kad + margin}
    else:
        figures["generated/note"] = "too few tracks"
    return Artifact(
        "temporal_gan/release", version, f"releases/temporal_gan/{version}", "0", 1, metrics=figures
    )


def test_names_are_those_of_the_gate() -> None:
    assert set(release_comparison._SETUP) == set(SETUP)
    assert release_comparison._HISTORY == HISTORY


def test_a_difference_larger_than_chance_is_named() -> None:
    found = compare_releases(release("a", 10.0), release("b", 20.0))
    assert found.sentence.startswith(
        "temporal_gan a is nearer to the test music: a distance of 10.0, against 20.0"
    )
    assert found.figures[0].values == (10.0, 20.0) and found.figures[0].lower_is_better
    swapped = compare_releases(release("b", 20.0), release("a", 10.0))
    assert swapped.sentence == found.sentence


def test_chance_is_no_difference() -> None:
    # The margin of two intervals of 1 is 1.41.
    assert "no more than chance" in compare_releases(release("a", 10.0), release("b", 11.4)).sentence
    assert "is nearer" in compare_releases(release("a", 10.0), release("b", 11.5)).sentence


@pytest.mark.parametrize(
    ("setup", "why"),
    [
        ({"test_tracks": "u"}, "they were measured with other test tracks"),
        ({"test_tracks": "u", "window_s": 3}, "other test tracks and length of windows"),
    ],
)
def test_other_test_sets_are_not_compared(setup: dict[str, Any], why: str) -> None:
    found = compare_releases(release("a", 10.0), release("b", 20.0, **setup))
    assert why in found.sentence and found.figures == ()


def test_what_was_not_measured_is_said() -> None:
    assert (
        "the distance of b is not known: too few tracks."
        in compare_releases(release("a", 10.0), release("b", None)).sentence
    )
    bare = Artifact("temporal_gan/release", "c", "x", "0", 1)
    assert "does not say what it was measured on" in compare_releases(release("a", 1.0), bare).sentence


def test_releases_are_listed_and_damaged_ones_left_out(store: Store) -> None:
    for version in ("a", "b"):
        folder = Path(str(store.release("temporal_gan", version)))
        folder.mkdir(parents=True)
        dump_json(folder / ARTIFACT_FILE, vars(release(version, 1.0)))
    damaged = Path(str(store.release("temporal_gan", "c")))
    damaged.mkdir(parents=True)
    (damaged / ARTIFACT_FILE).write_text("{}")
    assert {artifact.version for artifact in all_releases(store)} == {"a", "b"}
