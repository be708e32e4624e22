"""Figures of pitch: known answers on tones and noise."""

from __future__ import annotations

import numpy as np
import pytest

from melodygan_core.errors import InputError
from melodygan_core.evaluation.pitch import cqt_correlation, partials_error_db, pitch_figures

RATE = 22_050
SECONDS = 3.0


def tone(frequency_hz: float, semitones: float = 0.0, partials: int = 8) -> np.ndarray:
    """A harmonic tone that fades in and out: (samples,)."""
    t = np.arange(round(SECONDS * RATE)) / RATE
    root = frequency_hz * 2 ** (semitones / 12)
    wave = sum(np.sin(2 * np.pi * root * k * t) / k for k in range(1, partials + 1))
    return (0.1 * wave * np.minimum(1, 5 * np.minimum(t, SECONDS - t))).astype(np.float32)


def noise(seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(SECONDS * RATE))).astype(np.float32)


@pytest.mark.parametrize(("frequency_hz", "band"), [(82.0, "40-160"), (300.0, "160-640"), (880.0, "640-2560")])
def test_a_semitone_is_seen_in_every_band(frequency_hz: float, band: str) -> None:
    original = tone(frequency_hz)
    name = f"pitch/{band}"
    assert cqt_correlation(original, original, RATE)[name] == pytest.approx(1, abs=1e-5)
    assert cqt_correlation(tone(frequency_hz, 0.05), original, RATE)[name] > 0.9
    assert cqt_correlation(tone(frequency_hz, 1), original, RATE)[name] < 0.2
    assert abs(cqt_correlation(noise(), original, RATE)[name]) < 0.15
    # Level does not matter, silence is no match.
    assert cqt_correlation(0.1 * original, original, RATE)[name] == pytest.approx(1, abs=1e-4)
    assert cqt_correlation(0.0 * original, original, RATE)[name] == 0


def test_bands_without_sound_are_left_out() -> None:
    assert set(cqt_correlation(noise(), tone(880.0), RATE)) == {"pitch/640-2560"}
    assert cqt_correlation(noise(), 0 * noise(), RATE) == {}
    everything = cqt_correlation(noise(1), noise(), RATE)
    assert set(everything) == {"pitch/40-160", "pitch/160-640", "pitch/640-2560"}
    assert all(abs(v) < 0.2 for v in everything.values())


def test_the_error_of_partials_is_their_level_difference() -> None:
    original = tone(300.0)
    assert partials_error_db(original, original, RATE) == 0
    assert partials_error_db(0.5 * original, original, RATE) == pytest.approx(20 * np.log10(2), abs=0.01)
    # Noise between the partials costs less than partials that moved or are gone.
    noisy = partials_error_db(original + 0.01 * noise(), original, RATE)
    moved = partials_error_db(tone(300.0, 1), original, RATE)
    silent = partials_error_db(0 * original, original, RATE)
    assert noisy is not None and moved is not None and silent is not None
    assert noisy < 1
    assert 10 < moved < silent < 60
    assert partials_error_db(original, 0 * original, RATE) is None


def test_figures_are_means_over_the_pairs_that_sound_in_a_band() -> None:
    low, high, wrong = tone(82.0, partials=2), tone(880.0), tone(880.0, 1)
    figures = pitch_figures([(low, low), (high, wrong), (high, high)], RATE)
    assert figures["pitch/pairs"] == 3
    assert figures["pitch/40-160"] == pytest.approx(1, abs=1e-5)
    alone = cqt_correlation(wrong, high, RATE)["pitch/640-2560"]
    assert figures["pitch/640-2560"] == pytest.approx((alone + 1) / 2, abs=1e-4)
    error = partials_error_db(wrong, high, RATE)
    assert error is not None
    assert figures["pitch/partials_error_db"] == pytest.approx(error / 3)


def test_the_longer_sound_is_cut() -> None:
    original = tone(300.0)
    assert cqt_correlation(np.append(original, noise()), original, RATE) == cqt_correlation(
        original, original, RATE
    )


def test_bad_input_is_named() -> None:
    original = tone(300.0)
    with pytest.raises(InputError, match="at least 33075"):
        cqt_correlation(original[:1000], original, RATE)
    with pytest.raises(InputError, match="sample_rate"):
        cqt_correlation(original, original, 4000)
    with pytest.raises(InputError, match="reference"):
        partials_error_db(original, np.full_like(original, np.nan), RATE)
    with pytest.raises(InputError, match=r"wav\.shape"):
        partials_error_db(original[None], original, RATE)
    with pytest.raises(InputError, match="at least one original"):
        pitch_figures([], RATE)
