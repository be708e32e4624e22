"""Measures of music: known answers on clicks, chords, tones, noise and silence."""

from __future__ import annotations

import numpy as np
import pytest

from melodygan_core.errors import InputError
from melodygan_core.metrics import music
from melodygan_core.metrics.music import harmony, measures, notes, rhythm
from melodygan_core.metrics.music.notes import Note

RATE = 22_050


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


def tone(pitch: float, seconds: float, rate: int = RATE) -> np.ndarray:
    """A harmonic tone that decays: (samples,)."""
    t = np.arange(round(seconds * rate)) / rate
    hz = 440 * 2 ** ((pitch - 69) / 12)
    wave = sum(np.sin(2 * np.pi * hz * k * t) / k for k in range(1, 5))
    return (0.1 * wave * np.exp(-2 * t) * np.minimum(1, 200 * t)).astype(np.float32)


def chord(pitches: tuple[int, ...], seconds: float) -> np.ndarray:
    return np.sum([tone(p, seconds) for p in pitches], axis=0)


def line(pitches: list[int], seconds: float) -> np.ndarray:
    return np.concatenate([tone(p, seconds) for p in pitches])


def clicks(times_s: np.ndarray, seconds: float) -> np.ndarray:
    wav, click = np.zeros(round(seconds * RATE) + RATE, np.float32), noise(0.02) * 3
    for at in (times_s * RATE).astype(int):
        wav[at : at + len(click)] += click
    return wav[: round(seconds * RATE)]


def sound(wav: np.ndarray) -> music.MusicSound:
    return music.music_sound(wav, RATE)


@pytest.mark.parametrize("bpm", [73.0, 97.0, 120.0, 150.0])
def test_a_click_track_has_a_clear_stable_pulse_at_its_tempo(bpm: float) -> None:
    regular = sound(clicks(np.arange(0.1, 15, 60 / bpm), 15) + 1e-4 * noise(15))
    assert rhythm.pulse_clarity(regular) > 0.9
    assert rhythm.tempo_bpm(regular) == pytest.approx(bpm, rel=0.01)
    assert rhythm.tempo_stability(regular) == 1


def test_noise_and_random_clicks_have_no_pulse() -> None:
    for seed in range(3):
        hiss = sound(noise(15, seed))
        assert rhythm.pulse_clarity(hiss) < 0.25
        assert rhythm.tempo_stability(hiss) < 0.5
        times = np.sort(np.random.default_rng(seed).uniform(0, 15, 30))
        assert rhythm.pulse_clarity(sound(clicks(times, 15))) < 0.5


def test_a_tempo_that_changes_is_not_stable() -> None:
    # From 90 to 150 beats per minute.
    beats = np.cumsum(np.linspace(60 / 90, 60 / 150, 28))
    changing = sound(clicks(beats, 15) + 1e-4 * noise(15))
    assert rhythm.tempo_stability(changing) < 0.5


def test_chords_of_c_major_are_in_c_major() -> None:
    progression = [(60, 64, 67), (65, 69, 72), (67, 71, 74), (60, 64, 67)] * 2
    tonal = sound(np.concatenate([chord(c, 1.0) for c in progression]))
    assert harmony.key_name(tonal) == "C major"
    assert harmony.key_clarity(tonal) > 0.85
    up = sound(np.concatenate([chord((a + 3, b + 3, c + 3), 1.0) for a, b, c in progression]))
    assert harmony.key_name(up) == "Eb major"
    minor = sound(
        np.concatenate([chord(c, 1.0) for c in [(57, 60, 64), (62, 65, 69), (64, 68, 71), (57, 60, 64)]])
    )
    assert harmony.key_name(minor) == "A minor"


def test_noise_and_a_chromatic_line_have_no_clear_key() -> None:
    assert harmony.key_clarity(sound(noise(10))) < 0.4
    chromatic = sound(line([60 + k % 12 for k in range(48)], 0.25))
    assert harmony.key_clarity(chromatic) < 0.6
    assert harmony.chroma_entropy(chromatic) > 3.3
    assert harmony.chroma_entropy(sound(line([60] * 20, 0.5))) < 2.2


def test_harmonic_change_is_zero_for_a_held_chord_and_grows_with_the_chords() -> None:
    def changing(every_s: float) -> float:
        roots = np.random.default_rng(0).integers(48, 60, round(12 / every_s))
        return harmony.harmonic_change(
            sound(np.concatenate([chord((r, r + 4, r + 7), every_s) for r in roots]))
        )

    held = harmony.harmonic_change(sound(np.tile(chord((60, 64, 67), 0.5), 24)))
    assert held < 0.05 < changing(3.0) < changing(0.5)


def test_structure_sees_the_distance_at_which_music_recurs() -> None:
    rng = np.random.default_rng(1)
    a, b = (line(list(rng.integers(55, 79, 16)), 0.25) for _ in range(2))
    form = sound(np.concatenate([a, a, b, a]))
    never = sound(line(list(rng.integers(55, 79, 64)), 0.25))
    # A returns after 4 s, 8 s and 12 s, B never.
    assert harmony.structure(form, 3, 8) > harmony.structure(never, 3, 8) + 0.2
    assert harmony.structure(form, 8, 15) > harmony.structure(never, 8, 15) + 0.3
    loop = sound(np.concatenate([a, a, a, a]))
    assert harmony.structure(loop, 3, 8) > 0.97


def test_level_rate_and_channels_do_not_matter() -> None:
    wav = np.concatenate([line([60, 62, 64, 65, 67, 69, 71, 72] * 4, 0.5)])
    plain = music.measure(wav, RATE).values
    rate = 44_100
    double = np.concatenate([tone(p, 0.5, rate) for p in [60, 62, 64, 65, 67, 69, 71, 72] * 4])
    stereo = music.measure(0.5 * np.stack([double, double]), rate).values
    assert plain.keys() == stereo.keys()
    for name in music.SOUND_MEASURES:
        assert stereo[name] == pytest.approx(plain[name], rel=0.1, abs=0.03), name


def test_silence_and_short_sounds_say_so() -> None:
    silent = music.measure(np.zeros(5 * RATE, np.float32), RATE)
    assert silent.values == {} and set(silent.missing.values()) == {"silent"}
    assert set(silent.missing) == set(music.MEASURES)
    short = music.measure(line([60, 62, 64, 65] * 3, 0.5), RATE)
    assert "structure_3_8" in short.values
    assert short.missing["structure_8_15"] == "excerpts too short (6.0 s of at least 11 s)"
    assert short.missing["tempo_stability"].startswith("excerpts too short")
    assert "pulse_clarity" in short.values


def test_bad_sound_is_named() -> None:
    with pytest.raises(InputError, match=r"wav\.shape must be \(samples,\)"):
        music.music_sound(np.zeros((1, 2, RATE)), RATE)
    with pytest.raises(InputError, match="samples must be at least 22050"):
        music.music_sound(np.zeros(RATE - 1), RATE)
    with pytest.raises(InputError, match="sample_rate must be at least 8000 Hz, got 4000"):
        music.music_sound(np.zeros(RATE), 4000)
    with pytest.raises(InputError, match="not finite"):
        music.music_sound(np.full(RATE, np.nan), RATE)


def scale(steps: tuple[int, ...], count: int, length_s: float = 0.25) -> list[Note]:
    return [
        Note(k * length_s, (k + 1) * length_s, 60 + steps[k % len(steps)] + 12 * (k // len(steps) % 2))
        for k in range(count)
    ]


def test_notes_in_key_and_range() -> None:
    major = scale((0, 2, 4, 5, 7, 9, 11), 28)
    chromatic = scale(tuple(range(12)), 24)
    assert notes.notes_in_key(major) == 1
    assert notes.notes_in_key([n._replace(pitch=n.pitch + 6) for n in major]) == 1
    assert notes.notes_in_key(chromatic) == pytest.approx(7 / 12)
    assert 20 <= notes.pitch_range(major) <= 23
    assert notes.note_length(major) == 0.25


def test_motifs_recur_in_any_key() -> None:
    motif = [0, 4, 7, 5]
    again = [Note(0.25 * k, 0.25 * k + 0.2, 60 + motif[k % 4] + k // 4) for k in range(32)]
    assert notes.motif_recurrence(again) > 0.8
    rng = np.random.default_rng(0)
    never = [Note(0.25 * k, 0.25 * k + 0.2, int(p)) for k, p in enumerate(rng.integers(50, 80, 32))]
    assert notes.motif_recurrence(never) < 0.1
    held = [Note(0.25 * k, 0.25 * k + 0.2, 60) for k in range(32)]
    assert notes.motif_recurrence(held) == 0


def test_the_melody_line_is_the_highest_note() -> None:
    melody = scale((0, 2, 4, 5), 8, 0.5)
    under = [Note(n.start_s + 0.01, n.end_s, n.pitch - 12) for n in melody]
    passing = [Note(n.start_s + 0.2, n.end_s, n.pitch - 5) for n in melody]
    assert notes.melody_line([*under, *passing, *melody]) == melody


def test_a_grid_holds_regular_onsets() -> None:
    rng = np.random.default_rng(0)
    regular = [Note(t, t + 0.1, 60) for t in 0.25 * np.sort(rng.choice(60, 40, replace=False))]
    random = [Note(t, t + 0.1, 60) for t in np.sort(rng.uniform(0, 15, 40))]
    assert notes.metrical_grid(regular) > 0.99
    assert notes.metrical_grid(random) < 0.5
    beats = [Note(0.3 + 0.5 * k, 0.3 + 0.5 * k + 0.1, 60) for k in range(30)]
    assert notes.on_beat(beats, 118.5) == 1
    halves = [Note(0.25 * k, 0.25 * k + 0.1, 60) for k in range(60)]
    assert notes.on_beat(halves, 120) == pytest.approx(0.5, abs=0.02)


def test_interval_bigrams_are_those_of_other_tracks() -> None:
    steps, leaps = [2, 2, 1, 2, -2, -1] * 6, [7, -9, 11, -6, 8] * 6
    model = notes.IntervalModel([("a", steps), ("b", steps), ("c", leaps)])
    typical, unusual = model.typicality(steps), model.typicality([5, -8, 10, -11])
    assert typical is not None and unusual is not None and typical > unusual + 2
    # Without its own track, a line of leaps is unusual.
    own, others = model.typicality(leaps), model.typicality(leaps, leave_out="c")
    assert own is not None and others is not None and own > others + 2
    assert model.typicality([2]) is None


def test_shuffling_keeps_the_samples_and_loses_the_pulse() -> None:
    wav = clicks(np.arange(0.1, 15, 0.5), 15) + 0.3 * np.tile(chord((60, 64, 67), 0.5), 30)
    mixed = music.time_shuffled(wav, RATE, 0)
    assert mixed.shape == wav.shape and mixed.dtype == np.float32
    assert np.square(mixed).sum() == pytest.approx(np.square(wav).sum(), rel=0.15)
    assert np.array_equal(mixed, music.time_shuffled(wav, RATE, 0))
    assert not np.array_equal(mixed, music.time_shuffled(wav, RATE, 1))
    stereo = music.time_shuffled(np.stack([wav, wav]), RATE, 0)
    assert np.array_equal(stereo[0], mixed)
    assert rhythm.pulse_clarity(sound(mixed)) < rhythm.pulse_clarity(sound(wav)) - 0.3
    # What went in is not changed.
    assert np.array_equal(
        wav, clicks(np.arange(0.1, 15, 0.5), 15) + 0.3 * np.tile(chord((60, 64, 67), 0.5), 30)
    )


def measured(values: list[float], missing: str = "") -> music.MeasuredSet:
    excerpts = [
        measures.Measures({"pulse_clarity": v}, {"structure_8_15": missing} if missing else {}) for v in values
    ]
    return music.MeasuredSet(excerpts, list(range(len(values))))


def test_sets_are_compared_measure_by_measure() -> None:
    short = "excerpts too short (8.0 s of at least 11 s)"
    low, high = [0.1, 0.2, 0.3, 0.4, 0.5], [0.6, 0.7, 0.8, 0.9, 1.0]
    sets = {"real": measured(low, short), "made": measured(high), "few": measured(high[:4])}
    rows = music.compare_music(sets, "real")
    found = {(r["measure"], r["set"]): r for r in rows}
    made, real = found["pulse_clarity", "made"], found["pulse_clarity", "real"]
    assert (made["ks"], made["median"], made["low"], made["high"], made["n"]) == (1.0, 0.8, 0.7, 0.9, 5)
    assert real["ks"] is None and real["median"] == 0.3
    assert found["structure_8_15", "real"]["note"] == short
    few = found["pulse_clarity", "few"]
    assert (few["ks"], few["median"], few["n"], few["note"]) == (
        None,
        None,
        4,
        "too few excerpts (4 of at least 5)",
    )
    assert music.mean_ks(rows, "made") == 1.0
    assert music.mean_ks(rows, "real") is None


def test_statistics() -> None:
    assert music.ks_distance([1, 2, 3, 4], [1, 2, 3, 4]) == 0
    assert music.ks_distance([1, 2, 3, 4], [3, 4, 5, 6]) == 0.5
    assert (
        music.auc([2, 3], [0, 1]) == 1 and music.auc([0, 1], [2, 3]) == 0 and music.auc([1, 1], [1, 1]) == 0.5
    )
    assert music.effect_size([1, 3], [0, 2]) == pytest.approx(1 / np.sqrt(2))
