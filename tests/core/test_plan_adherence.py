"""How well a sound follows a plan, on sounds whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from melodygan_core import plan
from melodygan_core.metrics import music
from melodygan_core.plan import Plan
from melodygan_core.plan.adherence import adherence, onset_f
from tests.core.test_plan import GRID, RATE, clicks, song

pytestmark = pytest.mark.slow

WANTED = ("chroma_correlation", "chroma_cosine", "onset_correlation", "onset_f", "melody", "beat")


@pytest.fixture(scope="module")
def own() -> Plan:
    return plan.extract(song(2), RATE, GRID)


def test_a_sound_follows_its_own_plan(own: Plan) -> None:
    found = adherence(own, song(2), RATE)
    assert {name: round(found[name], 6) for name in WANTED} == dict.fromkeys(WANTED, 1.0)


def test_another_sound_does_not(own: Plan) -> None:
    rng = np.random.default_rng(0)
    found = adherence(own, 0.1 * rng.standard_normal(len(song(2))), RATE)
    assert found["chroma_correlation"] < 0.35 and found["onset_correlation"] < 0.3
    assert found["melody"] < 0.4 and abs(found["beat"]) < 0.5
    silent = adherence(own, np.zeros(len(song(2))), RATE)
    assert silent == dict.fromkeys(WANTED, 0.0) | dict.fromkeys(silent, 0.0)


def test_a_transposed_sound_has_the_rhythm_and_not_the_harmony(own: Plan) -> None:
    found = adherence(plan.transpose(own, 6), song(2), RATE)
    assert found["onset_f"] == found["onset_correlation"] == pytest.approx(1.0)
    assert found["chroma_correlation"] < 0.2 and found["melody"] < 0.3


def test_only_what_is_given_is_measured(own: Plan) -> None:
    assert set(adherence(replace(own, given=frozenset({"metre"})), song(2), RATE)) == {"beat"}
    assert adherence(plan.empty(GRID, 30), song(2), RATE) == {}
    with_notes = {"melody", "melody_transcribed"} if music.model_path() else {"melody"}
    assert set(adherence(replace(own, given=frozenset({"melody"})), song(2), RATE)) == with_notes


def test_onsets_count_within_70_ms_and_once() -> None:
    wanted = np.array([0.0, 1.0, 2.0, 3.0])
    assert onset_f(wanted, wanted + 0.069) == 1.0
    assert onset_f(wanted, wanted + 0.071) == 0.0
    assert onset_f(wanted, np.array([1.01, 1.02])) == pytest.approx(2 / 6)
    assert onset_f(wanted, np.empty(0)) == 0.0
    assert onset_f(np.empty(0), wanted) is None


@pytest.mark.parametrize(("late_s", "f"), [(0.0, 1.0), (0.05, 1.0), (0.15, 0.0)])
def test_clicks_that_are_late_are_missed(late_s: float, f: float) -> None:
    times = np.arange(0.5, 9, 0.5)
    made = plan.extract(clicks(10, times, [0.3] * len(times)), RATE, GRID)
    found = adherence(made, clicks(10, times + late_s, [0.3] * len(times)), RATE)
    assert found["onset_f"] == pytest.approx(f, abs=0.1)
