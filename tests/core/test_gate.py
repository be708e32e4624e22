"""The release gate: which evaluations are compared, and when new models are worse."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from melodygan_core.errors import InputError
from melodygan_core.evaluation.distances import SETUP
from melodygan_core.release.gate import (
    HISTORY,
    REMEMBERED,
    Measurement,
    from_figures,
    release_gate,
    to_figures,
)

SETUP_VALUES: dict[str, Any] = dict.fromkeys(SETUP, "same") | {"window_s": 3.0, "max_windows": 600}


def measured(
    name: str, kad: float | None, half_width: float = 10.0, setup: dict[str, Any] | None = None
) -> Measurement:
    """A measurement whose interval reaches `spread` to both sides."""
    values = SETUP_VALUES | (setup or {})
    if kad is None:
        return Measurement(name, None, None, None, "too few tracks to compare (3 of at least 5)", values)
    return Measurement(name, kad, kad - half_width, kad + half_width, "", values)


def figures(**changes: Any) -> dict[str, Any]:
    """Figures of an evaluation."""
    own = {"generated/kad": 20.0, "generated/kad_low": 10.0, "generated/kad_high": 30.0, "generated/note": ""}
    return SETUP_VALUES | own | changes


def test_the_first_release_is_accepted_and_remembered() -> None:
    decision = release_gate(measured("a", 50.0), [])
    assert decision.accepted and decision.reason == "first release; KAD 50.0 [40.0, 60.0]"
    assert [m.evaluation for m in decision.history] == ["a"]


# Two intervals of +-10: chance explains a difference up to 14.1.
@pytest.mark.parametrize(("kad", "accepted"), [(20.0, True), (50.0, True), (64.0, True), (64.3, False)])
def test_both_intervals_decide_what_is_worse(kad: float, accepted: bool) -> None:
    decision = release_gate(measured("b", kad), [measured("a", 50.0)])
    assert decision.accepted == accepted
    assert [m.evaluation for m in decision.history] == (["b", "a"] if accepted else ["a"])
    if not accepted:
        expected = "KAD 64.3 [54.3, 74.3] is worse than that of the release in use, 50.0 [40.0, 60.0]"
        assert decision.reason == expected


def test_a_release_with_a_wide_interval_does_not_bar_its_successor() -> None:
    lucky = measured("a", 10.0, half_width=50.0)
    assert release_gate(measured("b", 60.0), [lucky]).accepted
    assert not release_gate(measured("b", 62.0), [lucky]).accepted


def test_releases_that_are_each_a_little_worse_do_not_drift() -> None:
    history: tuple[Measurement, ...] = ()
    accepted = []
    for k in range(4):
        decision = release_gate(measured(str(k), 50.0 + 6.0 * k), history)
        accepted.append(decision.accepted)
        history = decision.history
    # 6 and 12 are within chance of the best, 18 is not, although each step is.
    assert accepted == [True, True, True, False]
    assert "worse than that of the best of the last releases, 50.0" in decision.reason


def test_one_lucky_release_is_forgotten_after_five_others() -> None:
    history: tuple[Measurement, ...] = (measured("lucky", 50.0),)
    for k in range(REMEMBERED):
        history = release_gate(measured(str(k), 63.0), history).history
    assert "lucky" not in {m.evaluation for m in history} and len(history) == REMEMBERED
    assert release_gate(measured("new", 66.0), history).accepted
    assert not release_gate(measured("new", 66.0), (*history[:-1], measured("lucky", 50.0))).accepted


@pytest.mark.parametrize("name", SETUP)
def test_other_conditions_are_not_comparable(name: str) -> None:
    decision = release_gate(measured("b", 500.0, setup={name: "other"}), [measured("a", 50.0)])
    assert decision.accepted
    assert decision.reason.startswith(f"not comparable with the release in use: its {name} was ")
    assert decision.reason.endswith("is now other")


def test_an_earlier_comparable_release_counts_where_the_one_in_use_does_not() -> None:
    history = [measured("other", 500.0, setup={"test_tracks": "other"}), measured("a", 50.0)]
    assert not release_gate(measured("b", 80.0), history).accepted
    assert release_gate(measured("b", 55.0), history).accepted


def test_too_few_tracks_release_without_a_gate_and_say_so() -> None:
    few = measured("b", None)
    assert release_gate(few, []).reason == "first release; too few tracks to compare (3 of at least 5)"
    decision = release_gate(few, [measured("a", 50.0)])
    assert decision.accepted and "too few tracks to compare (3 of at least 5)" in decision.reason
    later = release_gate(measured("c", 900.0), [few])
    assert later.accepted and "too few tracks to compare (3 of at least 5)" in later.reason


def test_the_same_evaluation_again_changes_nothing() -> None:
    history = [measured("a", 70.0), measured("older", 50.0)]
    decision = release_gate(measured("a", 70.0), history)
    assert decision.accepted and list(decision.history) == history


def test_measurements_survive_json() -> None:
    history = [measured("a", 50.0), measured("b", None)]
    stored = json.loads(json.dumps({HISTORY: to_figures(history)}, allow_nan=False))
    assert from_figures(stored) == history


def test_a_release_of_an_earlier_version_is_not_comparable() -> None:
    decision = release_gate(measured("b", 500.0), from_figures({"generated/excess_kad": 1.0}))
    assert decision.accepted
    assert "not comparable with the release in use: its evaluation recorded no test tracks" in decision.reason


def test_figures_of_an_evaluation_are_read() -> None:
    assert Measurement.of("a", figures()) == replace(measured("a", 20.0), setup=SETUP_VALUES)
    none = dict.fromkeys(("generated/kad", "generated/kad_low", "generated/kad_high"))
    few = Measurement.of("a", figures(**none, **{"generated/note": "too few"}))
    assert (few.kad, few.note) == (None, "too few")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
@pytest.mark.parametrize("name", ["kad", "kad_low", "kad_high"])
def test_figures_that_are_not_finite_are_refused(name: str, value: float | None) -> None:
    with pytest.raises(InputError, match=r"generated/.* of evaluation a"):
        Measurement.of("a", figures(**{f"generated/{name}": value}))


@pytest.mark.parametrize("name", [*SETUP, "generated/kad"])
def test_missing_figures_are_named(name: str) -> None:
    incomplete = figures()
    del incomplete[name]
    with pytest.raises(InputError, match=f"{name} of evaluation a"):
        Measurement.of("a", incomplete)
