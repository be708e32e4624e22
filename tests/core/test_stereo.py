"""Parametric stereo: known mixes give known parameters, and sound made from them has the same parameters."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from melodygan_core.audio.stereo import (
    MAX_LEVEL_DIFFERENCE_DB,
    MIN_CORRELATION,
    StereoSynthesis,
    channel_powers,
    mono_parameters,
    side_gains,
    stereo_filterbank,
    stereo_parameters,
)

RATE, HOP, BANDS = 44_100, 512, 20
SECONDS = 1.5
SYNTHESIS = StereoSynthesis(RATE, HOP, BANDS)
INNER = slice(10, -10)


def noise(count: int = 2) -> Tensor:
    return 0.1 * torch.randn(count, round(SECONDS * RATE), generator=torch.Generator().manual_seed(1))


def parameters_of(stereo: Tensor) -> Tensor:
    window = torch.hann_window(4 * HOP)
    mid, side = (
        torch.stft(wav, 4 * HOP, HOP, window=window, return_complex=True).T
        for wav in ((stereo[0] + stereo[1]) / 2, (stereo[0] - stereo[1]) / 2)
    )
    filterbank = stereo_filterbank(mid.shape[1], RATE, BANDS)
    return stereo_parameters(channel_powers(mid, side, filterbank), mid.shape[1])


def level_and_correlation(stereo: Tensor) -> tuple[float, float]:
    level, correlation = parameters_of(stereo)[INNER].chunk(2, dim=1)
    return float(level.mean()) * MAX_LEVEL_DIFFERENCE_DB, float(correlation.mean())


a, b = noise()
MIXES = {
    "same": (torch.stack([a, a]), 0.0, 1.0),
    "independent": (torch.stack([a, b]), 0.0, 0.0),
    "left 6 dB louder": (torch.stack([a, a / 2]), 6.02, 1.0),
    "left only": (torch.stack([a, 0 * a]), 30.0, 1.0),
    "right only": (torch.stack([0 * a, a]), -30.0, 1.0),
    "half shared": (torch.stack([a + b, a - 0.25 * b]), 10 * math.log10(2 / 1.0625), 0.75 / math.sqrt(2.125)),
    "opposite": (torch.stack([a, -a]), 0.0, MIN_CORRELATION),
    "silence": (torch.zeros(2, len(a)), 0.0, 1.0),
}


@pytest.mark.parametrize("name", MIXES)
def test_a_known_mix_has_known_parameters(name: str) -> None:
    stereo, level_db, correlation = MIXES[name]
    measured = level_and_correlation(stereo)
    assert measured[0] == pytest.approx(level_db, abs=0.4)
    assert measured[1] == pytest.approx(correlation, abs=0.04)


@pytest.mark.parametrize("name", [n for n in MIXES if n not in ("opposite", "left only", "right only")])
def test_synthesis_gives_back_level_and_correlation(name: str) -> None:
    stereo = MIXES[name][0]
    rebuilt = SYNTHESIS(stereo.mean(dim=0), parameters_of(stereo))
    want, got = level_and_correlation(stereo), level_and_correlation(rebuilt)
    assert got[0] == pytest.approx(want[0], abs=0.3)
    assert got[1] == pytest.approx(want[1], abs=0.06)
    # The power of both channels together stays.
    assert float(rebuilt.square().mean()) == pytest.approx(float(stereo.square().mean()), rel=0.03)


@pytest.mark.parametrize("name", MIXES)
def test_the_mean_of_the_channels_is_the_mono_sound(name: str) -> None:
    stereo = MIXES[name][0]
    mono = stereo.mean(dim=0)
    rebuilt = SYNTHESIS(mono, parameters_of(stereo))
    assert rebuilt.shape == stereo.shape
    torch.testing.assert_close(rebuilt.mean(dim=0), mono, rtol=0, atol=2e-7)


def test_mono_parameters_give_two_equal_channels() -> None:
    frames = 1 + len(a) // HOP
    left, right = SYNTHESIS(a, mono_parameters(frames, BANDS))
    assert torch.equal(left, a) and torch.equal(right, a)


def test_a_steady_tone_is_panned_and_stays_one_tone() -> None:
    t = torch.arange(len(a)) / RATE
    tone = 0.3 * torch.sin(2 * math.pi * 220 * t)
    stereo = torch.stack([tone, tone / 2])
    rebuilt = SYNTHESIS(stereo.mean(dim=0), parameters_of(stereo))
    inner = slice(4096, -4096)
    levels = rebuilt[:, inner].square().mean(dim=1).sqrt()
    assert float(20 * (levels[0] / levels[1]).log10()) == pytest.approx(6.02, abs=0.1)
    torch.testing.assert_close(rebuilt[:, inner], stereo[:, inner], rtol=0, atol=0.01)


def test_wide_sound_has_no_seam_at_block_borders(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = parameters_of(torch.stack([a, b]))
    entire = SYNTHESIS(a, wanted)
    monkeypatch.setattr("melodygan_core.audio.stereo.BLOCK_FRAMES", 16)
    torch.testing.assert_close(SYNTHESIS(a, wanted), entire, rtol=0, atol=1e-6)


@pytest.mark.parametrize("samples", [1, HOP - 1, HOP, 4 * HOP + 1])
def test_any_length_keeps_its_length(samples: int) -> None:
    made = SYNTHESIS(a[:samples], parameters_of(torch.stack([a, b]))[:1])
    assert made.shape == (2, samples) and bool(made.isfinite().all())


def test_the_bands_of_a_bin_sum_to_one() -> None:
    weights = stereo_filterbank(1025, RATE, BANDS)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(1025))
    assert bool((weights.sum(dim=0) > 0).all())


@given(
    level=st.floats(-2, 2, allow_nan=False),
    correlation=st.floats(-2, 2, allow_nan=False),
)
def test_gains_give_back_level_and_correlation(level: float, correlation: float) -> None:
    along, across = side_gains(torch.tensor([level, correlation], dtype=torch.float64))
    left, right = (1 + along) ** 2 + across**2, (1 - along) ** 2 + across**2
    level_db = min(1, max(-1, level)) * MAX_LEVEL_DIFFERENCE_DB
    shared = min(1, max(MIN_CORRELATION, correlation))
    assert 10 * math.log10(left / right) == pytest.approx(level_db, abs=1e-6)
    product = float((1 + along) * (1 - along) - across**2)
    assert product / math.sqrt(left * right) == pytest.approx(shared, abs=1e-6)
