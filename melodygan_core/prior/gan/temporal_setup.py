"""What the temporal GAN is trained on: pairs of neighbouring patches, measured on their decoded log-mel."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from melodygan_core.codec.temporal import TemporalCodec
from melodygan_core.config import TemporalGanConfig
from melodygan_core.latents import LatentTable
from melodygan_core.prior.base import LatentSpace
from melodygan_core.prior.conditions import Conditions
from melodygan_core.prior.gan.layers import coordinates
from melodygan_core.prior.gan.temporal import Discriminator, Generator, TemporalGan
from melodygan_core.prior.sequences import DecodedSequences
from melodygan_core.training import Batch, Preview, distributed

VALIDATION_PAIRS = 64


class TemporalGanSetup:
    """Pairs of patches of training latents, against pairs that the generator makes.

    Args:
        table: Of the autoencoder's latents.
        decoder: The autoencoder.
        config: The models and their training.
        device: Where the models are.
    """

    def __init__(
        self, table: LatentTable, decoder: TemporalCodec, config: TemporalGanConfig, device: torch.device
    ) -> None:
        self.config, self.device, self._decoder = config, device, decoder
        self.r1_target, self.bfloat16 = config.r1_target, config.bfloat16
        pair = 2 * config.patch_tokens
        self._decoded = DecodedSequences(table, decoder, pair, VALIDATION_PAIRS, device)
        self._training = self._decoded.sequences["train"]
        self.conditions = Conditions(config.condition, table, self._training.rows)
        latent_dim, count = table.latents.shape[2], len(self.conditions.names)
        self.generator = Generator(config, latent_dim, count).to(device)
        self.discriminator = Discriminator(config, latent_dim, count).to(device)
        rng = torch.Generator().manual_seed(config.optimizer.seed)
        self._fixed_noise = self.noise(VALIDATION_PAIRS, rng)
        drawn = np.random.default_rng(config.optimizer.seed)
        rows = self._training.sample(VALIDATION_PAIRS, drawn).rows
        self._fixed_condition = self._moved(self.conditions.sample(rows, drawn))

    def _moved(self, condition: Tensor | None) -> Tensor | None:
        return None if condition is None else condition.to(self.device)

    def get_batch(self, step: int) -> Batch:
        """`latents` (batch_size, 2 * patch_tokens, latent_dim), standardised pairs, and `condition`, if any."""
        rng = np.random.default_rng((self.config.optimizer.seed, step))
        latents, rows, _ = self._training.sample(self.config.optimizer.batch_size, rng)
        condition = self.conditions.sample(rows, rng)
        return {"latents": latents} if condition is None else {"latents": latents, "condition": condition}

    def noise(self, count: int, rng: torch.Generator | None = None) -> Tensor:
        """Input of two patches with margins, anywhere between anchors (count, tokens, noise_dim)."""
        c = self.config
        tokens, spacing = 2 * c.patch_tokens + 2 * c.margin, c.anchor_patches * c.patch_tokens
        anchors = 2 + -(-tokens // spacing)
        first = torch.randint(spacing, (count,), generator=rng)
        style = torch.randn(count, anchors, c.style_dim, generator=rng)
        global_style = torch.randn(count, 1, c.global_dim, generator=rng).expand(-1, tokens, -1)
        local_noise = torch.randn(count, tokens, c.local_dim + 2 * c.stages, generator=rng)
        local_style = coordinates(style, tokens, spacing, first)
        return torch.cat([local_style, global_style, local_noise], dim=2).to(self.device)

    def fake(self, count: int, condition: Tensor | None) -> Tensor:
        """What the generator makes now (count, 2 * patch_tokens, latent_dim), with gradients."""
        return self.generator(distributed.sample_global(count, self.noise), condition)

    def augment(self, latents: Tensor) -> Tensor:
        """What the discriminator sees of real and generated pairs: other levels, and some channels not at all.

        Differentiable and the same for both, so that it does not leak into what is made (arXiv 2006.10738).
        """
        if not self.config.augment:
            return latents
        augment, device, (count, _, dim) = self.config.augment, self.device, latents.shape
        gain = 1 + augment * distributed.sample_global(count, lambda n: torch.randn(n, 1, 1, device=device))
        channel_mask = (
            distributed.sample_global(count, lambda n: torch.rand(n, 1, dim, device=device)) >= augment
        )
        return latents * gain * channel_mask

    @torch.no_grad()
    def decoded(self, generator: nn.Module) -> NDArray[np.float32]:
        """Log-mel (n, frames, n_mels) of what a generator makes of noise that stays the same."""
        return self._decoded.log_mel(generator(self._fixed_noise, self._fixed_condition))

    @torch.no_grad()
    def preview(self, generator: nn.Module) -> Preview:
        """The first of these samples."""
        condition = None if self._fixed_condition is None else self._fixed_condition[:1]
        return self._decoded.preview(generator(self._fixed_noise[:1], condition)[0])

    def diversity(self, decoded: NDArray[np.floating]) -> float:
        """How far apart what was made lies beside real training pairs; 1 is equal, 0 a constant."""
        return self._decoded.diversity(decoded)

    def figures(self, generator: nn.Module) -> dict[str, float]:
        """Returns the KAD to validation by track, that of real training pairs, and diversity."""
        return self._decoded.figures(self.decoded(generator))

    def report(self) -> dict[str, Any]:
        """Sizes."""
        return {"patch_s": self.config.patch_tokens / self._decoder.latent_rate}

    def build(self, space: LatentSpace, generator: nn.Module) -> TemporalGan:
        """The prior with the weights of a generator."""
        prior = TemporalGan(self.config, space).to(self.device)
        prior.generator.load_state_dict(generator.state_dict())
        return prior.eval()
