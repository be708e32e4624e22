"""What a player shows of a sound: exact peaks, and tones where they belong on one scale."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from melodygan_core.audio import previews

RATE = 22_050


def tone(frequency_hz: float, gain: float = 0.5) -> np.ndarray:
    return (gain * np.sin(2 * np.pi * frequency_hz * np.arange(RATE) / RATE)).astype(np.float32)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def test_peaks_are_lows_and_highs_in_order() -> None:
    wav = np.array([0.1, -0.5, 0.25, 0.0, 0.75, -0.125], np.float32)
    assert previews.peaks(wav, 3) == [-0.5, 0.1, 0.0, 0.25, -0.12, 0.75]
    assert previews.peaks(wav, 1) == [-0.5, 0.75]


def test_peaks_are_no_more_than_samples_and_stay_in_range() -> None:
    assert previews.peaks(np.array([3.0, -2.0], np.float32), 400) == [1.0, 1.0, -1.0, -1.0]
    assert previews.peaks(np.zeros(0, np.float32)) == []


def test_no_sample_is_left_out_of_the_peaks() -> None:
    wav = np.zeros(1001, np.float32)
    wav[-1], wav[500] = 0.5, -0.5
    found = previews.peaks(wav, 400)
    assert len(found) == 800 and max(found) == 0.5 and min(found) == -0.5


@pytest.mark.parametrize("gain", [1.0, 0.1])
def test_the_level_of_a_tone_is_that_of_its_amplitude(gain: float) -> None:
    middle = previews.spectrogram_db(tone(1000.0, gain), RATE)[:, 40]
    assert middle.max() == pytest.approx(20 * np.log10(gain), abs=1.5)
    row = previews.SPECTROGRAM_ROWS * np.log(1000 / previews.LOWEST_HZ) / np.log(RATE / 2 / previews.LOWEST_HZ)
    assert abs(int(middle.argmax()) - row) < 3


def test_all_pictures_have_one_scale() -> None:
    brightness = [pixels(previews.spectrogram_png(tone(440.0, g), RATE)).sum() for g in (0.0, 0.001, 0.05, 0.5)]
    assert brightness == sorted(set(brightness))
    silence = pixels(previews.spectrogram_png(np.zeros(RATE, np.float32), RATE))
    assert (silence == previews.magma()[0]).all()


def test_low_frequencies_are_below() -> None:
    rows = [pixels(previews.spectrogram_png(tone(f), RATE)).sum(axis=(1, 2)).argmax() for f in (200.0, 4000.0)]
    assert rows[0] > rows[1] + 50


def test_a_short_sound_and_a_long_one_are_drawn() -> None:
    assert pixels(previews.spectrogram_png(tone(440)[:20], RATE)).shape[0] == previews.SPECTROGRAM_ROWS
    wide = pixels(previews.spectrogram_png(np.tile(tone(440), 60), RATE))
    assert 0.99 * previews.COLUMNS < wide.shape[1] <= previews.COLUMNS + 1
