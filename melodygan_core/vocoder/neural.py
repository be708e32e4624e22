"""log-mel -> wav in one pass: a first guess at the spectrum, a network that mends it, the inverse STFT."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melodygan_core.config import FeatureConfig, VocoderConfig
from melodygan_core.features import mel_filterbank
from melodygan_core.networks import ConvNeXtBlock
from melodygan_core.vocoder.phase import single_pass_phase

# exp of it is above any magnitude of a wav in [-1, 1].
_MAX_LOG = 10.0
_EPSILON = 1e-4
# How much louder than guessed a bin may come back from sound, as the network sees it.
_MAX_RATIO = 4.0
# Ten seconds and more of 22 or 44 kHz, at some hundred MB.
BLOCK_FRAMES = 4096


class NeuralVocoder(nn.Module):
    """log_mel -> ConvNeXt blocks -> log magnitude and phase -> inverse STFT, after Vocos (arXiv 2306.00814).

    A network that sees log-mels alone cannot hold a tone: where nothing changes its phase is the same in every
    frame, and whatever is no multiple of the frame rate is broken up. So the network is given a guess that goes
    on from frame to frame (pseudo-inverse of the mel filterbank, single-pass phase), and how that comes back
    from an inverse and a forward STFT; it changes magnitudes and phases where they do not agree with another.

    Args:
        config: Sizes.
        feature: How the log-mels were made.
    """

    window: Tensor
    inverse: Tensor

    def __init__(self, config: VocoderConfig, feature: FeatureConfig) -> None:
        super().__init__()
        self.config = config
        self.feature = feature
        bins = feature.n_fft // 2 + 1
        self.embed = nn.Linear(feature.n_mels + 2 * bins, config.width)
        self.norm = nn.LayerNorm(config.width)
        self.blocks = nn.Sequential(*[ConvNeXtBlock(config.width, config.kernel) for _ in range(config.blocks)])
        change = nn.Linear(config.width, 2 * bins)
        # Untrained, it makes the sound of the guess.
        nn.init.zeros_(change.weight)
        nn.init.zeros_(change.bias)
        self.head = nn.Sequential(nn.LayerNorm(config.width), change)
        # No weights: they have values even where a checkpoint's sizes are tried on the meta device.
        with torch.device("cpu"):
            self.register_buffer("window", torch.hann_window(feature.n_fft), persistent=False)
            self.register_buffer("inverse", torch.linalg.pinv(mel_filterbank(feature)), persistent=False)

    @torch.no_grad()
    def initial_spectrum(self, log_mel: Tensor, before: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """log_mel (batch, n_mels, frames) -> magnitude and phase, each (batch, n_fft // 2 + 1, frames).

        Args:
            log_mel: Natural log.
            before: Phases of the frame before the first, see single_pass_phase.
        """
        mel = (log_mel.clamp(max=_MAX_LOG).exp() - self.feature.log_floor).clamp_min(0)
        magnitude = (mel.transpose(1, 2) @ self.inverse).clamp_min(_EPSILON).transpose(1, 2)
        return magnitude, single_pass_phase(magnitude, self.feature.hop_length, before)

    @torch.no_grad()
    def consistency_ratio(self, guessed: Tensor) -> Tensor:
        """Where and how far sound made of a guessed spectrum has another one: complex ratio, 1 for nowhere."""
        f = self.feature
        wav = torch.istft(guessed, f.n_fft, f.hop_length, window=self.window)
        again = torch.stft(wav, f.n_fft, f.hop_length, window=self.window, return_complex=True)
        ratio = again / guessed
        return ratio * (_MAX_RATIO / ratio.abs().clamp_min(_MAX_RATIO))

    def refine(self, log_mel: Tensor, magnitude: Tensor, phase: Tensor) -> Tensor:
        """A guess as the network changes it: complex STFT (batch, n_fft // 2 + 1, frames)."""
        ratio = self.consistency_ratio(torch.polar(magnitude, phase))
        seen = torch.cat([log_mel, ratio.real, ratio.imag], dim=1).transpose(1, 2)
        change = self.head(self.blocks(self.norm(self.embed(seen))))
        d_log_mag, d_phase = change.transpose(1, 2).float().chunk(2, dim=1)
        return torch.polar((magnitude.log() + d_log_mag).clamp(max=_MAX_LOG).exp(), phase + d_phase)

    def forward(self, log_mel: Tensor, block_frames: int = BLOCK_FRAMES) -> Tensor:
        """Makes sound; of long log-mels block by block, so that memory does not grow with them.

        Args:
            log_mel: (batch, n_mels, frames), natural log.
            block_frames: Frames at once; the sound is the same but for rounding.

        Returns:
            wav (batch, (frames - 1) * hop_length)
        """
        f, frames = self.feature, log_mel.shape[2]
        # The STFT reflects half a window: what is shorter gets silence behind it, which is cut off again.
        fewest = f.n_fft // (2 * f.hop_length) + 2
        log_mel = F.pad(log_mel, (0, max(0, fewest - frames)), value=math.log(f.log_floor))
        # What a block needs of its neighbours: two windows' overlaps, and what the network sees.
        overlap = f.n_fft // f.hop_length
        context = 2 * overlap + self.config.blocks * (self.config.kernel // 2)
        last, before, parts = log_mel.shape[2], None, []
        for start in range(0, last, block_frames):
            end = min(start + block_frames, last)
            first = max(0, start - context)
            part = log_mel[:, :, first : end + context]
            magnitude, phase = self.initial_spectrum(part, before)
            before = phase[:, :, end - context - 1 - first] if end - context > 0 else None
            wide = max(0, start - overlap) - first
            spectrum = self.refine(part, magnitude, phase)[:, :, wide : end + overlap - first]
            wav = torch.istft(spectrum, f.n_fft, f.hop_length, window=self.window)
            skipped = (start - first - wide) * f.hop_length
            parts.append(wav[:, skipped : skipped + (end - start) * f.hop_length])
        return torch.cat(parts, dim=1)[:, : (frames - 1) * f.hop_length]
