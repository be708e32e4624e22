"""A codec over sequences: frames as tokens, everything at token rate."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from melodygan_core.codec.base import Codec, Decoded, Features
from melodygan_core.config import FeatureConfig, TemporalCodecConfig
from melodygan_core.dataset import Statistics
from melodygan_core.errors import InputError
from melodygan_core.networks import ConvNeXtBlock

# Level differences of 1.5 dB, correlations of 0.05.
MIN_STEREO_STD = 0.05


class TemporalCodec(Codec):
    """Spectrum and stereo -> latents at a lower rate, in (-1, 1) -> spectrum and stereo.

    `token_frames` frames of the spectrum and the mean of their stereo parameters are one token, so that every
    matrix product is at token rate: on a CPU that is several times the rate of strided convolutions at frame
    rate. Away from the ends a shift of the input by whole tokens shifts the latents.

    Args:
        config: Sizes.
        feature: How the spectrum was made: its bands are those of `feature.spectrum`.

    Raises:
        InputError: the latent is not smaller than a token.
    """

    config: TemporalCodecConfig
    # The names are those of version 0.1, whose spectrum was log-mel.
    log_mel_mean: Tensor
    log_mel_std: Tensor
    stereo_mean: Tensor
    stereo_std: Tensor

    def __init__(self, config: TemporalCodecConfig, feature: FeatureConfig) -> None:
        super().__init__(config, feature)
        token = config.token_frames * feature.n_bands + feature.n_stereo
        if config.latent_dim >= token:
            raise InputError(
                f"latent_dim must be below a token's {token} values ({config.token_frames} frames of "
                f"{feature.n_bands} bands, {feature.n_stereo} of stereo), got {config.latent_dim}"
            )

        def blocks() -> list[nn.Module]:
            return [ConvNeXtBlock(config.width, config.kernel) for _ in range(config.blocks)]

        self.encoder = nn.Sequential(
            nn.Linear(token, config.width),
            *blocks(),
            nn.LayerNorm(config.width),
            nn.Linear(config.width, config.latent_dim),
        )
        self.decoder = nn.Sequential(
            nn.Linear(config.latent_dim, config.width),
            *blocks(),
            nn.LayerNorm(config.width),
            nn.Linear(config.width, token),
        )
        self.register_buffer("log_mel_mean", torch.zeros(feature.n_bands))
        self.register_buffer("log_mel_std", torch.ones(feature.n_bands))
        if feature.n_stereo:
            self.register_buffer("stereo_mean", torch.zeros(feature.n_stereo))
            self.register_buffer("stereo_std", torch.ones(feature.n_stereo))

    @property
    def columns(self) -> tuple[str, ...]:
        """The spectrum, and stereo where there are two channels."""
        return (self.feature.spectrum, "stereo") if self.feature.n_stereo else (self.feature.spectrum,)

    @property
    def token_frames(self) -> int:
        """Frames that one latent stands for."""
        return self.config.token_frames

    @property
    def crop_frames(self) -> int:
        """Frames of one training example."""
        return self.config.crop_tokens * self.config.token_frames

    @torch.no_grad()
    def standardise_by(self, statistics: Statistics) -> None:
        """Copies the mean and deviation of each band of the training frames."""
        self.log_mel_mean.copy_(torch.from_numpy(statistics.mean[self.feature.spectrum]))
        self.log_mel_std.copy_(torch.from_numpy(statistics.std[self.feature.spectrum]))
        if self.feature.n_stereo:
            self.stereo_mean.copy_(torch.from_numpy(statistics.mean["stereo"]))
            # Mono music has no deviation.
            self.stereo_std.copy_(torch.from_numpy(statistics.std["stereo"]).clamp_min(MIN_STEREO_STD))

    def targets(self, features: Features) -> Tensor:
        """Standardised tokens (batch, frames // token_frames, values); see Codec.targets."""
        spectrum, size = features[self.feature.spectrum], self.token_frames
        batch, frames, _ = spectrum.shape
        if frames % size or frames == 0:
            raise InputError(f"frames must be a multiple of token_frames = {size}, got {frames}")
        standardised = (spectrum - self.log_mel_mean) / self.log_mel_std
        tokens = standardised.reshape(batch, frames // size, -1)
        if not self.feature.n_stereo:
            return tokens
        stereo = (features["stereo"] - self.stereo_mean) / self.stereo_std
        return torch.cat([tokens, stereo.unflatten(1, (-1, size)).mean(dim=2)], dim=2)

    def encode(self, features: Features) -> Tensor:
        """Features (batch, frames, n_bands) -> latents (batch, tokens, latent_dim) in (-1, 1)."""
        return self.encode_tokens(self.targets(features))

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """Standardised tokens (batch, tokens, values) -> latents (batch, tokens, latent_dim) in (-1, 1)."""
        return torch.tanh(self.encoder(tokens))

    def decode_targets(self, latents: Tensor) -> Tensor:
        """Latents (batch, tokens, latent_dim) -> standardised tokens_hat (batch, tokens, values)."""
        return self.decoder(latents)

    def from_targets(self, targets: Tensor) -> Decoded:
        """Standardised tokens (batch, tokens, values) -> frames; see Codec.from_targets."""
        batch, tokens, values = targets.shape
        spectrum, stereo = targets.split([values - self.feature.n_stereo, self.feature.n_stereo], dim=2)
        spectrum = (
            spectrum.reshape(batch, tokens * self.token_frames, -1) * self.log_mel_std + self.log_mel_mean
        )
        if not self.feature.n_stereo:
            return Decoded(spectrum)
        stereo = stereo * self.stereo_std + self.stereo_mean
        return Decoded(spectrum, stereo.repeat_interleave(self.token_frames, dim=1))

    def forward(self, features: Features) -> Decoded:
        """Features -> what is left of them after the latents."""
        return self.reconstruct(features)

    def clamp(self, latents: Tensor) -> Tensor:
        """Latents of any shape, limited to [-1, 1]."""
        return latents.clamp(-1, 1)
