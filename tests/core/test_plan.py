"""Plans of known sound: tones, clicks, melodies, silence; transposition, channels, files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from melodygan_core import plan
from melodygan_core.config import FeatureConfig
from melodygan_core.errors import InputError
from melodygan_core.plan import Grid, Plan
from melodygan_core.plan.files import read_plan, write_plan
from melodygan_core.plan.plan import COLUMNS
from melodygan_core.plan.rhythm import phase_of
from melodygan_core.plan.spectrum import Peaks, pitch_classes

RATE = 22_050
GRID = plan.codec_grid(FeatureConfig(), 8)
TUNE = (72, 74, 76, 77, 79, 77, 76, 74)
CHORDS = ((60, 64, 67), (57, 60, 64), (53, 57, 60), (55, 59, 62))
BASS = (36, 33, 29, 31)


def tone(
    pitch: float, seconds: float, amplitude: float, partials: int = 5, decay: float = 2.0
) -> NDArray[np.float64]:
    t = np.arange(round(seconds * RATE)) / RATE
    hz = 440 * 2 ** ((pitch - 69) / 12)
    wave = sum(np.sin(2 * np.pi * hz * k * t) / k for k in range(1, partials + 1))
    return amplitude * wave * np.clip(np.minimum(t / 0.005, (seconds - t) / 0.02), 0, 1) * np.exp(-decay * t)


def chord(pitches: Sequence[float], seconds: float, amplitude: float) -> NDArray[np.float64]:
    return np.sum([tone(p, seconds, amplitude) for p in pitches], axis=0)


def song(repeats: int) -> NDArray[np.float64]:
    """A tune of notes of 0.4 s over chords and a bass that change every 1.6 s: a bar of four beats."""
    tune = np.concatenate([tone(p, 0.4, 0.25) for p in TUNE * (2 * repeats)])
    harmony = np.concatenate([chord(c, 1.6, 0.08) for c in CHORDS * repeats])
    bass = np.concatenate([tone(p, 1.6, 0.25) for p in BASS * repeats])
    return tune + harmony + bass


def clicks(seconds: float, times: Iterable[float], loud: Sequence[float]) -> NDArray[np.float64]:
    rng = np.random.default_rng(0)
    wav = np.zeros(round(seconds * RATE))
    for time, amplitude in zip(times, loud, strict=True):
        first = round(time * RATE)
        size = min(1000, len(wav) - first)
        wav[first : first + size] += amplitude * rng.standard_normal(size) * np.exp(-np.arange(size) / 150)
    return wav


def off_by(phase: NDArray, wanted: NDArray) -> NDArray:
    """Distance on the circle, in turns."""
    return np.abs((phase - wanted + 0.5) % 1 - 0.5)


# Grid.


def test_tokens_are_those_of_the_codec() -> None:
    assert pytest.approx(1 / 10.7666, rel=1e-4) == GRID.token_s
    # Frame 8 is centred on sample 8 * 512, and is the first of the second token.
    assert GRID.position(8 * 512 / 44_100) == 1 and GRID.position(8 * 512 / 44_100 - 0.0059) == 0
    for frame in range(24):
        assert GRID.position(frame * 512 / 44_100, 8) == frame
    np.testing.assert_allclose(GRID.centres(3, 8), np.arange(24) * 512 / 44_100, atol=1e-12)
    assert GRID.tokens(10.0) == 108 and GRID.tokens(0.0) == 1
    with pytest.raises(InputError, match="token_s must be above 0 and below 60, got 0"):
        Grid(0.0)


# Known sound.


def test_silence_has_zeros_everywhere() -> None:
    made = plan.extract(np.zeros((2, 5 * RATE)), RATE, GRID)
    assert len(made) == GRID.tokens(5.0)
    assert all(not getattr(made, name).any() for name in COLUMNS)
    assert len(plan.extract(np.zeros(0), RATE, GRID, 7)) == 7


@pytest.mark.parametrize("pitch", [60, 69, 70, 81])
def test_a_tone_has_its_pitch_class_and_pitch(pitch: int) -> None:
    made = plan.extract(tone(pitch, 3.0, 0.3, partials=1, decay=0), RATE, GRID)
    inside = slice(2, -3)
    assert (made.upper_chroma.argmax(axis=1) == pitch % 12)[inside].all()
    others = np.delete(made.upper_chroma, pitch % 12, axis=1)
    assert float(others[inside].max()) < 0.1
    assert not made.lower_chroma.any(), "nothing is below 250 Hz"
    assert (made.melody[inside] == pitch).all()


def test_a_bass_tone_is_in_the_lower_chroma() -> None:
    made = plan.extract(tone(40, 3.0, 0.3, partials=1, decay=0), RATE, GRID)
    assert (made.lower_chroma.argmax(axis=1) == 4)[2:-3].all()
    assert not made.upper_chroma[2:-3].any()


@pytest.mark.slow
def test_a_tune_is_heard_above_its_accompaniment() -> None:
    made = plan.extract(song(2), RATE, GRID)
    index = np.clip((GRID.centres(len(made)) / 0.4).astype(int), 0, None)
    wanted = np.array(TUNE * 4)[np.minimum(index, len(TUNE) * 4 - 1)]
    assert float((made.melody == wanted).mean()) > 0.85
    bass = np.array(BASS * 2)[np.minimum(index // 4, 7)] % 12
    assert float((made.lower_chroma.argmax(axis=1) == bass).mean()) > 0.85


def test_clicks_at_120_give_their_phase_and_their_onsets() -> None:
    times = np.arange(0.25, 20, 0.5)
    made = plan.extract(clicks(20, times, [0.3] * len(times)), RATE, GRID)
    inside = slice(8, -8)
    phase = (GRID.centres(len(made)) - 0.25) / 0.5 % 1
    assert float(off_by(made.beat_phase, phase)[inside].max()) < 0.05
    assert float(made.beat_confidence[inside].min()) > 0.9
    assert float(made.bar_confidence.max()) < 0.1, "equal clicks have no bar"
    parts = made.onsets.reshape(-1)
    at = np.array([GRID.position(t, 8) for t in times[:-1]])
    # Within one of the eight parts of a token, 12 ms.
    assert all(parts[k - 1 : k + 2].max() > 0.9 for k in at)
    assert all(parts[k + 10 : k + 35].max() < 0.1 for k in at)
    assert (made.melody == 0).mean() > 0.5


def test_accents_give_the_bar() -> None:
    times = np.arange(0.3, 30, 0.45)
    loud = [0.5 if k % 3 == 1 else 0.1 for k in range(len(times))]
    wav = clicks(30, times, loud)
    # A drum on the first beat.
    for time, amplitude in zip(times, loud, strict=True):
        if amplitude > 0.3 and time < 29:
            first = round(time * RATE)
            wav[first : first + RATE // 5] += 0.4 * tone(33, 0.2, 1.0, partials=1)[: RATE // 5]
    made = plan.extract(wav, RATE, GRID)
    phase = (GRID.centres(len(made)) - 0.3 - 0.45) / (3 * 0.45) % 1
    assert float(off_by(made.bar_phase, phase)[10:-10].max()) < 0.05
    assert float(made.bar_confidence[10:-10].min()) > 0.3


def test_noise_has_no_beat() -> None:
    made = plan.extract(0.1 * np.random.default_rng(1).standard_normal(15 * RATE), RATE, GRID)
    assert float(made.beat_confidence.mean()) < 0.3


def test_loudness_is_in_decibels() -> None:
    wav = np.concatenate([a * np.ones(RATE) for a in (1.0, 0.1, 0.01)])
    made = plan.extract(wav, RATE, GRID)
    np.testing.assert_allclose(made.loudness[[5, 15, 26]], [1, 1 - 20 / 60, 1 - 40 / 60], atol=1e-3)


def test_sections_that_sound_alike_have_one_label() -> None:
    first = np.concatenate([chord((60, 64, 67), 1.0, 0.1)] * 12)
    second = np.concatenate([chord((66, 70, 73), 0.5, 0.1) + clicks(0.5, [0.0], [0.3]) for _ in range(24)])
    made = plan.extract(np.concatenate([first, second, first]), RATE, GRID)
    middles = [int(GRID.position(t)) for t in (6, 18, 30)]
    assert made.section[middles].tolist() == [0, 1, 0]
    borders = np.flatnonzero(np.diff(made.section)) * GRID.token_s
    np.testing.assert_allclose(borders, [12, 24], atol=1.5)


@pytest.mark.parametrize(
    ("wav", "rate", "message"),
    [
        (np.full(RATE, np.nan), RATE, "wav must be finite values, got 'not finite'"),
        (np.zeros((1, 1, RATE)), RATE, r"wav.shape must be \(samples,\) or \(channels, samples\)"),
        (np.zeros(RATE), 4000, "sample_rate must be at least 8000 Hz, got 4000"),
    ],
)
def test_what_is_no_sound_is_refused(wav: NDArray, rate: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan.extract(wav, rate, GRID)


# Transposition, parts and channels.


@pytest.fixture(scope="module")
def made() -> Plan:
    return plan.extract(song(2), RATE, GRID)


@given(st.integers(-11, 11))
@settings(max_examples=10)
def test_transposition_is_exact(made: Plan, semitones: int) -> None:
    higher = plan.transpose(made, semitones)
    voiced = made.melody > 0
    assert (higher.melody[voiced] - made.melody[voiced] == semitones).all() and not higher.melody[~voiced].any()
    for k in range(12):
        np.testing.assert_array_equal(higher.upper_chroma[:, (k + semitones) % 12], made.upper_chroma[:, k])
    back = plan.transpose(higher, -semitones)
    assert all(np.array_equal(getattr(back, n), getattr(made, n)) for n in COLUMNS)


def test_transposition_stays_within_midi(made: Plan) -> None:
    with pytest.raises(InputError, match="semitones must be such that the melody stays within MIDI"):
        plan.transpose(made, 60)


def test_transposed_sound_has_the_transposed_plan() -> None:
    low, high = (plan.extract(chord((60 + k, 64 + k, 67 + k), 2.0, 0.1), RATE, GRID) for k in (0, 3))
    shifted = plan.transpose(low, 3)
    assert float(np.abs(shifted.upper_chroma - high.upper_chroma)[3:-3].mean()) < 0.05


def test_channels_hold_every_part_and_a_flag_for_each(made: Plan) -> None:
    values = plan.channels(made)
    assert values.shape == (len(made), plan.CHANNELS) and values.dtype == np.float32
    assert float(np.abs(values).max()) <= 1
    first = 0
    for name, width in plan.PARTS.items():
        assert (values[:, first + width] == 1).all()
        only = plan.channels(replace(made, given=frozenset({name})))
        np.testing.assert_array_equal(only[:, first : first + width + 1], values[:, first : first + width + 1])
        assert not np.delete(only, np.s_[first : first + width + 1], axis=1).any()
        left = values.copy()
        plan.open_parts(left, [other for other in plan.PARTS if other != name])
        np.testing.assert_array_equal(left, only)
        first += width + 1
    assert not plan.channels(plan.empty(GRID, 5)).any()


def test_melody_channels_name_pitch_class_and_octave() -> None:
    one = plan.empty(GRID, 4)
    line = replace(one, melody=np.array([0, 36, 69, 107], np.int16), given=frozenset({"melody"}))
    values = plan.channels(line)[:, 25 : 25 + 19]
    assert not values[0].any()
    for row, pitch in ((1, 36), (2, 69), (3, 107)):
        wanted = {pitch % 12, 12 + pitch // 12 - 3, 18}
        assert set(np.flatnonzero(values[row])) == wanted


def test_peaks_between_two_semitones_count_for_both() -> None:
    chroma = pitch_classes(Peaks(np.array([0, 1]), 440 * 2 ** (np.array([0.0, 0.5]) / 12), np.ones(2)), 3)
    assert chroma[0].tolist() == [0] * 9 + [1, 0, 0]
    np.testing.assert_allclose(chroma[1, 9:11], [1, 1])
    assert not chroma[2].any()


def test_phases_are_below_one() -> None:
    assert float(phase_of(np.array([-1e-12, 3.25]))[0]) == 0.0
    np.testing.assert_allclose(phase_of(np.array([3.25, -0.25])), [0.25, 0.75])


def test_crops_and_joins_are_inverse(made: Plan) -> None:
    all_of_it = plan.joined([made.crop(0, 30), made.crop(30, len(made))])
    assert all(np.array_equal(getattr(all_of_it, n), getattr(made, n)) for n in COLUMNS)
    with pytest.raises(InputError, match="plans must be of one grid, got '2 grids'"):
        plan.joined([made, plan.empty(Grid(0.1), 3)])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("loudness", np.full(4, 2, np.float32), "loudness must be 0 to 1"),
        ("loudness", np.full(4, np.nan, np.float32), "loudness must be 0 to 1"),
        ("melody", np.full(4, 300, np.int16), "melody must be MIDI pitches, 0 to 127"),
        ("section", np.full(4, 6, np.int8), "section must be 0 to 5"),
        ("onsets", np.zeros((4, 7), np.float32), r"onsets must be of shape \(4, 8\), got \(4, 7\)"),
        ("onsets", np.zeros((4, 8)), "onsets must be of type float32"),
        ("given", frozenset({"words"}), "given must be some of harmony, melody"),
    ],
)
def test_what_is_no_plan_is_refused(name: str, value: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(plan.empty(GRID, 4), **{name: value})  # type: ignore[arg-type]


# Files.


def test_a_plan_survives_its_file(made: Plan, tmp_path: Path) -> None:
    written = replace(made, given=frozenset({"melody", "metre"}))
    write_plan(tmp_path / "a.parquet", written)
    read = read_plan(tmp_path / "a.parquet")
    assert (read.grid, read.given) == (written.grid, written.given)
    assert all(np.array_equal(getattr(read, n), getattr(written, n)) for n in COLUMNS)


def test_files_of_strangers_are_refused(made: Plan, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 this is none PAR1")
    with pytest.raises(InputError, match=r"a\.parquet must be a plan that this program wrote"):
        read_plan(path)
    pq.write_table(pa.table({"x": [1]}), path)
    with pytest.raises(InputError, match=r"a\.parquet must be a plan that this program wrote"):
        read_plan(path)
    write_plan(path, made)
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["melody"]), path)
    with pytest.raises(InputError, match="must be those of a plan with melody"):
        read_plan(path)
    wide = table.set_column(table.schema.get_field_index("melody"), "melody", pa.array([5.5] * len(table)))
    pq.write_table(wide, path)
    with pytest.raises(InputError, match="melody must be 1 values of int16 per token"):
        read_plan(path)
