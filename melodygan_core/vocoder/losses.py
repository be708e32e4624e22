"""Losses of wavs: multi-resolution STFT distance, and discriminators of spectrograms."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melodygan_core.networks import DiscriminatorOutput, PatchDiscriminator
from melodygan_core.training import distributed

# n_fft and hop_length at 22,050 Hz.
_RESOLUTIONS = ((512, 128), (1024, 256), (2048, 512))
_RATE = 22_050
_EPSILON = 1e-5


def resolutions(sample_rate: int) -> tuple[tuple[int, int], ...]:
    """Returns n_fft and hop_length of each resolution: at double the rate twice as many samples."""
    factor = 2 ** max(0, round(math.log2(sample_rate / _RATE)))
    return tuple((n_fft * factor, hop_length * factor) for n_fft, hop_length in _RESOLUTIONS)


def magnitude(wav: Tensor, n_fft: int, hop_length: int, min_magnitude: float = _EPSILON) -> Tensor:
    """(batch, samples) -> STFT magnitudes (batch, n_fft // 2 + 1, frames), at least `min_magnitude`."""
    window = torch.hann_window(n_fft, device=wav.device)
    spectrum = torch.stft(wav, n_fft, hop_length, window=window, return_complex=True)
    # The gradient of abs is not defined at 0.
    return (spectrum.real.square() + spectrum.imag.square() + min_magnitude**2).sqrt()


def stft_distance(wav_hat: Tensor, wav: Tensor, sample_rate: int) -> Tensor:
    """Multi-resolution STFT distance (arXiv 1910.11480): spectral convergence + L1 of log magnitudes, averaged.

    Args:
        wav_hat: (batch, samples), generated.
        wav: (batch, samples), real.
        sample_rate: Hz.
    """
    total, sizes = wav.new_zeros(()), resolutions(sample_rate)
    for n_fft, hop_length in sizes:
        fake, real = magnitude(wav_hat, n_fft, hop_length), magnitude(wav, n_fft, hop_length)
        convergence = distributed.global_norm(real - fake) / distributed.global_norm(real).clamp_min(_EPSILON)
        total = total + convergence + F.l1_loss(fake.log(), real.log())
    return total / len(sizes)


class MultiResolutionDiscriminator(nn.Module):
    """One PatchDiscriminator of the complex STFT per resolution (after EnCodec, arXiv 2210.13438).

    Args:
        channels: Width of each discriminator's first convolution.
        sample_rate: Hz.
    """

    def __init__(self, channels: int, sample_rate: int) -> None:
        super().__init__()
        self._resolutions = resolutions(sample_rate)
        self.discriminators = nn.ModuleList(PatchDiscriminator(2, channels) for _ in self._resolutions)
        for n_fft, _ in self._resolutions:
            self.register_buffer(f"window_{n_fft}", torch.hann_window(n_fft), persistent=False)

    def forward(self, wav: Tensor) -> list[DiscriminatorOutput]:
        """(batch, samples) -> the output of each discriminator."""
        outputs = []
        for discriminator, (n_fft, hop_length) in zip(self.discriminators, self._resolutions, strict=True):
            window = self.get_buffer(f"window_{n_fft}")
            spectrum = torch.stft(
                wav, n_fft, hop_length, window=window, normalized=True, return_complex=True
            ).transpose(1, 2)
            outputs.append(discriminator(torch.stack([spectrum.real, spectrum.imag], dim=1)))
        return outputs
