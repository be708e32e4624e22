"""Single-pass phases of a magnitude spectrogram."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from melodygan_core.config import FeatureConfig
from melodygan_core.features import FeatureExtractor
from melodygan_core.vocoder.phase import InitialSpectrum, single_pass_phase
from tests.core.made import FEATURE, OLD_FEATURE, noise

RATE, N_FFT, HOP = 22_050, 1024, 256
WINDOW = torch.hann_window(N_FFT)


def magnitudes(wav: Tensor) -> Tensor:
    return torch.stft(wav, N_FFT, HOP, window=WINDOW, return_complex=True).abs()


def resynthesis(wav: Tensor) -> Tensor:
    magnitude = magnitudes(wav)
    return torch.istft(torch.polar(magnitude, single_pass_phase(magnitude, HOP)), N_FFT, HOP, window=WINDOW)


def tone(hz: float, seconds: float = 1.0) -> Tensor:
    return 0.5 * torch.sin(2 * math.pi * hz * torch.arange(round(seconds * RATE)) / RATE)[None]


@pytest.mark.parametrize("hz", [110.0, 440.0, 987.3, 5002.7])
def test_a_tone_is_held_at_its_pitch_between_the_bins_and_between_frames(hz: float) -> None:
    made = resynthesis(tone(hz))[0, N_FFT:-N_FFT]
    t = torch.arange(len(made)) / RATE
    # The best sine near this pitch: how much of the energy is it?
    shares = {}
    for near in torch.linspace(hz - 3, hz + 3, 61).tolist():
        basis = torch.stack([torch.sin(2 * math.pi * near * t), torch.cos(2 * math.pi * near * t)], dim=1)
        fit = basis @ torch.linalg.lstsq(basis, made[:, None]).solution
        shares[near] = float(fit.square().sum() / made.square().sum())
    best = max(shares, key=lambda k: shares[k])
    assert abs(best - hz) < 1.5
    assert shares[best] > 0.95
    assert float(made.square().mean().sqrt()) == pytest.approx(0.5 / math.sqrt(2), rel=0.1)


def test_the_same_phase_in_every_frame_would_not_hold_it() -> None:
    magnitude = magnitudes(tone(987.3))
    constant = torch.istft(torch.polar(magnitude, torch.zeros_like(magnitude)), N_FFT, HOP, window=WINDOW)
    held, broken = (
        float((magnitudes(wav) - magnitude[..., : magnitudes(wav).shape[2]]).norm() / magnitude.norm())
        for wav in (resynthesis(tone(987.3)), constant)
    )
    assert held < 0.2
    assert broken > 0.8


def test_later_frames_do_not_change_earlier_phases() -> None:
    magnitude = torch.rand(2, N_FFT // 2 + 1, 40, generator=torch.Generator().manual_seed(0))
    assert torch.equal(single_pass_phase(magnitude, HOP)[..., :25], single_pass_phase(magnitude[..., :25], HOP))


@pytest.mark.parametrize("frames", [1, 2, 9])
def test_silence_has_some_phase(frames: int) -> None:
    phase = single_pass_phase(torch.zeros(1, N_FFT // 2 + 1, frames), HOP)
    assert phase.shape == (1, N_FFT // 2 + 1, frames)
    assert bool(((phase >= 0) & (phase <= 2 * math.pi + 1e-6)).all())


def test_phases_of_log_bands_are_made_consistent_and_those_of_mels_stay() -> None:
    def inconsistency(feature: FeatureConfig, iterations: int) -> float:
        """How far the STFT of the resynthesis is from the STFT, relative to it."""
        made = InitialSpectrum(feature)
        made.iterations = iterations
        stft = made.consistent(*made(spectrum_of(feature)))
        wav = torch.istft(stft, feature.n_fft, feature.hop_length, window=made.window)
        again = torch.stft(wav, feature.n_fft, feature.hop_length, window=made.window, return_complex=True)
        return float((again - stft).norm() / stft.norm())

    def spectrum_of(feature: FeatureConfig) -> torch.Tensor:
        return FeatureExtractor(feature)(noise(1.0, batch=1)[0])[feature.spectrum][None]

    errors = [inconsistency(FEATURE, k) for k in (0, 1, 2)]
    assert errors[2] < errors[1] < 0.9 * errors[0]
    assert InitialSpectrum(FEATURE).iterations == 1
    old = InitialSpectrum(OLD_FEATURE)
    magnitude, tracked = old(spectrum_of(OLD_FEATURE))
    assert torch.equal(old.consistent(magnitude, tracked), torch.polar(magnitude, tracked))


def test_a_bin_whose_resynthesis_is_zero_keeps_its_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise its STFT would be zero, and what is divided by it not a number."""
    made, stft = InitialSpectrum(FEATURE), torch.stft
    magnitude = 0.1 + torch.rand(1, N_FFT // 2 + 1, 12, generator=torch.Generator().manual_seed(0))
    phase = single_pass_phase(magnitude, HOP)

    def with_a_zero(*args: Any, **kwargs: Any) -> Tensor:
        found = stft(*args, **kwargs)
        found[:, 40, 5] = 0
        return found

    monkeypatch.setattr(torch, "stft", with_a_zero)
    found = made.consistent(magnitude, phase)
    torch.testing.assert_close(found.abs(), magnitude)
    torch.testing.assert_close(found[:, 40, 5], torch.polar(magnitude, phase)[:, 40, 5])
