"""A toy codec and a toy prior, outside the package: what somebody writes who adds one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from melodygan_core.codec import Codec, CodecKind, Decoded, Features
from melodygan_core.config import FeatureConfig, OptimizerConfig
from melodygan_core.config.base import ConfigModel
from melodygan_core.dataset import Dataset, SpanDataset
from melodygan_core.features import spectrum_of_mels
from melodygan_core.latents import LatentTable
from melodygan_core.prior import Health, LatentSpace, Prior, PriorKind
from melodygan_core.training import Batch, Update, Validation

_OPTIMIZER = OptimizerConfig(max_steps=6, batch_size=4, warmup_steps=1, eval_every=3, device="cpu")


class ToyCodecConfig(ConfigModel):
    """Averages of frames and bands."""

    stems: tuple[str, ...] = Field(("mix",), description="Stems that are trained on.")
    token_frames: int = Field(4, ge=1, le=64, description="Frames per token.")
    latent_dim: int = Field(5, ge=1, le=64, description="Groups of bands, one latent value each.")
    optimizer: OptimizerConfig = Field(_OPTIMIZER, description="See OptimizerConfig.")


class ToyPriorConfig(ConfigModel):
    """Independent Gaussian latents."""

    optimizer: OptimizerConfig = Field(_OPTIMIZER, description="See OptimizerConfig.")


class ToyCodec(Codec):
    """Each latent is the mean level of a group of bands over a token, times a trained scale."""

    columns = ("log_mel",)
    groups: Tensor

    def __init__(self, config: ToyCodecConfig, feature: FeatureConfig) -> None:
        super().__init__(config, feature)
        self.scale = nn.Parameter(torch.full((config.latent_dim,), 0.5))
        group = torch.arange(feature.n_mels) * config.latent_dim // feature.n_mels
        self.register_buffer("groups", nn.functional.one_hot(group, config.latent_dim).float())
        self.spectrum_of_mels = spectrum_of_mels(feature)

    @property
    def token_frames(self) -> int:
        return self.config.token_frames

    def targets(self, features: Features) -> Tensor:
        means = features["log_mel"].unflatten(1, (-1, self.token_frames)).mean(dim=2)
        return means @ (self.groups / self.groups.sum(dim=0))

    def encode(self, features: Features) -> Tensor:
        return self.targets(features) * self.scale

    def decode_targets(self, latents: Tensor) -> Tensor:
        return latents / self.scale

    def from_targets(self, targets: Tensor) -> Decoded:
        log_mel = (targets @ self.groups.T).repeat_interleave(self.token_frames, dim=1)
        return Decoded(self.spectrum_of_mels(log_mel))


class ToyCodecTask:
    """Trains the scale towards 1."""

    betas = (0.9, 0.99)

    def __init__(self, dataset: Dataset, config: ToyCodecConfig, device: torch.device) -> None:
        self.config = config
        self.model = self.eval_model = ToyCodec(config, dataset.feature).to(device)
        self.optimized_modules = {"model": self.model}
        self.stateful_modules: dict[str, nn.Module] = {}
        self._spans = SpanDataset(dataset, "train", config.stems, config.token_frames)

    def get_batch(self, step: int) -> Batch:
        rng = np.random.default_rng(step)
        count = self.config.optimizer.batch_size
        return {"log_mel": torch.from_numpy(self._spans.sample(count, rng, "log_mel"))}

    def training_step(self, step: int, batch: Batch) -> Iterator[Update]:
        targets = self.model.targets(batch)
        loss = (targets * self.model.scale - targets).square().mean()
        yield Update("model", loss, {"loss": loss})

    def validate(self, step: int) -> Validation:
        loss = float((self.model.scale.detach() - 1).square().mean())
        return Validation(loss, {"loss": loss})

    def report(self) -> dict[str, Any]:
        return {"latent_dim": self.config.latent_dim}


class ToyPrior(Prior):
    """Latents from a Gaussian with a trained width."""

    def __init__(self, config: ToyPriorConfig, space: LatentSpace) -> None:
        super().__init__(config, space)
        self.width = nn.Parameter(torch.ones(space.latent_dim))

    @torch.no_grad()
    def sample(self, tokens: int, seed: int, condition: int | None = None, truncation: float = 0.0) -> Tensor:
        rng = torch.Generator().manual_seed(seed)
        noise = torch.randn(tokens, self.latent_dim, generator=rng).to(self.device)
        return noise * self.width.abs() * self.latent_std + self.latent_mean


class ToyPriorTask:
    """Trains the width towards 1."""

    betas = (0.9, 0.99)
    conditions = ()

    def __init__(self, table: LatentTable, codec: Codec, config: ToyPriorConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self.eval_model = nn.Linear(1, table.latents.shape[2]).to(device)
        nn.init.constant_(self.eval_model.bias, 0.9)
        self.optimized_modules = {"noise": self.eval_model}
        self.stateful_modules: dict[str, nn.Module] = {}

    def get_batch(self, step: int) -> Batch:
        return {"ones": torch.ones(self.config.optimizer.batch_size, 1)}

    def training_step(self, step: int, batch: Batch) -> Iterator[Update]:
        loss = (self.eval_model(batch["ones"]) - 1).square().mean()
        yield Update("noise", loss, {"loss": loss})

    def validate(self, step: int) -> Validation:
        loss = float((self.eval_model.bias.detach() - 1).square().mean())
        return Validation(loss, {"loss": loss})

    def prior(self, space: LatentSpace) -> Prior:
        made = ToyPrior(self.config, space).to(self.device)
        made.width.data.copy_(self.eval_model.bias)
        return made.eval()

    def report(self) -> dict[str, Any]:
        return {}


def check(prior: Prior, table: LatentTable, codec: Codec, device: torch.device) -> Health:
    """How wide the samples are beside the latents."""
    made = prior.sample(500, seed=1) - prior.latent_mean
    diversity = float((made.std(dim=0) / prior.latent_std).mean())
    return Health(bool(made.isfinite().all()), diversity, (0.3, 3.0))


CODEC = CodecKind(ToyCodec, ToyCodecTask)
PRIOR = PriorKind(ToyPrior, ToyPriorTask, check)
