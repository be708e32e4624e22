"""What an exported release computes by numpy: equal to torch's, value by value."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from melodygan_core.audio import stereo as torch_stereo
from melodygan_core.config import STEREO_BANDS, GriffinLimConfig, TemporalGanConfig
from melodygan_core.export.runtime import codec, noise, phase, stereo, stft, vocoder
from melodygan_core.export.runtime.torch_random import TorchRandom
from melodygan_core.features import MAX_LOG
from melodygan_core.prior.gan import layers
from melodygan_core.vocoder import GriffinLim, NeuralVocoder, blocks, neural
from melodygan_core.vocoder import phase as torch_phase
from tests.core.made import FEATURE, VOCODER

N_FFT, HOP = 1024, 256
RATE = FEATURE.sample_rate


@pytest.fixture(scope="module")
def wav() -> NDArray[np.float32]:
    """Two tones, one of which rises, and noise: 3 s."""
    t = np.arange(3 * RATE) / RATE
    rng = np.random.default_rng(0)
    tones = 0.3 * np.sin(2 * np.pi * 440 * t) + 0.2 * np.sin(2 * np.pi * (300 + 50 * t) * t)
    return (tones + 0.02 * rng.standard_normal(len(t))).astype(np.float32)


def torch_stft(wav: NDArray[np.float32]) -> torch.Tensor:
    window = torch.hann_window(N_FFT)
    return torch.stft(torch.from_numpy(wav), N_FFT, HOP, window=window, return_complex=True)


# Random numbers.


@pytest.mark.parametrize("seed", [0, 5, 2**40 + 3, 2**63 - 1])
def test_random_numbers_are_those_of_torch(seed: int) -> None:
    """Counts below 16 come one by one, others in blocks of 16 whose last one may overlap."""
    ours, rng = TorchRandom(seed), torch.Generator().manual_seed(seed)
    for count in (64, 7, 16, 3, 33, 20, 1, 1000):
        np.testing.assert_allclose(ours.randn(count), torch.randn(count, generator=rng).numpy(), atol=1e-6)
        np.testing.assert_array_equal(ours.rand(count), torch.rand(count, generator=rng).numpy())
    drawn = torch.randn((4, 6, 3), generator=rng).numpy()
    np.testing.assert_allclose(ours.randn(4, 6, 3), drawn, atol=1e-6)


@pytest.mark.parametrize("limit", [0.0, 0.7, 2.5])
def test_truncated_noise_is_that_of_the_priors(limit: float) -> None:
    """With 0.7 half of the values are drawn again, in blocks and then one by one."""
    expected = layers.truncated_noise((50, 3), limit, torch.Generator().manual_seed(4)).numpy()
    found = noise.truncated_noise(TorchRandom(4), limit, 50, 3)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert not limit or np.abs(found).max() <= limit


@pytest.mark.parametrize("tokens", [1, 8, 77])
def test_the_noise_of_a_piece_is_that_of_the_prior(tokens: int) -> None:
    config = TemporalGanConfig(patch_tokens=8, style_dim=20, global_dim=5, local_dim=3, anchor_patches=2)
    expected = layers.piece_noise(config, tokens, 11, 2.0).numpy()
    found = noise.piece_noise(config, tokens, 11, 2.0)
    np.testing.assert_allclose(found, expected, atol=2e-6)


# Spectra and phases.


def test_stft_and_its_inverse_are_those_of_torch(wav: NDArray[np.float32]) -> None:
    expected = torch_stft(wav)
    found = stft.stft(wav, N_FFT, HOP)
    np.testing.assert_allclose(found, expected.numpy().T, atol=1e-4)
    back = torch.istft(expected, N_FFT, HOP, window=torch.hann_window(N_FFT)).numpy()
    np.testing.assert_allclose(stft.istft(found, N_FFT, HOP), back, atol=1e-5)


def test_overlap_add_takes_hops_that_do_not_divide_a_frame() -> None:
    np.testing.assert_array_equal(stft.overlap_add(np.ones((3, 5), np.float32), 2), [1, 1, 2, 2, 3, 2, 2, 1, 1])


def test_zero_has_no_direction() -> None:
    np.testing.assert_allclose(stft.sgn(np.array([0, 3 + 4j, -2j], np.complex64)), [0, 0.6 + 0.8j, -1j])


def test_tracked_phases_are_those_of_the_vocoder(wav: NDArray[np.float32]) -> None:
    magnitude = torch_stft(wav).abs()
    magnitude[:, 20:24] = 0
    expected = torch_phase.single_pass_phase(magnitude[None], HOP)[0].numpy().T
    found = phase.single_pass_phase(np.ascontiguousarray(magnitude.numpy().T), HOP)
    # As directions: 0 and 2 pi are the same.
    np.testing.assert_allclose(np.exp(1j * found), np.exp(1j * expected), atol=1e-3)
    rest = phase.single_pass_phase(np.ascontiguousarray(magnitude.numpy().T)[100:], HOP, found[99])
    np.testing.assert_allclose(np.exp(1j * rest), np.exp(1j * found[100:]), atol=1e-3)


# Stereo.


def test_constants_are_those_of_the_modules_that_need_torch() -> None:
    """The runtime cannot import them."""
    assert stereo.SMOOTHED_FRAMES == torch_stereo.SMOOTHED_FRAMES
    assert stereo.MAX_LEVEL_DIFFERENCE_DB == torch_stereo.MAX_LEVEL_DIFFERENCE_DB
    assert stereo.MIN_CORRELATION == torch_stereo.MIN_CORRELATION
    assert stereo.DECORRELATION_S == torch_stereo._DECORRELATION_S
    assert vocoder.MAX_LOG == MAX_LOG
    assert vocoder.BLOCK_VALUES == blocks.BLOCK_VALUES
    assert vocoder.MAX_RATIO == neural._MAX_RATIO
    assert vocoder.MIN_MAGNITUDE == torch_phase._MIN_MAGNITUDE


@pytest.mark.parametrize("samples", [3 * RATE, 700])
def test_stereo_sound_is_that_of_torch(wav: NDArray[np.float32], samples: int) -> None:
    rng, frames = np.random.default_rng(1), samples // HOP + 1
    level, correlation = (
        rng.uniform(-1.1, 1.1, (frames, STEREO_BANDS)),
        rng.uniform(-0.8, 1, (frames, STEREO_BANDS)),
    )
    parameters = np.concatenate([level, correlation], axis=1).astype(np.float32)
    synthesis = torch_stereo.StereoSynthesis(RATE, HOP, STEREO_BANDS)
    expected = synthesis(torch.from_numpy(wav[:samples]), torch.from_numpy(parameters)).numpy()
    found = stereo.stereo_sound(wav[:samples], parameters, RATE, HOP)
    np.testing.assert_allclose(found, expected, atol=1e-5)


# Vocoders, with torch's networks in place of onnxruntime's.


def as_network(function: object) -> vocoder.Network:
    def network(*values: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad():
            return function(*(torch.from_numpy(v) for v in values)).numpy()  # type: ignore[operator]

    return network


@pytest.mark.parametrize("frames", [1, 40, 2600])
def test_the_neural_vocoder_makes_the_sound_of_torch(frames: int) -> None:
    """2600 frames are more than one block."""
    torch.manual_seed(0)
    model = NeuralVocoder(VOCODER, FEATURE).eval()
    for value in model.head.parameters():
        torch.nn.init.normal_(value, std=0.05)
    spectrum = torch.randn(1, FEATURE.n_bands, frames) - 1
    with torch.no_grad():
        expected = model(spectrum)[0].numpy()
    magnitude = as_network(lambda x: model.initial_spectrum.magnitude(x.transpose(1, 2)).transpose(1, 2))
    iterations, reach = model.initial_spectrum.iterations, VOCODER.blocks * (VOCODER.kernel // 2)
    ours = vocoder.NeuralVocoder(FEATURE, iterations, reach, magnitude, as_network(model.change))
    found = ours(np.ascontiguousarray(spectrum[0].numpy().T))
    assert found.shape == expected.shape == ((frames - 1) * FEATURE.hop_length,)
    if frames > 1:
        assert np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2)) < 1e-3


def test_griffin_lim_makes_the_sound_of_torch() -> None:
    config = GriffinLimConfig(iterations=6)
    model, spectrum = GriffinLim(FEATURE, config), torch.randn(1, FEATURE.n_bands, 50)
    expected = model(spectrum, 5)[0].numpy()
    magnitude = as_network(lambda x: model.inverse(x.transpose(1, 2)).transpose(1, 2))
    found = vocoder.GriffinLim(FEATURE, config, magnitude)(np.ascontiguousarray(spectrum[0].numpy().T), 5)
    assert np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2)) < 1e-3


def test_segments_fade_into_each_other_at_a_constant_level() -> None:
    made = codec._crossfade(np.full((3, 2, 8), np.log(0.5), np.float32), 2, 19)
    assert made.shape == (2, 19)
    np.testing.assert_allclose(np.exp(made), 0.5, rtol=1e-6)
