from __future__ import annotations

import io
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from matplotlib.image import imread

from melodygan_core.audio import plots

RATE = 22_050


@pytest.fixture(autouse=True)
def warnings_are_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def pixels(png: bytes) -> np.ndarray:
    image = np.asarray(imread(io.BytesIO(png), format="png"))[..., :3]
    assert image.shape[0] > 50
    assert image.shape[1] > 100
    return image


def tone(frequency_hz: float, seconds: float = 1.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency_hz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def test_a_higher_tone_is_drawn_higher() -> None:
    rows = []
    for frequency_hz in (500.0, 3000.0):
        image = pixels(plots.sound_png(tone(frequency_hz), RATE))
        # Only the bright half of magma has more red than blue.
        hot = image[..., 0] - image[..., 2] > 0.2
        rows.append(np.median(np.nonzero(hot)[0]))
    assert rows[1] < rows[0] - 10


@pytest.mark.parametrize("wav", [np.zeros(RATE, np.float32), tone(440, 0.001)], ids=["silence", "short"])
def test_silence_and_short_sounds_are_drawn(wav: np.ndarray) -> None:
    pixels(plots.sound_png(wav, RATE))


def test_the_same_sound_is_the_same_picture() -> None:
    assert plots.sound_png(tone(440), RATE) == plots.sound_png(tone(440), RATE)
    assert plots.sound_png(tone(440), RATE) != plots.sound_png(tone(450), RATE)


def test_a_log_mel_is_drawn_with_low_bands_below() -> None:
    log_mel = np.zeros((40, 100), np.float32)
    log_mel[:5] = 5.0
    image = pixels(plots.log_mel_png(log_mel, 86.0))
    yellow = np.flatnonzero(((image[..., 0] > 0.95) & (image[..., 2] < 0.85)).sum(axis=1) > 50)
    assert yellow.min() > 0.5 * image.shape[0]


def test_curves_omit_missing_metrics() -> None:
    history = [{"step": 0, "b": 1.0}, {"step": 10, "a": 0.5, "b": 0.7}]
    drawn = plots.curves_png(history, [["a", "b"]])
    pixels(drawn)
    assert plots.curves_png(history, [["a", "b", "missing"]]) == drawn
    assert plots.curves_png(history, [["b"]]) != drawn
    assert pixels(plots.curves_png(history, [["a"], ["b"]])).shape[0] > 1.5 * pixels(drawn).shape[0]


def test_a_panel_without_values_is_empty() -> None:
    pixels(plots.curves_png([], [["a"], ["b"]]))


def test_intervals_are_drawn() -> None:
    rows = [("floor", 1.0, 0.5, 2.0), ("generated", 9.0, 7.0, 12.0)]
    assert (
        pixels(plots.intervals_png(rows * 3, "KAD")).shape[0]
        > pixels(plots.intervals_png(rows, "KAD")).shape[0]
    )


def test_stems_are_stacked_with_low_bands_at_the_bottom() -> None:
    high, low = np.zeros((2, 4, 32, 40), np.float16)
    high[2:, :, 30:], low[:2, :, :10] = 1, 1
    light = pixels(plots.stems_png([high, low], ["high", "low"], 86.0)).sum(axis=2)
    left, right, top, bottom, row_height = 80, 300, 5, 42, 50
    dark = [
        light[top, left],
        light[bottom, right],
        light[row_height + top, left],
        light[row_height + bottom, right],
    ]
    bright = [light[top, right], light[row_height + bottom, left]]
    assert len(set(dark)) == len(set(bright)) == 1
    assert dark[0] < 0.1
    assert bright[0] > 2
    # A constant level is drawn without an error.
    pixels(plots.stems_png([np.zeros((1, 32, 40), np.float16)], ["mix"], 86.0))
