"""A codec over sequences: frames as tokens, everything at token rate."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from melodygan_core.codec.base import Codec
from melodygan_core.config import FeatureConfig, TemporalCodecConfig
from melodygan_core.dataset import Statistics
from melodygan_core.errors import InputError
from melodygan_core.networks import ConvNeXtBlock


class TemporalCodec(Codec):
    """log_mel -> latents at a lower rate, in (-1, 1) -> log_mel_hat. MFCC are not used.

    `token_frames` frames are one token, so that every matrix product is at token rate: on a CPU that is several
    times the rate of strided convolutions at frame rate. Away from the ends a shift of the input by whole
    tokens shifts the latents.

    Args:
        config: Sizes.
        feature: How the log-mels were made.

    Raises:
        InputError: the latent is not smaller than a token.
    """

    uses_mfcc = False
    config: TemporalCodecConfig
    log_mel_mean: Tensor
    log_mel_std: Tensor

    def __init__(self, config: TemporalCodecConfig, feature: FeatureConfig) -> None:
        super().__init__(config, feature)
        token = config.token_frames * feature.n_mels
        if config.latent_dim >= token:
            raise InputError(
                f"latent_dim must be below a token's {token} values ({config.token_frames} frames of "
                f"{feature.n_mels} mels), got {config.latent_dim}"
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
        self.register_buffer("log_mel_mean", torch.zeros(feature.n_mels))
        self.register_buffer("log_mel_std", torch.ones(feature.n_mels))

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
        self.log_mel_mean.copy_(torch.from_numpy(statistics.log_mel_mean))
        self.log_mel_std.copy_(torch.from_numpy(statistics.log_mel_std))

    def tokens(self, log_mel: Tensor) -> Tensor:
        """log_mel (batch, frames, n_mels) -> standardised tokens (batch, frames // token_frames, values).

        Raises:
            InputError: frames is not a multiple of token_frames.
        """
        batch, frames, _ = log_mel.shape
        if frames % self.config.token_frames or frames == 0:
            raise InputError(f"frames must be a multiple of token_frames = {self.token_frames}, got {frames}")
        standardised = (log_mel - self.log_mel_mean) / self.log_mel_std
        return standardised.reshape(batch, frames // self.config.token_frames, -1)

    def targets(self, log_mel: Tensor, mfcc: Tensor) -> Tensor:
        """The standardised tokens of the log-mel; see Codec.targets."""
        return self.tokens(log_mel)

    def encode(self, log_mel: Tensor, mfcc: Tensor | None = None) -> Tensor:
        """log_mel (batch, frames, n_mels), natural log -> latents (batch, tokens, latent_dim) in (-1, 1)."""
        return torch.tanh(self.encoder(self.tokens(log_mel)))

    def decode_targets(self, latents: Tensor) -> Tensor:
        """Latents (batch, tokens, latent_dim) -> standardised tokens_hat (batch, tokens, values)."""
        return self.decoder(latents)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (batch, tokens, latent_dim) -> log_mel_hat (batch, tokens * token_frames, n_mels)."""
        batch, tokens, _ = latents.shape
        standardised = self.decode_targets(latents).reshape(batch, tokens * self.config.token_frames, -1)
        return standardised * self.log_mel_std + self.log_mel_mean

    def forward(self, log_mel: Tensor) -> Tensor:
        """log_mel (batch, frames, n_mels) -> log_mel_hat of the same shape."""
        return self.decode(self.encode(log_mel))

    def clamp(self, latents: Tensor) -> Tensor:
        """Latents of any shape, limited to [-1, 1]."""
        return latents.clamp(-1, 1)
