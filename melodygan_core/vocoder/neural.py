"""log-mel -> wav in one pass: an initial spectrum, a network that refines it, the inverse STFT."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from melodygan_core.config import FeatureConfig, VocoderConfig
from melodygan_core.networks import ConvNeXtBlock
from melodygan_core.vocoder.phase import MAX_LOG, InitialSpectrum, pad_to_window

# Largest factor between a bin and its resynthesis, as the network sees it.
_MAX_RATIO = 4.0
# More than ten seconds at 22 or 44 kHz, in some hundred MB.
BLOCK_FRAMES = 4096


class NeuralVocoder(nn.Module):
    """log_mel -> ConvNeXt blocks -> log magnitude and phase -> inverse STFT, after Vocos (arXiv 2306.00814).

    A network that sees log-mels alone cannot hold a tone: where nothing changes, it gives every frame the same
    phase, which breaks up every frequency that is no multiple of the frame rate. So the network is given an
    initial spectrum whose phases continue from frame to frame, and the ratio of its resynthesis to it. It
    changes magnitudes and phases where the two do not agree.

    Args:
        config: Sizes.
        feature: How the log-mels were made.
    """

    window: Tensor

    def __init__(self, config: VocoderConfig, feature: FeatureConfig) -> None:
        super().__init__()
        self.config = config
        self.feature = feature
        bins = feature.n_fft // 2 + 1
        self.embed = nn.Linear(feature.n_mels + 2 * bins, config.width)
        self.norm = nn.LayerNorm(config.width)
        self.blocks = nn.Sequential(*[ConvNeXtBlock(config.width, config.kernel) for _ in range(config.blocks)])
        change = nn.Linear(config.width, 2 * bins)
        # Untrained, it makes the sound of the initial spectrum.
        nn.init.zeros_(change.weight)
        nn.init.zeros_(change.bias)
        self.head = nn.Sequential(nn.LayerNorm(config.width), change)
        self.initial_spectrum = InitialSpectrum(feature)
        # Not a weight: it has values even where a checkpoint is built on the meta device.
        with torch.device("cpu"):
            self.register_buffer("window", torch.hann_window(feature.n_fft), persistent=False)

    @torch.no_grad()
    def consistency_ratio(self, spectrum: Tensor) -> Tensor:
        """STFT of the resynthesis of a spectrum over that spectrum: complex, 1 where they agree.

        Args:
            spectrum: Complex (batch, n_fft // 2 + 1, frames).
        """
        f = self.feature
        wav = torch.istft(spectrum, f.n_fft, f.hop_length, window=self.window)
        resynthesis = torch.stft(wav, f.n_fft, f.hop_length, window=self.window, return_complex=True)
        ratio = resynthesis / spectrum
        return ratio * (_MAX_RATIO / ratio.abs().clamp_min(_MAX_RATIO))

    def refine(self, log_mel: Tensor, magnitude: Tensor, phase: Tensor) -> Tensor:
        """The initial spectrum with the network's changes: complex (batch, n_fft // 2 + 1, frames)."""
        ratio = self.consistency_ratio(torch.polar(magnitude, phase))
        inputs = torch.cat([log_mel, ratio.real, ratio.imag], dim=1).transpose(1, 2)
        change = self.head(self.blocks(self.norm(self.embed(inputs))))
        d_log_mag, d_phase = change.transpose(1, 2).float().chunk(2, dim=1)
        return torch.polar((magnitude.log() + d_log_mag).clamp(max=MAX_LOG).exp(), phase + d_phase)

    def forward(self, log_mel: Tensor, block_frames: int = BLOCK_FRAMES, phase: Tensor | None = None) -> Tensor:
        """Makes sound; long log-mels are processed in blocks, so that memory does not grow with them.

        Args:
            log_mel: (batch, n_mels, frames), natural log.
            block_frames: Frames per block; the sound is the same but for rounding.
            phase: (batch, n_fft // 2 + 1, frames) initial phases of `pad_to_window(log_mel)`, if they are known
                already. They are computed on the CPU, for which a GPU waits.

        Returns:
            wav (batch, (frames - 1) * hop_length)
        """
        f, frames = self.feature, log_mel.shape[2]
        log_mel = pad_to_window(log_mel, f)
        # What a block needs of its neighbours: two windows' overlaps, and the network's receptive field.
        overlap = f.n_fft // f.hop_length
        context = 2 * overlap + self.config.blocks * (self.config.kernel // 2)
        last, before, wavs = log_mel.shape[2], None, []
        for start in range(0, last, block_frames):
            end = min(start + block_frames, last)
            first = max(0, start - context)
            block = log_mel[:, :, first : end + context]
            if phase is not None:
                block_magnitude = self.initial_spectrum.magnitude(block)
                block_phase = phase[:, :, first : end + context]
            else:
                block_magnitude, block_phase = self.initial_spectrum(block, before)
                before = block_phase[:, :, end - context - 1 - first] if end - context > 0 else None
            wide = max(0, start - overlap) - first
            spectrum = self.refine(block, block_magnitude, block_phase)[:, :, wide : end + overlap - first]
            wav = torch.istft(spectrum, f.n_fft, f.hop_length, window=self.window)
            skipped = (start - first - wide) * f.hop_length
            wavs.append(wav[:, skipped : skipped + (end - start) * f.hop_length])
        return torch.cat(wavs, dim=1)[:, : (frames - 1) * f.hop_length]
