"""The training of a refiner: the codec is frozen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from melodygan_core import metrics
from melodygan_core.codec.base import Codec, Features
from melodygan_core.codec.crops import EvenCrops, at_random_levels
from melodygan_core.codec.refiner.model import MIN_NOISE, Refiner
from melodygan_core.config import RefinerConfig
from melodygan_core.dataset import Dataset, SpanDataset
from melodygan_core.features import mels_of_spectrum
from melodygan_core.networks import VALIDATION_TIMES, random_times
from melodygan_core.training import EMA, Batch, Update, Validation, autocast, distributed

VALIDATION_CROPS = 256


class RefinerTask:
    """Trains by the squared error of the predicted targets, in units of the decoder's own error.

    Args:
        dataset: Memory-mapped.
        codec: Trained, on the device; it is not changed.
        config: The refiner and its training.
        device: Where both are.
    """

    betas = (0.9, 0.99)

    def __init__(self, dataset: Dataset, codec: Codec, config: RefinerConfig, device: torch.device) -> None:
        self.config, self.device, self.codec = config, device, codec.requires_grad_(False)
        self._training, validation, test = (
            SpanDataset(dataset, split, codec.stems, codec.crop_frames)
            for split in ("train", "validation", "test")
        )
        self._validation, self._test = (
            EvenCrops(spans, codec.columns, VALIDATION_CROPS) for spans in (validation, test)
        )
        tokens = codec.crop_frames // codec.token_frames
        values = codec.targets(next(self._validation.parts(device))).shape[2]
        self.model = Refiner(config, values, codec.latent_dim).to(device)
        self.model.noise_std.copy_(self._decoder_error().clamp_min(MIN_NOISE))
        self._ema = EMA(self.model, config.ema_decay)
        self.eval_model = self._ema.module
        self.optimized_modules: dict[str, nn.Module] = {"refiner": self.model}
        self.stateful_modules: dict[str, nn.Module] = {"ema": self._ema.module}
        rng = torch.Generator().manual_seed(config.optimizer.seed)
        self._noise = torch.randn(len(VALIDATION_TIMES), tokens, values, generator=rng).to(device)
        self._test_tracks = test.evenly_spaced_tracks(VALIDATION_CROPS)

    def start_from(self, pretrained: Refiner) -> None:
        """Takes over the weights; the noise is as strong as the error of this codec, not of the other one."""
        state = pretrained.state_dict()
        self.model.load_state_dict({**state, "noise_std": self.model.noise_std})
        self._ema.module.load_state_dict(self.model.state_dict())

    def get_batch(self, step: int) -> Batch:
        """The codec's columns (batch_size, frames, bands), at random levels, and the `time` of each example."""
        rng, count = np.random.default_rng((self.config.optimizer.seed, step)), self.config.optimizer.batch_size
        features = self._training.sample_columns(count, rng, self.codec.columns)
        batch = at_random_levels(features, self.config.gain_db, self.codec.feature, rng)
        return {**batch, "time": random_times(count, rng)}

    @torch.no_grad()
    def _coded(self, features: Features) -> tuple[Tensor, Tensor, Tensor]:
        """True targets, decoded targets and latents of a batch on the device."""
        latents = self.codec.encode(features)
        return self.codec.targets(features), self.codec.decode_targets(latents).float(), latents

    def training_step(self, step: int, batch: Batch) -> Iterator[Update]:
        """One update of the refiner, at random times of the flow."""
        true, decoded, latents = self._coded(batch)
        time = batch["time"]
        noise = distributed.sample_global(len(true), lambda count: torch.randn(count, *true.shape[1:]))
        start = decoded + self.model.noise_std * noise.to(self.device)
        x = torch.lerp(start, true, time[:, None, None])
        with autocast(self.device, wanted=self.config.bfloat16):
            predicted = self.model(x, time, decoded, latents)
        loss = ((predicted.float() - true) / self.model.noise_std).square().mean()
        yield Update("refiner", loss, {"loss": loss})
        self._ema.update(self.model, step)

    @torch.no_grad()
    def validate(self, step: int) -> Validation:
        """Error of validation crops at fixed times of the flow: 1 is the decoder's own error."""
        total = 0.0
        for part in self._validation.parts(self.device):
            true, decoded, latents = self._coded(part)
            for time, noise in zip(VALIDATION_TIMES, self._noise, strict=True):
                x = torch.lerp(decoded + self.model.noise_std * noise, true, time)
                predicted = self.eval_model(x, x.new_full((len(x),), time), decoded, latents)
                error = ((predicted - true) / self.model.noise_std).square().mean(dim=(1, 2))
                total += float(error.sum()) / len(VALIDATION_TIMES)
        loss = total / len(self._validation)
        return Validation(loss, {"loss": loss})

    @torch.no_grad()
    def _decoder_error(self) -> Tensor:
        """Root mean square of the decoder's error on validation crops (values,)."""
        total, count = torch.zeros((), device=self.device), 0
        for part in self._validation.parts(self.device):
            true, decoded, _ = self._coded(part)
            total = total + (decoded - true).square().sum(dim=(0, 1))
            count += true.shape[0] * true.shape[1]
        return (total / count).sqrt()

    def report(self) -> dict[str, Any]:
        """Distance of reconstructed test crops from the true ones, with and without the refiner, by track.

        `test/kad` and `test/kad_without` are None where there are fewer than two test tracks.
        """
        return {"values": len(self.model.noise_std), **self._kad()}

    @torch.no_grad()
    def _kad(self) -> dict[str, float | None]:
        if metrics.fewest_groups(self._test_tracks) < metrics.MIN_GROUPS:
            return {"test/kad": None, "test/kad_without": None}
        made: dict[str, list[Tensor]] = {"real": [], "with": [], "without": []}
        for part in self._test.parts(self.device):
            _, decoded, latents = self._coded(part)
            made["real"].append(part[self.codec.feature.spectrum])
            made["without"].append(self.codec.from_targets(decoded).spectrum)
            made["with"].append(self.codec.from_targets(self.eval_model.sample(decoded, latents)).spectrum)
        embedded = {name: self._embedded(torch.cat(parts).cpu()) for name, parts in made.items()}
        kad = {
            name: metrics.kad(
                embedded["real"], embedded[name], self._test_tracks, self._test_tracks, shared_groups=True
            )
            for name in ("with", "without")
        }
        return {"test/kad": kad["with"], "test/kad_without": kad["without"]}

    def _embedded(self, spectrum: Tensor) -> NDArray[np.float64]:
        log_mel = mels_of_spectrum(self.codec.feature)(spectrum)
        return metrics.embed(log_mel.transpose(1, 2).numpy(), self.codec.feature.frame_rate)
