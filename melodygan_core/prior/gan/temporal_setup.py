"""What the temporal GAN is trained on: pairs of neighbouring patches, measured on their decoded log-mel."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from melodygan_core import metrics
from melodygan_core.codec.temporal import TemporalCodec
from melodygan_core.config import TemporalGanConfig
from melodygan_core.dataset import CropSampler
from melodygan_core.errors import InputError
from melodygan_core.latents import LatentTable
from melodygan_core.prior.base import LatentSpace
from melodygan_core.prior.conditions import Conditions
from melodygan_core.prior.gan.layers import coordinates
from melodygan_core.prior.gan.temporal import Discriminator, Generator, TemporalGan
from melodygan_core.training import Batch, distributed

VALIDATION_PAIRS = 64
WINDOW_S = 3.0


class Sequences:
    """The consecutive latents of a split, drawn from at any token.

    Args:
        table: Standardised.
        split: Which.
        tokens: Of what is drawn.

    Raises:
        InputError: no consecutive latents are that many.
    """

    def __init__(self, table: LatentTable, split: str, tokens: int) -> None:
        rows = np.flatnonzero(table.split == split)
        per_row = table.latents.shape[1]
        same = (np.diff(rows) == 1) & (np.diff(table.index[rows]) == 1)
        same &= (table.track_id[rows[1:]] == table.track_id[rows[:-1]]) & (
            table.stem[rows[1:]] == table.stem[rows[:-1]]
        )
        edges = np.flatnonzero(np.concatenate([[True], ~same, [True]]))
        first, length = rows[edges[:-1]], np.diff(edges) * per_row
        self._sampler = CropSampler(first * per_row, length, tokens)
        if not self._sampler:
            raise InputError(
                f"{split} has no {tokens} consecutive latents; the longest are {length.max(initial=0)}"
            )
        self.tokens, self.per_row = tokens, per_row
        self._track_id = table.track_id
        self._latents = table.latents.reshape(-1, table.latents.shape[2])
        # Of the table, in which a sequence may begin.
        self.rows = np.concatenate(
            [np.arange(first[k], first[k] + length[k] // per_row) for k in self._sampler.span]
        )

    def sample(self, count: int, rng: np.random.Generator) -> tuple[Tensor, NDArray[np.int64]]:
        """Random sequences (count, tokens, latent_dim), and the table's row that each begins in."""
        return self._taken(self._sampler.sample(count, rng)[0])

    def evenly_spaced(self, at_most: int) -> Tensor:
        """Sequences (n, tokens, latent_dim) that do not overlap, evenly over all of them."""
        return self._taken(self._sampler.evenly_spaced(at_most)[0])[0]

    def evenly_spaced_tracks(self, at_most: int) -> NDArray[np.str_]:
        """Returns the track id (n,) of each sequence of `evenly_spaced`."""
        return self._track_id[self._sampler.evenly_spaced(at_most)[0] // self.per_row]

    def _taken(self, starts: NDArray[np.int64]) -> tuple[Tensor, NDArray[np.int64]]:
        taken = self._latents[starts[:, None] + np.arange(self.tokens)]
        return torch.from_numpy(taken), starts // self.per_row


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
        self._std, self._mean = (torch.from_numpy(v).to(device) for v in (table.std, table.mean))
        pair = 2 * config.patch_tokens
        self._training = Sequences(table, "train", pair)
        self.conditions = Conditions(config.condition, table, self._training.rows)
        latent_dim, count = table.latents.shape[2], len(self.conditions.names)
        self.generator = Generator(config, latent_dim, count).to(device)
        self.discriminator = Discriminator(config, latent_dim, count).to(device)

        held = Sequences(table, "validation", pair)
        sequences = {"train": self._training, "validation": held}
        self._real = {
            split: self._embedded(self._log_mel(s.evenly_spaced(VALIDATION_PAIRS)))
            for split, s in sequences.items()
        }
        # Every pair gives the same number of windows, one after the other.
        self._real_tracks = {
            split: np.repeat(
                tracks := s.evenly_spaced_tracks(VALIDATION_PAIRS), len(self._real[split]) // len(tracks)
            )
            for split, s in sequences.items()
        }
        self._kad_groups = metrics.fewest_groups(*self._real_tracks.values())
        if self._kad_groups >= metrics.MIN_GROUPS:
            # What a perfect memory of the training set would get.
            self._kad_real_baseline = metrics.kad(
                self._real["validation"],
                self._real["train"],
                self._real_tracks["validation"],
                self._real_tracks["train"],
            )
        rng = torch.Generator().manual_seed(config.optimizer.seed)
        self._fixed_noise = self.noise(VALIDATION_PAIRS, rng)
        drawn = np.random.default_rng(config.optimizer.seed)
        _, rows = self._training.sample(VALIDATION_PAIRS, drawn)
        self._fixed_condition = self._moved(self.conditions.sample(rows, drawn))

    def _moved(self, condition: Tensor | None) -> Tensor | None:
        return None if condition is None else condition.to(self.device)

    def get_batch(self, step: int) -> Batch:
        """`latents` (batch_size, 2 * patch_tokens, latent_dim), standardised pairs, and `condition`, if any."""
        rng = np.random.default_rng((self.config.optimizer.seed, step))
        latents, rows = self._training.sample(self.config.optimizer.batch_size, rng)
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
    def _log_mel(self, standardised: Tensor) -> NDArray[np.float32]:
        latents = standardised.to(self.device) * self._std + self._mean
        return self._decoder.decode(latents).cpu().numpy()

    def _embedded(self, log_mel: NDArray[np.floating]) -> NDArray[np.float64]:
        """The evaluation's embedding of every whole 3 s of log-mel (n, frames, n_mels)."""
        rate = self._decoder.feature.frame_rate
        frames = min(round(WINDOW_S * rate), log_mel.shape[1])
        count = log_mel.shape[1] // frames
        windows = log_mel[:, : count * frames].reshape(-1, frames, log_mel.shape[2])
        return metrics.embed(windows.transpose(0, 2, 1), rate)

    @torch.no_grad()
    def decoded(self, generator: nn.Module) -> NDArray[np.float32]:
        """Log-mel (n, frames, n_mels) of what a generator makes of noise that stays the same."""
        return self._log_mel(generator(self._fixed_noise, self._fixed_condition))

    def diversity(self, decoded: NDArray[np.floating]) -> float:
        """How far apart what was made lies beside real training pairs; 1 is equal, 0 a constant."""
        return metrics.mean_distance(self._embedded(decoded)) / metrics.mean_distance(self._real["train"])

    def figures(self, generator: nn.Module) -> dict[str, float]:
        """Returns the KAD to validation by track, that of real training pairs, and diversity.

        `kad_groups` is the number of tracks behind the KAD; with fewer than two there is no KAD.
        """
        made = self.decoded(generator)
        figures = {"diversity": self.diversity(made), "kad_groups": float(self._kad_groups)}
        if self._kad_groups < metrics.MIN_GROUPS:
            return figures
        embedded = self._embedded(made)
        pieces = np.repeat(np.arange(len(made)), len(embedded) // len(made))
        figures["kad"] = metrics.kad(
            self._real["validation"], embedded, self._real_tracks["validation"], pieces
        )
        figures["kad_real_baseline"] = self._kad_real_baseline
        return figures

    def report(self) -> dict[str, Any]:
        """Sizes."""
        return {"patch_s": self.config.patch_tokens / self._decoder.latent_rate}

    def build(self, space: LatentSpace, generator: nn.Module) -> TemporalGan:
        """The prior with the weights of a generator."""
        prior = TemporalGan(self.config, space).to(self.device)
        prior.generator.load_state_dict(generator.state_dict())
        return prior.eval()
