"""Losses of the neural vocoder: STFT distance, discriminators, and bands with gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from melodygan_core.config import FeatureConfig
from melodygan_core.features import FeatureExtractor
from melodygan_core.networks import adv_loss, feature_matching, hinge
from melodygan_core.vocoder.bands import LogBands
from melodygan_core.vocoder.losses import MultiResolutionDiscriminator, resolutions, stft_distance
from tests.core.made import FEATURE, OLD_FEATURE, noise

RATE = FEATURE.sample_rate


def test_the_distance_of_a_wav_to_itself_is_zero() -> None:
    assert float(stft_distance(noise(), noise(), RATE)) == 0


@pytest.mark.parametrize("gain", [0.5, 1.5, 4.0])
def test_the_distance_of_a_louder_wav_is_known(gain: float) -> None:
    # Spectral convergence is |1 - gain| and the log magnitudes are |log(gain)| apart, at every resolution.
    expected = abs(1 - gain) + abs(math.log(gain))
    assert float(stft_distance(gain * noise(), noise(), RATE)) == pytest.approx(expected, rel=1e-3)


def test_the_distance_of_two_wavs_is_that_of_numpy() -> None:
    made, real = (noise(seed=seed).double().numpy() for seed in (1, 2))

    def magnitudes(wav: np.ndarray, n_fft: int, hop: int) -> np.ndarray:
        padded = np.pad(wav, ((0, 0), (n_fft // 2, n_fft // 2)), mode="reflect")
        frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft, axis=1)[:, ::hop]
        return np.abs(np.fft.rfft(frames * np.hanning(n_fft + 1)[:-1]))

    total = 0.0
    for n_fft, hop in resolutions(RATE):
        a, b = magnitudes(made, n_fft, hop), magnitudes(real, n_fft, hop)
        total += np.linalg.norm(a - b) / np.linalg.norm(b) + np.abs(np.log(a) - np.log(b)).mean()
    found = float(stft_distance(torch.from_numpy(made).float(), torch.from_numpy(real).float(), RATE))
    assert found == pytest.approx(total / len(resolutions(RATE)), rel=1e-3)


def test_silence_has_a_gradient() -> None:
    wav = torch.zeros(1, 8000, requires_grad=True)
    stft_distance(wav, noise(batch=1)[:, :8000], RATE).backward()
    assert wav.grad is not None and bool(wav.grad.isfinite().all())


def test_adversarial_losses_are_as_computed_by_hand() -> None:
    real = [[torch.tensor([2.0, 4.0]), torch.tensor([2.0, 0.5])], [torch.ones(2), torch.tensor([-1.0, 1.0])]]
    fake = [[torch.tensor([1.0, 3.0]), torch.tensor([-2.0, 0.0])], [torch.ones(2), torch.tensor([1.0, -1.0])]]
    assert float(hinge(real, fake)) == pytest.approx(((0.25 + 0.5) + (1 + 1)) / 2)
    assert float(adv_loss(fake)) == pytest.approx((1 + 0) / 2)
    # Off by 1 where the real features are 3 on average, and by nothing; logits are no features.
    assert float(feature_matching(real, fake)) == pytest.approx((1 / 3 + 0) / 2)
    assert float(feature_matching(real, real)) == 0


def test_each_discriminator_has_a_logit_per_patch_and_gradients() -> None:
    torch.manual_seed(0)
    discriminator = MultiResolutionDiscriminator(2, RATE)
    real, fake = discriminator(noise()[:, :4096]), discriminator(torch.zeros(2, 4096))
    assert [len(output) for output in real] == [5] * len(resolutions(RATE))
    for (_, hop), output in zip(resolutions(RATE), real, strict=True):
        assert output[-1].shape[:2] == (2, 1)
        assert output[-1].shape[2] == (4096 // hop + 1) // 8
    hinge(real, fake).backward()
    for name, parameter in discriminator.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), name
        # Where as many hinges are active for real as for silence, a bias may be pulled both ways.
        assert bool(parameter.grad.any()) or name.endswith("bias"), name


def test_resolutions_have_the_same_durations_at_44_khz() -> None:
    assert resolutions(22_050) == resolutions(16_000) == ((512, 128), (1024, 256), (2048, 512))
    assert resolutions(44_100) == resolutions(48_000) == ((1024, 256), (2048, 512), (4096, 1024))


@pytest.mark.parametrize("feature", [FEATURE, OLD_FEATURE])
def test_bands_with_gradients_are_those_of_the_features(feature: FeatureConfig) -> None:
    wav = torch.cat([noise(), torch.zeros(1, noise().shape[1])]).requires_grad_(True)
    made = LogBands(feature)(wav)
    for one, expected in zip(made.detach(), wav.detach(), strict=True):
        assert torch.allclose(one, FeatureExtractor(feature)(expected)[feature.spectrum], atol=2e-3)
    made.sum().backward()
    assert wav.grad is not None and bool(wav.grad.isfinite().all())
