from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from melodygan_core import audio
from melodygan_core.errors import TrackError

RATE = 48_000


def sine(frequency_hz: float, seconds: float = 2.0, amplitude: float = 0.5, rate: int = RATE) -> np.ndarray:
    t = np.arange(round(seconds * rate)) / rate
    return (amplitude * np.sin(2 * np.pi * frequency_hz * t)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "subtype", "step"),
    [("a.wav", None, 2**-15), ("a.flac", None, 2**-15), ("a.wav", "PCM_24", 2**-23), ("a.wav", "FLOAT", 0.0)],
)
def test_written_audio_is_read_back(tmp_path: Path, name: str, subtype: str | None, step: float) -> None:
    wav = np.stack([sine(440), sine(100, amplitude=0.1)])
    audio.write_wav(tmp_path / name, wav, RATE, subtype)
    back, rate = audio.read_wav(tmp_path / name)
    assert rate == RATE
    assert back.dtype == np.float32
    assert back.shape == wav.shape
    assert np.abs(back - wav).max() <= step


def test_mono_is_one_channel(tmp_path: Path) -> None:
    audio.write_wav(tmp_path / "a.wav", sine(440), 22_050)
    assert audio.read_wav(tmp_path / "a.wav")[0].shape == (1, 2 * RATE)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"<html>404</html>" * 100])
def test_a_file_that_is_not_audio_is_a_track_error_with_its_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "page.wav").write_bytes(content)
    with pytest.raises(TrackError, match=r"page\.wav is not readable audio"):
        audio.read_wav(tmp_path / "page.wav")


def test_to_mono_is_the_mean_of_the_channels() -> None:
    wav = np.array([[1.0, -1.0, 0.5], [0.0, 1.0, 0.5]], dtype=np.float32)
    assert audio.to_mono(wav).tolist() == [0.5, 0.0, 0.5]
    assert audio.to_mono(wav).dtype == np.float32
    assert audio.to_mono(wav[:1]).tolist() == [1.0, -1.0, 0.5]


def test_resampling_keeps_a_tone_and_removes_aliases() -> None:
    keeps = audio.resample(sine(1000), RATE, 22_050)
    assert keeps.shape == (44_100,)
    middle = slice(4000, -4000)
    assert np.abs(keeps - sine(1000, rate=22_050))[middle].max() < 1e-3
    assert np.abs(audio.resample(sine(15_000), RATE, 22_050))[middle].max() < 1e-3
    stereo = np.stack([sine(1000), sine(15_000)])
    assert np.array_equal(audio.resample(stereo, RATE, 22_050)[0], keeps)
    assert audio.resample(stereo, RATE, RATE) is stereo


def test_levels() -> None:
    assert audio.peak_db(np.array([0.1, -0.5], np.float32)) == pytest.approx(20 * np.log10(0.5), abs=1e-4)
    assert audio.peak_db(np.zeros(10, np.float32)) == audio.SILENCE_DB
    assert audio.peak_db(np.zeros(0, np.float32)) == audio.SILENCE_DB
    # BS.1770: a 997 Hz sine at full scale in one channel reads -3.01 LUFS.
    assert audio.loudness_lufs(sine(997, amplitude=1.0), RATE) == pytest.approx(-3.01, abs=0.05)
    assert audio.loudness_lufs(np.stack([sine(997, amplitude=1.0)] * 2), RATE) == pytest.approx(0.0, abs=0.05)
    assert audio.loudness_lufs(np.zeros(RATE, np.float32), RATE) == audio.SILENCE_DB
    assert audio.loudness_lufs(np.zeros(10, np.float32), RATE) == audio.SILENCE_DB


def test_loudness_is_reached_unless_the_peak_limits_it() -> None:
    quiet = audio.normalise_loudness(sine(997, amplitude=0.01), RATE, -18.0)
    assert audio.loudness_lufs(quiet, RATE) == pytest.approx(-18.0, abs=0.01)
    clicks = sine(997, amplitude=0.01)
    clicks[::RATE] = 1.0
    capped = audio.normalise_loudness(clicks, RATE, -18.0)
    assert audio.peak_db(capped) == pytest.approx(-1.0, abs=1e-3)
    assert audio.loudness_lufs(capped, RATE) < -30
    silence = np.zeros(RATE, np.float32)
    assert np.array_equal(audio.normalise_loudness(silence, RATE, -18.0), silence)


def matched(wavs: list[np.ndarray], ceiling_db: float = -1.0) -> list[np.ndarray]:
    """The wavs at one loudness."""
    levels = [audio.loudness_lufs(w, RATE) for w in wavs]
    gains = audio.matched_gains(levels, [audio.peak_db(w) for w in wavs], -18.0, ceiling_db)
    return [audio.amplify(w, gain_db) for w, gain_db in zip(wavs, gains, strict=True)]


def test_wavs_of_one_call_have_one_loudness() -> None:
    quiet, loud, silent = sine(997, amplitude=0.01), sine(440, amplitude=0.5), np.zeros(RATE, np.float32)
    made = matched([quiet, loud, silent])
    assert [audio.loudness_lufs(w, RATE) for w in made[:2]] == pytest.approx([-18.0, -18.0], abs=0.01)
    assert np.array_equal(made[2], silent)
    assert matched([]) == []


def test_a_wav_that_its_peak_limits_lowers_the_others_alike() -> None:
    clicks = sine(997, amplitude=0.01)
    clicks[::RATE] = 1.0
    limited, other = matched([clicks, sine(440)])
    assert audio.peak_db(limited) == pytest.approx(-1.0, abs=1e-3)
    loudness = audio.loudness_lufs(limited, RATE)
    assert loudness < -30
    assert audio.loudness_lufs(other, RATE) == pytest.approx(loudness, abs=0.01)
