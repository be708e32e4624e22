"""Configs of what is trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from melodygan_core.config.values import STEMS, require


@dataclass(frozen=True)
class OptimizerConfig:
    """One training run: how long, how fast, when to stop.

    Attributes:
        max_steps: Most optimizer updates.
        batch_size: Examples in one update.
        learning_rate: Peak of the schedule (linear warm-up, then cosine to a tenth).
        warmup_steps: Updates until the peak.
        weight_decay: Of AdamW; not on biases and norms.
        clip_norm: Gradients are scaled to at most this norm.
        eval_every: Updates between two validations.
        patience: Validations without a better one before it stops.
        checkpoint_every_s: Seconds between two resumable states on disk.
        seed: Of initialisation, shuffling and noise.
        device: `auto`, `cpu`, `cuda` or `mps`.
    """

    max_steps: int = 4000
    batch_size: int = 128
    learning_rate: float = 3e-4
    warmup_steps: int = 100
    weight_decay: float = 1e-2
    clip_norm: float = 1.0
    eval_every: int = 100
    patience: int = 10
    checkpoint_every_s: float = 30.0
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("max_steps", "batch_size", "eval_every", "patience"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("learning_rate", "clip_norm"):
            require(getattr(self, name) > 0, name, getattr(self, name), "above 0")
        for name in ("warmup_steps", "weight_decay", "checkpoint_every_s"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 and more")


@dataclass(frozen=True)
class VocoderConfig:
    """A neural vocoder, after Vocos (arXiv 2306.00814): log-mel -> spectrum -> inverse STFT.

    Attributes:
        stems: Whose sound it is trained on.
        width: Of the network at frame rate.
        blocks: ConvNeXt blocks.
        kernel: Frames that a block's depthwise convolution sees; odd.
        crop_frames: Frames in one training example.
        mel_weight: Of the error of the log-mel.
        stft_weight: Of the multi-resolution STFT distance.
        adv_weight: Of what critics of its spectrograms say; 0 for no critics.
        feature_matching_weight: Of the distance of the critics' features.
        disc_start: Part of the training after which the critics join.
        disc_channels: Of the first layer of each of the three critics.
        optimizer: See OptimizerConfig.
    """

    stems: tuple[str, ...] = ("mix",)
    width: int = 192
    blocks: int = 3
    kernel: int = 7
    crop_frames: int = 64
    mel_weight: float = 10.0
    stft_weight: float = 1.0
    adv_weight: float = 0.1
    feature_matching_weight: float = 0.5
    disc_start: float = 0.75
    disc_channels: int = 8
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            max_steps=1600, batch_size=8, learning_rate=1e-3, eval_every=100, weight_decay=1e-2
        )
    )

    def __post_init__(self) -> None:
        require(len(self.stems) > 0 and set(self.stems) <= set(STEMS), "stems", self.stems, f"some of {STEMS}")
        for name in ("width", "blocks", "disc_channels"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(self.blocks <= 32, "blocks", self.blocks, "1 to 32")
        require(self.crop_frames >= 8, "crop_frames", self.crop_frames, "at least 8")
        require(self.kernel % 2 == 1 and self.kernel > 0, "kernel", self.kernel, "odd, at least 1")
        for name in ("mel_weight", "stft_weight", "adv_weight", "feature_matching_weight"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 and more")
        require(0 <= self.disc_start < 1, "disc_start", self.disc_start, "0 to below 1")


@dataclass(frozen=True)
class DenseAutoencoderConfig:
    """The seed's autoencoder: fully connected, over a segment's binned log-mel and MFCC.

    Attributes:
        stems: Which stems' rows are trained on.
        time_bins: A segment's frames are averaged in this many bins; 1 is the plain mean.
        hidden_sizes: Layer widths of the encoder; the last is the latent, the decoder mirrors them.
        dropout: On the inputs of hidden layers.
        random_shift: Train on segments that begin anywhere, not only where the table cuts.
        gain_db: Standard deviation of a random level added to each training segment, in dB.
        bfloat16: Matrix products of the training in bfloat16, where the device is faster with it.
        optimizer: See OptimizerConfig.
    """

    family: ClassVar[str] = "dense"
    stems: tuple[str, ...] = ("mix",)
    time_bins: int = 32
    hidden_sizes: tuple[int, ...] = (4096, 2048, 1024, 512)
    dropout: float = 0.1
    random_shift: bool = True
    gain_db: float = 6.0
    bfloat16: bool = True
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(max_steps=1000, learning_rate=2e-4)
    )

    def __post_init__(self) -> None:
        require(len(self.stems) > 0 and set(self.stems) <= set(STEMS), "stems", self.stems, f"some of {STEMS}")
        require(self.time_bins >= 1, "time_bins", self.time_bins, "at least 1")
        require(0 <= self.dropout < 1, "dropout", self.dropout, "0 to below 1")
        require(0 <= self.gain_db <= 40, "gain_db", self.gain_db, "0 to 40")
        require(
            1 <= len(self.hidden_sizes) <= 32 and min(self.hidden_sizes) >= 1,
            "hidden_sizes",
            self.hidden_sizes,
            "1 to 32 positive widths",
        )

    @property
    def latent_dim(self) -> int:
        """Width of the bottleneck."""
        return self.hidden_sizes[-1]


@dataclass(frozen=True)
class DenseGanConfig:
    """A GAN over standardised latents.

    Attributes:
        noise_dim: Of the generator's input.
        hidden_size: Width of generator and discriminator.
        layers: Hidden layers in each.
        loss: `hinge` or `non_saturating`.
        r1_gamma: Weight of the gradient penalty on real latents.
        r1_every: Updates between two penalties (lazy regularisation).
        ema_decay: Of the generator that is kept.
        condition: `none`, `stem` or `tag`.
        optimizer: See OptimizerConfig.
    """

    family: ClassVar[str] = "dense"
    noise_dim: int = 128
    hidden_size: int = 512
    layers: int = 3
    loss: str = "hinge"
    r1_gamma: float = 1.0
    r1_every: int = 8
    ema_decay: float = 0.995
    condition: str = "none"
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            max_steps=6000, batch_size=256, learning_rate=2e-4, eval_every=200, patience=15, weight_decay=0.0
        )
    )

    def __post_init__(self) -> None:
        require(self.loss in ("hinge", "non_saturating"), "loss", self.loss, "hinge, non_saturating")
        require(self.condition in ("none", "stem", "tag"), "condition", self.condition, "none, stem, tag")
        require(0 <= self.ema_decay < 1, "ema_decay", self.ema_decay, "0 to below 1")
        for name in ("noise_dim", "hidden_size", "layers", "r1_every"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(self.layers <= 32, "layers", self.layers, "1 to 32")
        require(self.r1_gamma >= 0, "r1_gamma", self.r1_gamma, "0 and more")


@dataclass(frozen=True)
class DenseConfig:
    """The `dense` family: one config a stage."""

    autoencoder: DenseAutoencoderConfig = field(default_factory=DenseAutoencoderConfig)
    gan: DenseGanConfig = field(default_factory=DenseGanConfig)
