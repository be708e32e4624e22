"""Griffin-Lim: tones, levels, silence, and equality to torchaudio's."""

from __future__ import annotations

import math

import pytest
import torch
import torchaudio.functional

from melodygan_core.config import FeatureConfig, GriffinLimConfig
from melodygan_core.features import FeatureExtractor
from melodygan_core.vocoder import GriffinLim

FEATURE = FeatureConfig(sample_rate=22_050, n_fft=1024, hop_length=256, bands_up_to_hz=1000, upper_bands=40)


def spectrum_of(frequency_hz: float, amplitude: float = 0.5, seconds: float = 1.0) -> torch.Tensor:
    t = torch.arange(round(seconds * FEATURE.sample_rate)) / FEATURE.sample_rate
    return FeatureExtractor(FEATURE)(amplitude * torch.sin(2 * math.pi * frequency_hz * t))["log_bands"]


@pytest.mark.parametrize("frequency_hz", [220.0, 1000.0, 5000.0])
def test_a_tone_is_reconstructed_at_its_frequency(frequency_hz: float) -> None:
    wav = GriffinLim(FEATURE, GriffinLimConfig(iterations=8))(spectrum_of(frequency_hz)[None])[0]
    found = torch.fft.rfft(wav * torch.hann_window(len(wav))).abs()
    peak_hz = float(found.argmax()) * FEATURE.sample_rate / len(wav)
    # A band is no wider than one of 80 mels: about 700 * (10 ** (34 / 2595) - 1) Hz and growing.
    width_hz = (700 + frequency_hz) * (10 ** (2840 / 2595 / 80 * 1.2) - 1) + 22
    assert abs(peak_hz - frequency_hz) < width_hz


def test_level_follows_the_spectrum() -> None:
    vocoder = GriffinLim(FEATURE, GriffinLimConfig(iterations=8))
    loud, quiet = (vocoder(spectrum_of(1000, a)[None]).square().mean().sqrt() for a in (0.5, 0.05))
    assert float(loud / quiet) == pytest.approx(10, rel=0.1)
    assert float(loud) == pytest.approx(0.5 / math.sqrt(2), rel=0.3)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 10, 87])
def test_its_length_is_whole_hops(frames: int) -> None:
    wav = GriffinLim(FEATURE, GriffinLimConfig(iterations=1))(torch.zeros(2, FEATURE.n_bands, frames))
    assert wav.shape == (2, (frames - 1) * FEATURE.hop_length)
    assert bool(torch.isfinite(wav).all())


def test_silence_stays_silent() -> None:
    silence = FeatureExtractor(FEATURE)(torch.zeros(FEATURE.sample_rate))["log_bands"]
    # Also in half precision, as the feature table holds it.
    for spectrum in (silence, silence.half().float(), torch.full_like(silence, -100.0)):
        assert float(GriffinLim(FEATURE)(spectrum[None]).abs().max()) < 1e-5


def test_the_sound_depends_on_the_seed_and_the_callers_random_state_is_unchanged() -> None:
    vocoder, spectrum = GriffinLim(FEATURE, GriffinLimConfig(iterations=2)), spectrum_of(440)[None]
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    one, same, other = vocoder(spectrum, 5), vocoder(spectrum, 5), vocoder(spectrum, 6)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(one, same)
    assert not torch.allclose(one, other)


def test_the_sound_of_any_finite_spectrum_is_finite() -> None:
    wild = torch.full((1, FEATURE.n_bands, 20), 1e4)
    assert bool(torch.isfinite(GriffinLim(FEATURE, GriffinLimConfig(iterations=2))(wild)).all())


def test_more_iterations_are_nearer_to_the_magnitudes() -> None:
    extractor, spectrum = FeatureExtractor(FEATURE), spectrum_of(440)
    errors = []
    for n in (1, 32):
        wav = GriffinLim(FEATURE, GriffinLimConfig(iterations=n))(spectrum[None])[0]
        errors.append(
            float(
                (extractor(wav)["log_bands"].exp() - spectrum[:, : 1 + len(wav) // 256].exp()).square().mean()
            )
        )
    assert errors[1] < 0.7 * errors[0]


def test_it_equals_torchaudio_whatever_else_is_in_the_batch() -> None:
    config = GriffinLimConfig(iterations=3)
    vocoder, spectrum = (
        GriffinLim(FEATURE, config),
        torch.cat([spectrum_of(440)[None], spectrum_of(1000)[None]]),
    )
    wavs = vocoder(spectrum, seed=7)
    for one, alone in zip(wavs, spectrum, strict=True):
        mel = (alone.exp() - FEATURE.log_floor).clamp_min(0)
        torch.manual_seed(7)
        expected = torchaudio.functional.griffinlim(
            (mel.T @ vocoder.inverse.inverse).clamp_min(0).T[None],
            window=vocoder.window,
            n_fft=FEATURE.n_fft,
            hop_length=FEATURE.hop_length,
            win_length=FEATURE.n_fft,
            power=1.0,
            n_iter=config.iterations,
            momentum=config.momentum,
            length=None,
            rand_init=True,
        )[0]
        assert torch.allclose(one, expected, atol=1e-5)
