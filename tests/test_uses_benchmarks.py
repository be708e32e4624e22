"""The measures of the benchmarks of transfer, continuation and augment, on sounds whose answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks import augmentation, continuation, transfer
from benchmarks.excerpts import Track, evenly, random_excerpts, table, tracks_of
from melodygan_core.audio import write_wav
from melodygan_core.services.labelled import Labelled
from tests.core.made import FEATURE
from tests.core.made_temporal import RATE, put, tone


def clicks(seconds: float, bpm: float) -> NDArray[np.float32]:
    """Short bursts of noise at a tempo: (2, samples)."""
    t = np.arange(round(seconds * RATE)) / RATE
    noise = np.random.default_rng(0).normal(0, 0.3, len(t))
    return np.stack([noise * np.exp(-40 * (t % (60 / bpm)))] * 2).astype(np.float32)


def test_a_step_in_level_is_measured_and_no_other_one() -> None:
    wav, join = clicks(12.0, 120.0), 6 * RATE
    smooth = continuation.steps_at(wav, join, FEATURE)
    wav[:, join:] *= 2
    stepped = continuation.steps_at(wav, join, FEATURE)
    decibel = 20 * np.log10(2)
    assert stepped["level, 0.5 s"] - smooth["level, 0.5 s"] == pytest.approx(decibel, abs=0.5)
    assert smooth["level, 0.5 s"] < 1
    assert stepped["spectrum"] == pytest.approx(smooth["spectrum"], abs=0.3)
    assert stepped["tempo"] == pytest.approx(0, abs=0.03)


def test_a_step_in_tempo_is_in_octaves_but_for_whole_ones() -> None:
    faster, twice = (
        continuation.steps_at(np.concatenate([clicks(6.0, 80.0), clicks(6.0, bpm)], axis=1), 6 * RATE, FEATURE)
        for bpm in (100.0, 160.0)
    )
    assert faster["tempo"] == pytest.approx(np.log2(100 / 80), abs=0.03)
    assert twice["tempo"] == pytest.approx(0, abs=0.03)


def test_the_share_beyond_is_that_beyond_the_95th_percentile_of_real_music() -> None:
    real = {"level": [float(k) for k in range(101)]}
    ((name, median, limit, made, beyond),) = continuation.seam_rows(real, {"made": {"level": [94.0, 96.0]}})
    assert (name, median, limit, made, beyond) == ("level", 50.0, 95.0, 95.0, "50 %")


def test_a_cross_faded_gap_changes_nothing_else_and_keeps_a_steady_level() -> None:
    rng = np.random.default_rng(0)
    wav = rng.normal(0, 0.1, (2, 4 * RATE)).astype(np.float32)
    start, stop = RATE, 2 * RATE
    made = continuation.faded_gap(wav, start, stop)
    assert np.array_equal(made[:, :start], wav[:, :start]) and np.array_equal(made[:, stop:], wav[:, stop:])
    assert not np.allclose(made[:, start:stop], wav[:, start:stop])
    assert made[:, start:stop].std() == pytest.approx(0.1, rel=0.02)


def test_another_track_is_joined_without_a_gap() -> None:
    first, second = (np.full((2, 3 * RATE), value, np.float32) for value in (0.1, 0.2))
    fade = round(continuation.FADE_S * RATE)
    made = continuation.joined_to(first, second[:, : RATE + fade], RATE)
    assert made.shape == (2, 4 * RATE)
    assert np.all(made[:, : 3 * RATE - fade] == 0.1) and np.allclose(made[:, 3 * RATE :], 0.2)


def test_the_way_is_the_share_of_the_distance_to_the_spread() -> None:
    curve = transfer.Curve()
    for before, after in ((9.0, 6.0), (7.0, 4.0)):
        curve.add({"mfcc_distance_before": before, "mfcc_distance_after": after, "mfcc_spread": 4.0})
    assert curve.way("mfcc") == pytest.approx(0.75)


def test_timbre_is_of_windows_and_of_no_level() -> None:
    wav: NDArray[np.float32] = tone(7.0, (220.0, 330.0))[None]
    other_wav: NDArray[np.float32] = tone(7.0, (220.0, 330.0), bright=0.8)[None]
    found, quieter, other = (transfer.timbre(w, RATE) for w in (wav, np.float32(0.5) * wav, other_wav))
    assert found.shape == (2, 57)
    assert np.abs(found - quieter).max() < 0.05 * np.abs(found - other).max()


def labelled(name: str, **labels: str) -> Track:
    return Track(Labelled(Path(name), name, labels), 10.0)


def test_classes_are_of_sounds_with_exactly_one_of_the_tags() -> None:
    tracks = [
        labelled("a", tags="calm; flute"),
        labelled("b", tags="calm; battle"),
        labelled("c", tags="battle"),
        labelled("d", tags="battle; flute"),
        labelled("e", tags=""),
    ]
    found = augmentation.classes_of(tracks, "tags", ["calm", "battle"], 8)
    assert {k: [t.item.name for t in v] for k, v in found.items()} == {"battle": ["c", "d"], "calm": ["a"]}
    assert list(augmentation.classes_of(tracks, "track", [], 3)) == ["a", "b", "c"]


def test_the_classifier_learns_what_can_be_learnt() -> None:
    rng = torch.Generator().manual_seed(0)
    inputs = torch.randn(60, 12, 32, generator=rng)
    classes = torch.arange(60) % 3
    marked = inputs.clone()
    marked[torch.arange(60), 5 * classes] += 2
    halves = (slice(0, 30), slice(30, 60))
    learnt, chance = (
        augmentation.accuracy(*((x[half], classes[half]) for half in halves), seed=1) for x in (marked, inputs)
    )
    assert learnt > 0.95
    assert chance < 0.7


def test_excerpts_are_of_tracks_that_are_long_enough_and_sound(tmp_path: Path) -> None:
    put(tmp_path / "x" / "long.wav", tone(4.0, (220.0, 330.0) * 4))
    put(tmp_path / "x" / "short.wav", tone(1.0, (220.0,)))
    write_wav(tmp_path / "y.wav", np.zeros((1, 4 * RATE), np.float32), RATE)
    found = tracks_of(tmp_path, 3.0)
    assert [t.item.name for t in found] == ["x/long.wav", "y.wav"]
    rng = np.random.default_rng(0)
    sounds = [random_excerpts(track, 2.0, 3, rng, FEATURE) for track in found]
    assert [len(s) for s in sounds] == [3, 0]
    assert {w.shape for w in sounds[0]} == {(1, 2 * RATE)}
    assert [t.item.name for t in evenly(found, 1)] == ["x/long.wav"]


def test_a_table_is_markdown() -> None:
    assert (
        table(["a", "b"], [["x", 0.456], ["y", -0.001]]) == "| a | b |\n|---|---|\n| x | 0.46 |\n| y | 0.00 |"
    )
