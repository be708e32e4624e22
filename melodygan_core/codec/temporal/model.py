"""An autoencoder over sequences: frames as tokens, everything at token rate."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from melodygan_core.config import FeatureConfig, TemporalAutoencoderConfig
from melodygan_core.dataset import Statistics
from melodygan_core.errors import InputError
from melodygan_core.networks import ConvNeXtBlock


class TemporalAutoencoder(nn.Module):
    """log_mel -> latents at a lower rate, in (-1, 1) -> log_mel_hat.

    `token_frames` frames are one token, so that every matrix product is at token rate: on a CPU that is several
    times the rate of strided convolutions at frame rate. Away from the ends a shift of the input by whole
    tokens shifts the latents.

    Args:
        config: Sizes.
        feature: How the log-mels were made.

    Raises:
        InputError: the latent is not smaller than a token.
    """

    log_mel_mean: Tensor
    log_mel_std: Tensor

    def __init__(self, config: TemporalAutoencoderConfig, feature: FeatureConfig) -> None:
        super().__init__()
        self.config = config
        self.feature = feature
        token = config.token_frames * feature.n_mels
        if config.latent_dim >= token:
            raise InputError(
                f"latent_dim is {config.latent_dim}; allowed: below a token's {token} values "
                f"({config.token_frames} frames of {feature.n_mels} mels)"
            )

        def body() -> list[nn.Module]:
            return [ConvNeXtBlock(config.width, config.kernel) for _ in range(config.blocks)]

        self.encoder = nn.Sequential(
            nn.Linear(token, config.width),
            *body(),
            nn.LayerNorm(config.width),
            nn.Linear(config.width, config.latent_dim),
        )
        self.decoder = nn.Sequential(
            nn.Linear(config.latent_dim, config.width),
            *body(),
            nn.LayerNorm(config.width),
            nn.Linear(config.width, token),
        )
        self.register_buffer("log_mel_mean", torch.zeros(feature.n_mels))
        self.register_buffer("log_mel_std", torch.ones(feature.n_mels))

    @property
    def latent_rate(self) -> float:
        """Latents a second."""
        return self.feature.frame_rate / self.config.token_frames

    @torch.no_grad()
    def standardise_by(self, statistics: Statistics) -> None:
        """Takes the mean and deviation of each band of the training frames."""
        self.log_mel_mean.copy_(torch.from_numpy(statistics.log_mel_mean))
        self.log_mel_std.copy_(torch.from_numpy(statistics.log_mel_std))

    def tokens(self, log_mel: Tensor) -> Tensor:
        """log_mel (batch, frames, n_mels) -> standardised tokens (batch, frames // token_frames, token).

        Raises:
            InputError: the frames are no whole tokens.
        """
        batch, frames, _ = log_mel.shape
        if frames % self.config.token_frames or frames == 0:
            raise InputError(
                f"frames is {frames}; allowed: multiples of token_frames = {self.config.token_frames}"
            )
        standardised = (log_mel - self.log_mel_mean) / self.log_mel_std
        return standardised.reshape(batch, frames // self.config.token_frames, -1)

    def encode(self, log_mel: Tensor) -> Tensor:
        """log_mel (batch, frames, n_mels), natural log -> latents (batch, tokens, latent_dim) in (-1, 1)."""
        return torch.tanh(self.encoder(self.tokens(log_mel)))

    def decode_tokens(self, latents: Tensor) -> Tensor:
        """Latents (batch, tokens, latent_dim) -> standardised tokens_hat (batch, tokens, token)."""
        return self.decoder(latents)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (batch, tokens, latent_dim) -> log_mel_hat (batch, tokens * token_frames, n_mels)."""
        batch, tokens, _ = latents.shape
        standardised = self.decode_tokens(latents).reshape(batch, tokens * self.config.token_frames, -1)
        return standardised * self.log_mel_std + self.log_mel_mean

    def forward(self, log_mel: Tensor) -> Tensor:
        """log_mel (batch, frames, n_mels) -> log_mel_hat of the same shape."""
        return self.decode(self.encode(log_mel))
