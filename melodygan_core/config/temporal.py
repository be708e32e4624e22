"""Configs of the models over sequences."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from melodygan_core.config.models import OptimizerConfig
from melodygan_core.config.values import STEMS, require


@dataclass(frozen=True)
class TemporalAutoencoderConfig:
    """Log-mel frames -> a latent sequence near 10 Hz -> log-mel frames.

    Attributes:
        stems: Which stems are trained on.
        token_frames: Frames in one token; the latent rate is the frame rate over this.
        width: Of the network at token rate.
        blocks: In the encoder, and in the decoder.
        kernel: Tokens that a block's depthwise convolution sees; odd.
        latent_dim: Of each token's latent, bounded to (-1, 1).
        crop_tokens: Tokens in one training example.
        gain_db: Standard deviation of a random level added to each training example, in dB.
        adv_weight: Of what a critic says of the decoder's log-mels; 0 for no critic.
        feature_matching_weight: Of the distance of the critic's features.
        disc_start: Part of the training after which the critic joins and the encoder stays as it is.
        disc_channels: Of the critic's first layer.
        bfloat16: Matrix products of the training in bfloat16, where the device is faster with it.
        optimizer: See OptimizerConfig.
    """

    family: ClassVar[str] = "temporal"
    stems: tuple[str, ...] = ("mix",)
    token_frames: int = 8
    width: int = 512
    blocks: int = 3
    kernel: int = 5
    latent_dim: int = 64
    crop_tokens: int = 32
    gain_db: float = 6.0
    adv_weight: float = 0.2
    feature_matching_weight: float = 1.0
    disc_start: float = 0.5
    disc_channels: int = 16
    bfloat16: bool = True
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            max_steps=2000, batch_size=32, learning_rate=1e-3, eval_every=100, warmup_steps=50
        )
    )

    def __post_init__(self) -> None:
        require(len(self.stems) > 0 and set(self.stems) <= set(STEMS), "stems", self.stems, f"some of {STEMS}")
        for name in ("token_frames", "width", "blocks", "latent_dim", "crop_tokens", "disc_channels"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("adv_weight", "feature_matching_weight"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 and more")
        require(0 <= self.disc_start < 1, "disc_start", self.disc_start, "0 to below 1")
        require(self.blocks <= 32, "blocks", self.blocks, "1 to 32")
        require(self.kernel % 2 == 1 and self.kernel > 0, "kernel", self.kernel, "odd, at least 1")
        require(0 <= self.gain_db <= 40, "gain_db", self.gain_db, "0 to 40")

    @property
    def reach(self) -> int:
        """Tokens on each side that a token's latent, or a token's reconstruction from latents, depends on."""
        return self.blocks * (self.kernel // 2)


@dataclass(frozen=True)
class TemporalGanConfig:
    """A GAN over latent sequences, after Musika (arXiv 2208.08706): patches made from style coordinates alone.

    Attributes:
        patch_tokens: Half of what the discriminator sees at once, in latents; 4 times a power of two.
        anchor_patches: Patches between two anchors of the style.
        style_dim: Of the style that wanders from anchor to anchor.
        global_dim: Of the style that a whole piece shares.
        local_dim: Of noise that is drawn anew for every `margin` tokens.
        width: Channels of generator and discriminator.
        loss: `hinge` or `non_saturating`.
        r1_gamma: Weight of the gradient penalty on real latents that the training starts with.
        r1_target: The weight rises while the mean sign of real latents' logits is above this, else it falls.
        r1_every: Updates between two penalties (lazy regularisation).
        augment: Strength of the random gains and dropped channels that the discriminator sees; 0 for none.
        ema_decay: Of the generator that is kept.
        condition: `none`, `stem` or `tag`.
        bfloat16: Matrix products of the training in bfloat16, where the device is faster with it.
        optimizer: See OptimizerConfig.
    """

    family: ClassVar[str] = "temporal"
    patch_tokens: int = 32
    anchor_patches: int = 3
    style_dim: int = 64
    global_dim: int = 64
    local_dim: int = 16
    width: int = 192
    loss: str = "hinge"
    r1_gamma: float = 1.0
    r1_target: float = 0.6
    r1_every: int = 8
    augment: float = 0.1
    ema_decay: float = 0.999
    condition: str = "none"
    bfloat16: bool = True
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            max_steps=6000, batch_size=32, learning_rate=2e-4, eval_every=300, patience=10, weight_decay=0.0
        )
    )

    def __post_init__(self) -> None:
        stages = self.patch_tokens // 4
        require(
            self.patch_tokens >= 8 and stages * 4 == self.patch_tokens and stages & (stages - 1) == 0,
            "patch_tokens",
            self.patch_tokens,
            "8, 16, 32, 64, ...",
        )
        for name in ("anchor_patches", "style_dim", "global_dim", "local_dim", "width", "r1_every"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(self.r1_gamma >= 0, "r1_gamma", self.r1_gamma, "0 and more")
        require(self.loss in ("hinge", "non_saturating"), "loss", self.loss, "hinge, non_saturating")
        require(-1 <= self.r1_target <= 1, "r1_target", self.r1_target, "-1 to 1")
        require(0 <= self.augment < 1, "augment", self.augment, "0 to below 1")
        require(0 <= self.ema_decay < 1, "ema_decay", self.ema_decay, "0 to below 1")
        require(self.condition in ("none", "stem", "tag"), "condition", self.condition, "none, stem, tag")

    @property
    def stages(self) -> int:
        """Doublings of the generator, which starts with four positions a patch."""
        return (self.patch_tokens // 4).bit_length() - 1

    @property
    def margin(self) -> int:
        """Tokens to each side that a token may depend on, and those that one position starts as."""
        return 2**self.stages

    @property
    def noise_dim(self) -> int:
        """Values at each token of the generator's input: style, global style, noise, and a value a layer."""
        return self.style_dim + self.global_dim + self.local_dim + 2 * self.stages


@dataclass(frozen=True)
class TemporalConfig:
    """The `temporal` family: one config a stage."""

    autoencoder: TemporalAutoencoderConfig = field(default_factory=TemporalAutoencoderConfig)
    gan: TemporalGanConfig = field(default_factory=TemporalGanConfig)
