"""Spectrum -> wav in one pass: an initial spectrum, a network that refines it, the inverse STFT."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from melodygan_core.config import FeatureConfig, VocoderConfig
from melodygan_core.features import MAX_LOG
from melodygan_core.networks import ConvNeXtBlock
from melodygan_core.vocoder.blocks import block_wav, blocks
from melodygan_core.vocoder.phase import InitialSpectrum, pad_to_window

# Largest factor between a bin and its resynthesis, as the network sees it.
_MAX_RATIO = 4.0


class NeuralVocoder(nn.Module):
    """spectrum -> ConvNeXt blocks -> log magnitude and phase -> inverse STFT, after Vocos (arXiv 2306.00814).

    A network that sees bands alone cannot hold a tone: where nothing changes, it gives every frame the same
    phase, which breaks up every frequency that is no multiple of the frame rate. So the network is given an
    initial spectrum whose phases continue from frame to frame, and the ratio of its resynthesis to it. It
    changes magnitudes and phases where the two do not agree.

    Args:
        config: Sizes.
        feature: How the spectra were made.
    """

    window: Tensor

    def __init__(self, config: VocoderConfig, feature: FeatureConfig) -> None:
        super().__init__()
        self.config = config
        self.feature = feature
        bins = feature.n_fft // 2 + 1
        self.embed = nn.Linear(feature.n_bands + 2 * bins, config.width)
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
    def consistency_ratio(self, stft: Tensor) -> Tensor:
        """STFT of the resynthesis of an STFT over that STFT: complex, 1 where they agree.

        Args:
            stft: Complex (batch, n_fft // 2 + 1, frames).
        """
        f = self.feature
        wav = torch.istft(stft, f.n_fft, f.hop_length, window=self.window)
        resynthesis = torch.stft(wav, f.n_fft, f.hop_length, window=self.window, return_complex=True)
        ratio = resynthesis / stft
        return ratio * (_MAX_RATIO / ratio.abs().clamp_min(_MAX_RATIO))

    def change(self, spectrum: Tensor, ratio_real: Tensor, ratio_imag: Tensor) -> Tensor:
        """What the network makes of a spectrum and the consistency ratio.

        Args:
            spectrum: (batch, frames, n_bands), natural log.
            ratio_real: (batch, frames, n_fft // 2 + 1), real part of `consistency_ratio`.
            ratio_imag: Imaginary part of the same.

        Returns:
            (batch, frames, 2 * (n_fft // 2 + 1)): changes of the log magnitudes, then changes of the phases.
        """
        inputs = torch.cat([spectrum, ratio_real, ratio_imag], dim=2)
        return self.head(self.blocks(self.norm(self.embed(inputs))))

    def refine(self, spectrum: Tensor, magnitude: Tensor, phase: Tensor) -> Tensor:
        """The initial spectrum with the network's changes: complex (batch, n_fft // 2 + 1, frames)."""
        stft = self.initial_spectrum.consistent(magnitude, phase)
        ratio = self.consistency_ratio(stft)
        change = self.change(*(x.transpose(1, 2) for x in (spectrum, ratio.real, ratio.imag)))
        d_log_mag, d_phase = change.transpose(1, 2).float().chunk(2, dim=1)
        new_magnitude = (magnitude.log() + d_log_mag).clamp(max=MAX_LOG).exp()
        if self.feature.bands == "mel":
            return torch.polar(new_magnitude, phase + d_phase)
        # The phases of the resynthesis: an iteration of Griffin-Lim that costs no STFT.
        return torch.polar(new_magnitude, d_phase) * (stft * ratio).sgn()

    def forward(self, spectrum: Tensor, block_frames: int | None = None, phase: Tensor | None = None) -> Tensor:
        """Makes sound; long spectra are processed in blocks, so that memory does not grow with them.

        Args:
            spectrum: (batch, n_bands, frames), natural log.
            block_frames: Frames per block, by default as many as BLOCK_VALUES allow; the sound is the same but
                for rounding.
            phase: (batch, n_fft // 2 + 1, frames) initial phases of `pad_to_window(spectrum)`, if they are
                known already. They are computed on the CPU, for which a GPU waits.

        Returns:
            wav (batch, (frames - 1) * hop_length)
        """
        f, frames = self.feature, spectrum.shape[2]
        spectrum = pad_to_window(spectrum, f)
        # What a block needs of its neighbours: the overlap of windows, once per resynthesis and once for the
        # sound, and the network's receptive field.
        overlap = f.n_fft // f.hop_length
        context = (2 + self.initial_spectrum.iterations) * overlap + self.config.blocks * (
            self.config.kernel // 2
        )
        before, wavs = None, []
        for block in blocks(spectrum.shape[2], context, f, block_frames):
            part = spectrum[:, :, block.first : block.last]
            if phase is not None:
                magnitude = self.initial_spectrum.magnitude(part)
                part_phase = phase[:, :, block.first : block.last]
            else:
                magnitude, part_phase = self.initial_spectrum(part, before)
                # The next block begins its context where this one has its own before its end.
                following = block.end - context
                before = part_phase[:, :, following - 1 - block.first] if following > 0 else None
            wavs.append(block_wav(self.refine(part, magnitude, part_phase), block, f, self.window))
        return torch.cat(wavs, dim=1)[:, : (frames - 1) * f.hop_length]
