"""Configs of the priors: models over the latents of a codec."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from melodygan_core.config.base import ConfigModel, Rule
from melodygan_core.config.training import OptimizerConfig

Loss = Literal["hinge", "non_saturating"]
Condition = Literal["none", "stem", "tag"]

PatchTokens = Annotated[
    int,
    Rule("a power of two, 8 to 1024", lambda tokens: 8 <= tokens <= 1024 and tokens & (tokens - 1) == 0),
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
