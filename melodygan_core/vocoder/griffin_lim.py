"""log-mel -> wav without training: pseudo-inverse of the mel filterbank, then fast Griffin-Lim."""

from __future__ import annotations

import math

import torch
import torchaudio.functional as AF
from torch import Tensor
from torch.nn import functional as F

from melodygan_core.config import FeatureConfig, GriffinLimConfig
from melodygan_core.features import mel_filterbank

# Nothing in music is louder than full scale: no mel band of a wav in [-1, 1] exceeds about n_fft / 2.
_MAX_LOG = 10.0


class GriffinLim:
    """Phase reconstruction (Griffin and Lim 1984; with momentum: Perraudin et al. 2013).

    Args:
        feature: How the log-mels were made.
        config: Iterations and momentum.
    """

    def __init__(self, feature: FeatureConfig, config: GriffinLimConfig | None = None) -> None:
        self.feature = feature
        self.config = config or GriffinLimConfig()
        self.inverse = torch.linalg.pinv(mel_filterbank(feature))
        self.window = torch.hann_window(feature.n_fft)

    def __call__(self, log_mel: Tensor, seed: int = 0) -> Tensor:
        """Sound of log-mels.

        Args:
            log_mel: (batch, n_mels, frames), natural log of magnitude.
            seed: Of the starting phase.

        Returns:
            wav (batch, (frames - 1) * hop_length) float32, not normalised.
        """
        f = self.feature
        frames = log_mel.shape[2]
        # The STFT reflects half a window: what is shorter gets silence behind it, which is cut off again.
        fewest = f.n_fft // (2 * f.hop_length) + 2
        log_mel = F.pad(log_mel, (0, max(0, fewest - frames)), value=math.log(f.log_floor))
        magnitude = (log_mel.clamp(max=_MAX_LOG).exp() - f.log_floor).clamp_min(0)
        linear = (magnitude.transpose(1, 2) @ self.inverse).clamp_min(0).transpose(1, 2)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            wav = AF.griffinlim(
                linear,
                window=self.window,
                n_fft=f.n_fft,
                hop_length=f.hop_length,
                win_length=f.n_fft,
                power=1.0,
                n_iter=self.config.iterations,
                momentum=self.config.momentum,
                length=None,
                rand_init=True,
            )
        return wav[:, : (frames - 1) * f.hop_length]
