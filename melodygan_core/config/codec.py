"""Configs of the codecs: features <-> latents."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from melodygan_core.config.base import ConfigModel
from melodygan_core.config.training import OptimizerConfig
from melodygan_core.config.values import OddKernel, Stems


class DenseCodecConfig(ConfigModel):
    """A fully connected autoencoder over a segment's log-mel, averaged in time bins, and its MFCC."""

    stems: Stems = Field(("mix",), description="Stems whose segments the codec is trained on.")
    time_bins: int = Field(
        32, ge=1, le=4096, description="Time bins that a segment's frames are averaged in; 1 is the plain mean."
    )
    hidden_sizes: tuple[Annotated[int, Field(ge=1, le=32_768)], ...] = Field(
        (4096, 2048, 1024, 512),
        min_length=1,
        max_length=32,
        description="Layer widths of the encoder; the last is the latent's, and the decoder mirrors them.",
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="Dropout probability at the inputs of hidden layers.")
    random_shift: bool = Field(
        True, description="Train on segments that begin at any frame, not only at the table's rows."
    )
    gain_db: float = Field(
        6.0,
        ge=0,
        le=40,
        description="Standard deviation of the random gain of each training segment, in dB.",
    )
    bfloat16: bool = Field(
        True, description="Train with matrix products in bfloat16 where the device computes them faster."
    )
    optimizer: OptimizerConfig = Field(
        default_factory=lambda: OptimizerConfig(max_steps=1000, learning_rate=2e-4),
        description="The codec's training run.",
    )

    @property
    def latent_dim(self) -> int:
        """Width of the latent."""
        return self.hidden_sizes[-1]


class RefinerConfig(ConfigModel):
    """A flow from what a codec's decoder makes to the true spectrum, at the rate of the latents."""

    width: int = Field(512, ge=1, le=8192, description="Channels of the network.")
    blocks: int = Field(4, ge=1, le=32, description="Blocks of the network.")
    kernel: OddKernel = Field(5, description="Kernel size of a block's depthwise convolution, in tokens.")
    steps: int = Field(4, ge=1, le=100, description="Steps from the decoder's output to the refined one.")
    noise: float = Field(
        0.5,
        ge=0,
        le=4,
        description="Noise that refining starts from, relative to the decoder's error on validation music.",
    )
    gain_db: float = Field(
        6.0,
        ge=0,
        le=40,
        description="Standard deviation of the random gain of each training example, in dB.",
    )
    ema_decay: float = Field(0.999, ge=0, lt=1, description="Decay of the moving average of the weights.")
    bfloat16: bool = Field(
        True, description="Train with matrix products in bfloat16 where the device computes them faster."
    )
    optimizer: OptimizerConfig = Field(
        default_factory=lambda: OptimizerConfig(
            max_steps=2000, batch_size=32, learning_rate=5e-4, eval_every=200, warmup_steps=50
        ),
        description="The refiner's training run.",
    )


class TemporalCodecConfig(ConfigModel):
    """A convolutional autoencoder: spectrum -> a latent sequence near 10 Hz -> spectrum."""

    stems: Stems = Field(("mix",), description="Stems that the codec is trained on.")
    token_frames: int = Field(
        8, ge=1, le=256, description="Frames per token; the latent rate is the frame rate divided by this."
    )
    width: int = Field(512, ge=1, le=8192, description="Channels of the network at token rate.")
    blocks: int = Field(3, ge=1, le=32, description="Blocks in the encoder, and in the decoder.")
    kernel: OddKernel = Field(5, description="Kernel size of a block's depthwise convolution, in tokens.")
    latent_dim: int = Field(64, ge=1, le=4096, description="Values in a token's latent, each in (-1, 1).")
    crop_tokens: int = Field(32, ge=1, le=4096, description="Tokens in one training example.")
    gain_db: float = Field(
        6.0,
        ge=0,
        le=40,
        description="Standard deviation of the random gain of each training example, in dB.",
    )
    adv_weight: float = Field(
        0.2, ge=0, le=1000, description="Weight of the adversarial loss; 0 trains without a discriminator."
    )
    feature_matching_weight: float = Field(
        1.0, ge=0, le=1000, description="Weight of the feature matching loss."
    )
    disc_start: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="Fraction of the training after which the discriminator joins and the encoder is frozen.",
    )
    disc_channels: int = Field(
        16, ge=1, le=1024, description="Channels of the discriminator's first convolution."
    )
    bfloat16: bool = Field(
        True, description="Train with matrix products in bfloat16 where the device computes them faster."
    )
    optimizer: OptimizerConfig = Field(
        default_factory=lambda: OptimizerConfig(
            max_steps=2000, batch_size=32, learning_rate=1e-3, eval_every=100, warmup_steps=50
        ),
        description="The codec's training run.",
    )

    @property
    def reach(self) -> int:
        """Tokens on each side that a latent depends on, and that a token decoded from latents depends on."""
        return self.blocks * (self.kernel // 2)
