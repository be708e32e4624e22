"""What the temporal autoencoder is trained on: continuous log-mel, beginning anywhere, at any level.

First autoencoder and error alone. Then the encoder stays as it is, so that latents keep their meaning, and a
critic joins: the mean error averages away what cannot be known exactly, and music without it sounds dead.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from melodygan_core import metrics
from melodygan_core.codec.temporal.model import TemporalAutoencoder
from melodygan_core.config import TemporalAutoencoderConfig
from melodygan_core.dataset import Dataset, SpanDataset
from melodygan_core.networks import PatchDiscriminator, adversarial, feature_matching, hinge
from melodygan_core.training import Batch, Update, Validation, autocast

VALIDATION_CROPS = 256


class TemporalTask:
    """Mean absolute error of crops; log-mel is heavy-tailed at the floor, where squares would spend the effort.

    Args:
        dataset: Memory-mapped.
        config: The model and its training.
        device: Where the model is.
    """

    betas = (0.8, 0.99)

    def __init__(self, dataset: Dataset, config: TemporalAutoencoderConfig, device: torch.device) -> None:
        self.config, self.device, self.feature = config, device, dataset.feature
        frames = config.crop_tokens * config.token_frames
        self._training = SpanDataset(dataset, "train", config.stems, frames)
        self._held = {
            split: torch.from_numpy(
                SpanDataset(dataset, split, config.stems, frames).evenly_spaced(VALIDATION_CROPS)
            )
            for split in ("validation", "test")
        }
        self._floor = math.log(dataset.feature.log_floor)
        self.model = self.eval_model = TemporalAutoencoder(config, dataset.feature)
        self.model.standardise_by(dataset.statistics(config.stems))
        self.model.to(device)
        self.optimized_modules: dict[str, torch.nn.Module] = {"model": self.model}
        self.stateful_modules: dict[str, torch.nn.Module] = {}
        self._joins = config.optimizer.max_steps
        self._critic: PatchDiscriminator | None = None
        if config.adv_weight or config.feature_matching_weight:
            self._joins = round(config.disc_start * config.optimizer.max_steps)
            self._critic = self.optimized_modules["critic"] = PatchDiscriminator(1, config.disc_channels).to(
                device
            )
            # What it is judged by: how far its log-mels of unseen tracks lie from those it has learned from.
            self._real = self._embedded(torch.from_numpy(self._training.evenly_spaced(VALIDATION_CROPS)))
            self._kad_floor = metrics.kad(self._real, self._embedded(self._held["validation"]))

    def get_batch(self, step: int) -> Batch:
        """`log_mel` (batch_size, frames, n_mels), each at a level of its own."""
        rng = np.random.default_rng((self.config.optimizer.seed, step))
        log_mel = self._training.sample(self.config.optimizer.batch_size, rng)
        gain = rng.normal(0, self.config.gain_db * math.log(10) / 20, (len(log_mel), 1, 1))
        log_mel += gain.astype(np.float32)
        return {"log_mel": torch.from_numpy(np.maximum(log_mel, np.float32(self._floor), out=log_mel))}

    def _autocast(self) -> torch.autocast:
        return autocast(self.device, wanted=self.config.bfloat16)

    def training_step(self, step: int, batch: Batch) -> Iterator[Update]:
        """Mean absolute error of a batch, in standardised log-mel; later what the critic says of it as well."""
        log_mel = batch["log_mel"]
        critic = self._critic if step >= self._joins else None
        tokens = self.model.tokens(log_mel)
        with self._autocast():
            with torch.set_grad_enabled(critic is None):
                latents = self.model.encode(log_mel)
            tokens_hat = self.model.decode_tokens(latents).float()
        error = F.l1_loss(tokens_hat, tokens)
        if critic is None:
            yield Update("model", error, {"loss": error})
            return
        real, fake = (t.reshape(len(t), 1, -1, self.feature.n_mels) for t in (tokens, tokens_hat))
        with self._autocast():
            of_real, of_fake = critic(real), critic(fake.detach())
        loss = hinge([of_real], [of_fake])
        # The critic's features of real crops are from before this update: a pass less, and a step's difference.
        yield Update("critic", loss, {"adv/critic": loss})
        with self._autocast():
            judged = critic(fake)
        said, matching = adversarial([judged]), feature_matching([of_real], [judged])
        loss = error + self.config.adv_weight * said + self.config.feature_matching_weight * matching
        yield Update("model", loss, {"loss": error, "adv/model": said, "adv/matching": matching})

    def validate(self, step: int) -> Validation:
        """Error and explained variance of crops of the validation split; with a critic, their KAD as well.

        With a critic the lowest KAD is kept: texture is not where the error is lowest.
        """
        figures = self._judge("validation")
        if self._critic is None:
            return Validation(figures["loss"], figures)
        made = torch.cat([self._through(part) for part in self._held["validation"].split(64)])
        figures["kad"] = metrics.kad(self._real, self._embedded(made))
        figures["kad_floor"] = self._kad_floor
        return Validation(figures["kad"] if step > self._joins else None, figures)

    def _embedded(self, log_mel: Tensor) -> NDArray[np.float64]:
        return metrics.embed(log_mel.transpose(1, 2).numpy(), self.feature.frame_rate)

    @torch.no_grad()
    def _through(self, log_mel: Tensor) -> Tensor:
        self.model.eval()
        made = self.model(log_mel.to(self.device)).cpu()
        self.model.train()
        return made

    @torch.no_grad()
    def _judge(self, split: str) -> dict[str, float]:
        self.model.eval()
        absolute, squared, total, count = 0.0, 0.0, 0.0, 0
        for part in self._held[split].split(64):
            log_mel = part.to(self.device)
            tokens = self.model.tokens(log_mel)
            error = self.model.decode_tokens(self.model.encode(log_mel)) - tokens
            absolute += float(error.abs().sum())
            squared += float(error.square().sum())
            total += float(tokens.square().sum())
            count += tokens.numel()
        self.model.train()
        # Tokens are standardised by the training frames, so that their squares are the variance.
        return {"loss": absolute / count, "explained_variance": 1 - squared / total}

    def report(self) -> dict[str, Any]:
        """Figures on crops of test tracks, and sizes."""
        return {
            **{f"test/{k}": v for k, v in self._judge("test").items()},
            "latent_dim": self.config.latent_dim,
            "latent_rate": self.model.latent_rate,
            "train_frames": self._training.frames,
        }
