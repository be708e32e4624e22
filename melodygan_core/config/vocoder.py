"""Configs of the vocoders: spectrum -> waveform."""

from __future__ import annotations

from pydantic import Field

from melodygan_core.config.base import ConfigModel
from melodygan_core.config.training import OptimizerConfig
from melodygan_core.config.values import OddKernel, Stems


class VocoderConfig(ConfigModel):
    """A neural vocoder, after Vocos (arXiv 2306.00814): bands -> STFT -> inverse STFT."""

    stems: Stems = Field(("mix",), description="Stems that the vocoder is trained on.")
    width: int = Field(192, ge=1, le=8192, description="Channels of the network at frame rate.")
    blocks: int = Field(3, ge=1, le=32, description="ConvNeXt blocks.")
    kernel: OddKernel = Field(7, description="Kernel size of a block's depthwise convolution, in frames.")
    crop_frames: int = Field(64, ge=8, le=16_384, description="Frames in one training example.")
    mel_weight: float = Field(10.0, ge=0, le=1000, description="Weight of the loss of the log bands.")
    stft_weight: float = Field(1.0, ge=0, le=1000, description="Weight of the multi-resolution STFT loss.")
    adv_weight: float = Field(
        0.1, ge=0, le=1000, description="Weight of the adversarial loss; 0 trains without discriminators."
    )
    feature_matching_weight: float = Field(
        0.5, ge=0, le=1000, description="Weight of the feature matching loss."
    )
    disc_start: float = Field(
        0.75, ge=0, lt=1, description="Fraction of the training after which the discriminators join."
    )
    disc_channels: int = Field(
        8, ge=1, le=1024, description="Channels of the first convolution of each of the three discriminators."
    )
    optimizer: OptimizerConfig = Field(
        default_factory=lambda: OptimizerConfig(
            max_steps=1600, batch_size=8, learning_rate=1e-3, eval_every=100, weight_decay=1e-2
        ),
        description="The vocoder's training run.",
    )


class FlowVocoderConfig(ConfigModel):
    """A flow that refines the neural vocoder's spectrum in a few steps, at frame rate."""

    width: int = Field(256, ge=1, le=8192, description="Channels of the network.")
    blocks: int = Field(3, ge=1, le=32, description="Blocks of the network.")
    kernel: OddKernel = Field(7, description="Kernel size of a block's depthwise convolution, in frames.")
    steps: int = Field(
        4, ge=1, le=100, description="Steps from the neural vocoder's spectrum to the refined one."
    )
    noise: float = Field(
        0.0,
        ge=0,
        le=4,
        description="Noise that refining starts from, relative to the neural vocoder's error; 0 for none.",
    )
    crop_frames: int = Field(64, ge=8, le=16_384, description="Frames in one training example.")
    ema_decay: float = Field(0.999, ge=0, lt=1, description="Decay of the moving average of the weights.")
    bfloat16: bool = Field(
        True, description="Train with matrix products in bfloat16 where the device computes them faster."
    )
    optimizer: OptimizerConfig = Field(
        default_factory=lambda: OptimizerConfig(
            max_steps=1500, batch_size=8, learning_rate=1e-3, eval_every=250, warmup_steps=50
        ),
        description="The flow vocoder's training run.",
    )


class GriffinLimConfig(ConfigModel):
    """Phase reconstruction from magnitudes of bands; needs no training."""

    iterations: int = Field(32, ge=1, le=1000, description="Iterations of fast Griffin-Lim.")
    momentum: float = Field(
        0.99, ge=0, lt=1, description="Momentum; 0 is the original algorithm, 0.99 the fast one."
    )
