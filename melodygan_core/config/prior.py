"""Configs of the priors: models over the latents of a codec."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from melodygan_core.config.base import ConfigModel, Rule
from melodygan_core.config.messages import ConfigError
from melodygan_core.config.training import OptimizerConfig
from melodygan_core.config.values import OddKernel

Loss = Literal["hinge", "non_saturating"]
Condition = Literal["none", "stem", "tag"]
Selection = Literal["both", "loss", "kad"]

PatchTokens = Annotated[
    int,
    Rule("a power of two, 8 to 1024", lambda tokens: 8 <= tokens <= 1024 and tokens & (tokens - 1) == 0),
]

WindowTokens = Annotated[
    int,
    Rule("a power of two, 16 to 2048", lambda tokens: 16 <= tokens <= 2048 and tokens & (tokens - 1) == 0),
]


class DenseGanConfig(ConfigModel):
    """A GAN over standardised latents of single segments."""

    noise_dim: int = Field(128, ge=1, le=8192, description="Values of the generator's noise.")
    hidden_size: int = Field(
        512, ge=1, le=32_768, description="Width of the generator's and the discriminator's hidden layers."
    )
    layers: int = Field(3, ge=1, le=32, description="Hidden layers of the generator, and of the discriminator.")
    loss: Loss = Field("hinge", description="Adversarial loss.")
    r1_gamma: float = Field(
        1.0, ge=0, le=10_000, description="Weight of the gradient penalty on real latents (R1)."
    )
    r1_every: int = Field(
        8, ge=1, le=1_000_000, description="Updates between two penalties (lazy regularisation)."
    )
    ema_decay: float = Field(
        0.995, ge=0, lt=1, description="Decay of the moving average of the generator's weights."
    )
    condition: Condition = Field("none", description="Label that the GAN is conditioned on.")
    optimizer: OptimizerConfig = Field(
        default_factory=lambda: OptimizerConfig(
            max_steps=6000, batch_size=256, learning_rate=2e-4, eval_every=200, patience=15, weight_decay=0.0
        ),
        description="The GAN's training run.",
    )


class TemporalGanConfig(ConfigModel):
    """A GAN over latent sequences, after Musika (arXiv 2208.08706): it makes patches from style coordinates."""

    patch_tokens: PatchTokens = Field(
        32, description="Tokens in a patch; the discriminator's input is two patches."
    )
    anchor_patches: int = Field(3, ge=1, le=256, description="Patches between two anchors of the local style.")
    style_dim: int = Field(
        64, ge=1, le=1024, description="Values of the style that changes from anchor to anchor."
    )
    global_dim: int = Field(64, ge=1, le=1024, description="Values of the style that a whole piece shares.")
    local_dim: int = Field(
        16, ge=1, le=1024, description="Values of the noise that is drawn anew for every `margin` tokens."
    )
    width: int = Field(192, ge=1, le=8192, description="Channels of the generator and the discriminator.")
    loss: Loss = Field("hinge", description="Adversarial loss.")
    r1_gamma: float = Field(
        1.0, ge=0, le=10_000, description="Initial weight of the gradient penalty on real latents (R1)."
    )
    r1_target: float = Field(
        0.6,
        ge=-1,
        le=1,
        description="Target of the mean sign of real latents' logits; the penalty grows above it.",
    )
    r1_every: int = Field(
        8, ge=1, le=1_000_000, description="Updates between two penalties (lazy regularisation)."
    )
    augment: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Strength of random gain and channel dropout at the discriminator's input; 0 for none.",
    )
    ema_decay: float = Field(
        0.999, ge=0, lt=1, description="Decay of the moving average of the generator's weights."
    )
    condition: Condition = Field("none", description="Label that the GAN is conditioned on.")
    bfloat16: bool = Field(
        True, description="Train with matrix products in bfloat16 where the device computes them faster."
    )
    optimizer: OptimizerConfig = Field(
        default_factory=lambda: OptimizerConfig(
            max_steps=6000, batch_size=32, learning_rate=2e-4, eval_every=300, patience=10, weight_decay=0.0
        ),
        description="The GAN's training run.",
    )

    @property
    def stages(self) -> int:
        """Upsampling stages of the generator, which starts with four positions per patch."""
        return (self.patch_tokens // 4).bit_length() - 1

    @property
    def margin(self) -> int:
        """Tokens on each side that a token depends on; as many tokens grow from one initial position."""
        return 2**self.stages

    @property
    def noise_dim(self) -> int:
        """Values per token of the generator's input: style, global style, noise, and two values per stage."""
        return self.style_dim + self.global_dim + self.local_dim + 2 * self.stages


class TemporalFlowConfig(ConfigModel):
    """A rectified flow over latent sequences: noise becomes latents along lines that a network learned."""

    window_tokens: WindowTokens = Field(
        128, description="Tokens that are made at once; a piece goes on by half as many at a time."
    )
    width: int = Field(256, ge=4, le=8192, description="Channels at the rate of the tokens.")
    inner_width: int = Field(
        384, ge=4, le=8192, description="Channels at a quarter of that rate; a multiple of `heads`."
    )
    blocks: int = Field(2, ge=1, le=64, description="Blocks before, and blocks after the inner ones.")
    inner_blocks: int = Field(
        4, ge=1, le=64, description="Blocks at the lower rate; every second one has attention."
    )
    kernel: OddKernel = Field(7, description="Kernel size of a block's depthwise convolution.")
    heads: int = Field(6, ge=1, le=256, description="Heads of the attention.")
    dropout: float = Field(0.1, ge=0, lt=1, description="Share of a block's hidden values that is dropped.")
    condition: Condition = Field("none", description="Label that the flow is conditioned on.")
    condition_dropout: float = Field(
        0.15,
        ge=0,
        lt=1,
        description="Share of the examples that are trained without their condition, for guidance.",
    )
    mask_segments: float = Field(
        0.1, ge=0, le=1, description="Share of the examples in which segments are known."
    )
    mask_prefix: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Share of the examples in which the beginning is known; of the rest nothing is.",
    )
    context_noise: float = Field(
        0.1, ge=0, le=10, description="Most noise on known latents, against drift over many windows."
    )
    time_mean: float = Field(
        0.0, ge=-10, le=10, description="Mean of the logit of the time that is trained on; 0 is pure noise."
    )
    time_std: float = Field(
        1.0, ge=0.01, le=10, description="Standard deviation of the logit of the time that is trained on."
    )
    whitening_floor: float = Field(
        0.01,
        gt=0,
        le=1,
        description="Principal directions below this share of the mean variance are not amplified further.",
    )
    level_db: float = Field(
        0.0,
        ge=0,
        le=40,
        description="Standard deviation of the random gain of some training examples, in dB; 0 for none.",
    )
    level_share: float = Field(
        0.25, ge=0, le=1, description="Share of the examples that get a random gain: it costs time."
    )
    ema_decay: float = Field(
        0.999, ge=0, lt=1, description="Decay of the moving average of the network's weights."
    )
    guide_step: int = Field(
        300,
        ge=1,
        le=10_000_000,
        description="Update whose average is kept as the early version that autoguidance moves away from.",
    )
    select: Selection = Field(
        "both",
        description="What the best weights have lowest: the loss on validation latents, the KAD by track, or"
        " both, where 10 of KAD count as 1 % of the loss.",
    )
    memorisation_ratio: float = Field(
        0.8,
        ge=0,
        le=1,
        description="Weights whose samples lie nearer to training music than this share of the distance of"
        " unseen music are not kept; 0 for no such limit.",
    )
    steps: int = Field(8, ge=1, le=1000, description="Steps of the solver, when a request names none.")
    bfloat16: bool = Field(
        True, description="Train with matrix products in bfloat16 where the device computes them faster."
    )
    optimizer: OptimizerConfig = Field(
        default_factory=lambda: OptimizerConfig(
            max_steps=4000, batch_size=32, learning_rate=6e-4, eval_every=250, patience=4
        ),
        description="The flow's training run.",
    )

    @model_validator(mode="after")
    def _fits(self) -> TemporalFlowConfig:
        if self.inner_width % self.heads:
            raise ConfigError(
                f"inner_width must be a multiple of `heads` = {self.heads}, got {self.inner_width}"
            )
        if self.mask_segments + self.mask_prefix > 1:
            total = self.mask_segments + self.mask_prefix
            raise ConfigError(f"mask_segments must be at most 1 together with `mask_prefix`, got {total:g}")
        return self


class TemporalPlanConfig(TemporalFlowConfig):
    """A flow that follows a plan: harmony, melody, onsets, metre, loudness and sections, per token."""

    plan_width: int = Field(
        32,
        ge=1,
        le=1024,
        description="Values per token that the plan goes through before it meets the latents.",
    )
    plan_dropout: float = Field(
        0.15,
        ge=0,
        lt=1,
        description="Share of the examples that are trained without their plan, for guidance.",
    )
    plan_part_dropout: float = Field(
        0.15,
        ge=0,
        lt=1,
        description="Share of the other examples in which a part of the plan (the melody, ...) is left open.",
    )
