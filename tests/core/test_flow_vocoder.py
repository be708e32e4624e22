"""The flow vocoder on known sound: its spectra, the solver, the model, what it learns."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from melodygan_core.config import FeatureConfig, FlowVocoderConfig, replace
from melodygan_core.networks import random_times, solve
from melodygan_core.vocoder import FlowVocoder, NeuralVocoder
from melodygan_core.vocoder.bands import LogBands
from melodygan_core.vocoder.flow.model import WaveformFlow, likeliest_end
from melodygan_core.vocoder.flow.spectra import MatchBands, Residual, compress, expand, local_mean, stft_of
from melodygan_core.vocoder.flow.task import MIN_NOISE
from tests.core.made import FEATURE, FLOW_VOCODER, VOCODER, noise

WINDOW = torch.hann_window(FEATURE.n_fft)


def model(
    *, steps: int = 1, noise: float = 1.0, std: float = 0.0, feature: FeatureConfig = FEATURE
) -> FlowVocoder:
    """A flow vocoder; untrained, or with a network that makes changes of about `std`."""
    torch.manual_seed(0)
    config = replace(FLOW_VOCODER, steps=steps, noise=noise)
    made = FlowVocoder(NeuralVocoder(VOCODER, feature), WaveformFlow(config, feature)).eval()
    made.flow.noise_std.fill_(0.3)
    if std:
        torch.nn.init.normal_(made.flow.change.weight, std=std)
    return made.requires_grad_(False)


def tones(seconds: float = 0.6, count: int = 3, seed: int = 0) -> Tensor:
    """Sums of steady tones (count, samples), whole hops."""
    rng = torch.Generator().manual_seed(seed)
    hops = round(seconds * FEATURE.frame_rate)
    t = torch.arange(hops * FEATURE.hop_length) / FEATURE.sample_rate
    hz = 100 + 2000 * torch.rand(count, 4, 1, generator=rng)
    phase = 2 * math.pi * torch.rand(count, 4, 1, generator=rng)
    return (0.1 * torch.sin(2 * math.pi * hz * t + phase)).sum(dim=1)


def rms(wav: Tensor) -> float:
    return float(wav.square().mean().sqrt())


# Spectra.


def test_compression_takes_a_power_of_magnitudes_and_is_undone() -> None:
    stft = stft_of(noise(), FEATURE, WINDOW)
    torch.testing.assert_close(expand(compress(stft)), stft, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(compress(stft).abs(), stft.abs() ** 0.3)
    assert bool((compress(torch.zeros_like(stft)) == 0).all())


def test_a_local_mean_counts_what_is_there_alone() -> None:
    one = torch.zeros(1, 20, 12)
    one[0, 10, 6] = 45.0
    found = local_mean(one)
    assert float(found[0, 10, 6]) == pytest.approx(1.0)
    assert int((found > 0).sum()) == 9 * 5
    torch.testing.assert_close(local_mean(torch.ones(1, 20, 12)), torch.ones(1, 20, 12))


def magnitudes(wav: Tensor) -> Tensor:
    return compress(stft_of(wav, FEATURE, WINDOW)).abs()


def test_a_residual_is_undone() -> None:
    first, other = magnitudes(noise()), magnitudes(noise(seed=1))
    residual = Residual(first, torch.full((first.shape[1],), 0.3))
    torch.testing.assert_close(residual.absolute(residual.relative(other)), other, rtol=1e-3, atol=1e-4)
    least = residual.absolute(torch.full_like(other, -1e3))
    assert float(least.min()) > 0 and float(least.max()) < 0.01


def test_a_residual_is_the_same_at_every_level() -> None:
    stds = torch.full((FEATURE.n_fft // 2 + 1,), 0.3)
    loud = Residual(magnitudes(noise()), stds).relative(magnitudes(noise(seed=1)))
    quiet = Residual(magnitudes(1e-3 * noise()), stds).relative(magnitudes(1e-3 * noise(seed=1)))
    torch.testing.assert_close(quiet, loud, rtol=1e-2, atol=1e-2)


def test_gains_bring_bands_to_given_ones() -> None:
    match, wav = MatchBands(FEATURE), noise()
    stft, bands = stft_of(wav, FEATURE, WINDOW), LogBands(FEATURE)(wav)
    torch.testing.assert_close(match(stft, bands), stft, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(match(0.5 * stft, bands)[:, 5:-5], stft[:, 5:-5], rtol=1e-2, atol=1e-2)
    # At most 12 dB at once, and nothing of nothing.
    torch.testing.assert_close(match(0.1 * stft, bands)[:, 5:-5], 0.4 * stft[:, 5:-5], rtol=1e-2, atol=1e-2)
    assert bool((match(torch.zeros_like(stft), bands) == 0).all())


def noise_like(wav: Tensor, seed: int) -> Tensor:
    return torch.randn(wav.shape, generator=torch.Generator().manual_seed(seed))


# The solver.


@pytest.mark.parametrize("steps", [1, 3, 6])
def test_the_solver_ends_at_the_prediction_and_projects_between_steps(steps: int) -> None:
    times: list[float] = []
    projected: list[float] = []

    def predict(x: Tensor, time: Tensor) -> Tensor:
        times.append(float(time[0]))
        return torch.full_like(x, 2.0)

    def project(x: Tensor) -> Tensor:
        projected.append(float(x[0]))
        return x

    found = solve(predict, torch.zeros(2), steps, project)
    torch.testing.assert_close(found, torch.full((2,), 2.0))
    assert times == pytest.approx([k / steps for k in range(steps)])
    assert projected == pytest.approx([2.0 * k / steps for k in range(1, steps)])


def test_the_likeliest_end_of_a_normal_one_has_the_smallest_error() -> None:
    rng = torch.Generator().manual_seed(0)
    drawn, start = (torch.randn(1, 1, 50_000, generator=rng) for _ in range(2))
    mean, variance = 0.7, 0.25
    true = mean + 0.5 * drawn
    for time in (0.0, 0.3, 0.8):
        x, at = torch.lerp(start, true, time), torch.tensor([time])
        errors = [
            float((likeliest_end(x, at, mean + d, variance * v) - true).square().mean())
            for d, v in ((0.0, 1.0), (0.2, 1.0), (-0.2, 1.0), (0.0, 3.0), (0.0, 0.3))
        ]
        assert errors[0] <= min(errors) + 1e-4
        # The expected error of a product of two normal densities.
        known = (1 - time) ** 2 * variance / ((1 - time) ** 2 + time**2 * variance)
        assert errors[0] == pytest.approx(known, rel=0.03)


def test_times_lie_within_the_flow() -> None:
    times = random_times(1000, np.random.default_rng(0))
    assert times.dtype == torch.float32
    assert 0 < float(times.min()) < 0.2 and 0.8 < float(times.max()) < 1
    assert float(times.median()) == pytest.approx(0.5, abs=0.05)


# The model.


def test_an_untrained_flow_leaves_the_magnitudes_of_the_neural_vocoder_in_one_step() -> None:
    wav = tones()
    stft = stft_of(wav, FEATURE, WINDOW)
    refined = model().refine(wav, LogBands(FEATURE)(wav), torch.randn_like(wav))
    torch.testing.assert_close(refined, stft, rtol=1e-2, atol=1e-2)


def test_the_sound_is_nearer_to_the_bands_than_that_of_the_neural_vocoder() -> None:
    untrained, bands_of = model(steps=3, noise=0.0), LogBands(FEATURE)
    bands = bands_of(noise(1.0))
    before, after = (float((bands_of(v(bands)) - bands).abs().mean()) for v in (untrained.neural, untrained))
    assert after < 0.8 * before


@pytest.mark.parametrize("steps", [1, 4])
def test_silence_stays_silent(steps: int) -> None:
    wav = torch.zeros(2, 40 * FEATURE.hop_length)
    changed = model(steps=steps, std=0.5)
    bands, white = changed.log_bands(wav), noise(40 * FEATURE.hop_length / FEATURE.sample_rate)
    stft = changed.refine(wav, bands, white)
    assert float(stft.abs().max()) < 1e-6
    # The same network changes what sounds.
    loud = noise(40 * FEATURE.hop_length / FEATURE.sample_rate, seed=1)
    refined = changed.refine(loud, changed.log_bands(loud), white)
    before = stft_of(loud, FEATURE, WINDOW)
    assert float((refined - before).abs().mean()) > 0.1 * float(before.abs().mean())


@pytest.mark.parametrize("steps", [1, 4])
def test_a_perfect_sound_is_kept(steps: int) -> None:
    """Where the neural vocoder made no error, nothing is added, whatever the network says."""
    wav = tones(count=2)
    made = model(steps=steps, std=0.1)
    made.flow.noise_std.fill_(MIN_NOISE)
    stft = made.refine(wav, made.log_bands(wav), noise(wav.shape[1] / FEATURE.sample_rate))
    again = torch.istft(stft, FEATURE.n_fft, FEATURE.hop_length, window=WINDOW)
    assert rms(again - wav) < 0.02 * rms(wav)


@pytest.mark.parametrize("frames", [2, 3, 10, 87])
def test_a_wav_of_any_length_has_whole_hops(frames: int) -> None:
    wav = model(steps=2, std=0.1)(torch.zeros(2, FEATURE.n_bands, frames))
    assert wav.shape == (2, (frames - 1) * FEATURE.hop_length)
    assert bool(wav.isfinite().all())


@pytest.mark.parametrize("value", [-30.0, 1e4])
def test_the_sound_of_any_finite_spectrum_is_finite(value: float) -> None:
    assert bool(model(steps=2, std=0.1)(torch.full((1, FEATURE.n_bands, 20), value)).isfinite().all())


@pytest.mark.parametrize(("steps", "block_frames"), [(1, 16), (3, 50), (3, 199)])
def test_long_sound_made_in_blocks_is_the_same(steps: int, block_frames: int) -> None:
    changed = model(steps=steps, std=0.1)
    bands = LogBands(FEATURE)(noise(200 * FEATURE.hop_length / FEATURE.sample_rate))
    wav, in_blocks = changed(bands), changed(bands, block_frames=block_frames)
    assert in_blocks.shape == wav.shape
    assert torch.allclose(in_blocks, wav, atol=2e-3 * float(wav.abs().max()))


def test_a_longer_piece_begins_as_a_shorter_one_and_the_seed_changes_it() -> None:
    changed, bands = model(steps=2, std=0.1), LogBands(FEATURE)(noise(2.0))
    entire, part = changed(bands, seed=[3, 4]), changed(bands[:, :, :120], seed=[3, 4])
    inner = (120 - 60) * FEATURE.hop_length
    torch.testing.assert_close(entire[:, :inner], part[:, :inner], atol=1e-3, rtol=1e-3)
    alone = changed(bands[1:], seed=4)
    torch.testing.assert_close(alone, entire[1:], atol=1e-4, rtol=1e-3)
    assert float((changed(bands[1:], seed=5) - alone).abs().mean()) > 1e-3


def test_training_reduces_the_error_of_tones() -> None:
    """First sounds with tones between the bands' bins too loud; the error falls by more than half."""
    learned = model()
    learned.flow.requires_grad_(True).train()
    optimizer = torch.optim.Adam(learned.flow.parameters(), lr=3e-3)
    tilt = torch.ones(FEATURE.n_fft // 2 + 1, 1)
    tilt[FEATURE.n_fft // 44 :] = 0.25

    def problem(seed: int) -> tuple[Residual, Tensor, Tensor, Tensor]:
        wav = tones(0.3, 6, seed)
        stft = tilt * stft_of(wav, FEATURE, WINDOW)
        first_wav = torch.istft(stft, FEATURE.n_fft, FEATURE.hop_length, window=WINDOW)
        residual = Residual(magnitudes(first_wav), learned.flow.noise_std)
        conditions = learned.conditions(learned.log_bands(wav), first_wav)
        start = learned.noise_of(noise_like(wav, seed), stft_of(first_wav, FEATURE, WINDOW))
        return residual, conditions, start, residual.relative(magnitudes(wav))

    def error(seed: int) -> tuple[Tensor, Tensor]:
        residual, conditions, start, true = problem(seed)
        predicted = learned.flow(start, torch.zeros(len(start)), residual, conditions)
        return (residual.unit * (predicted - true)).square().mean(), (residual.unit * true).square().mean()

    for step in range(40):
        loss, _ = error(step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        after, before = error(1000)
    assert float(after) < 0.5 * float(before)


def test_the_defaults_take_few_steps() -> None:
    assert 1 <= FlowVocoderConfig().steps <= 6
