"""The training of the temporal codec: continuous spectra, from any frame on, at any level.

First the whole codec, by the error alone. Then the encoder is frozen, so that latents keep their meaning, and a
discriminator joins: a mean error averages away what is not determined, and music without it sounds dead.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from melodygan_core import metrics
from melodygan_core.codec.base import Codec
from melodygan_core.codec.crops import EvenCrops, at_random_levels
from melodygan_core.codec.temporal.model import TemporalCodec
from melodygan_core.config import TemporalCodecConfig
from melodygan_core.dataset import Dataset, SpanDataset
from melodygan_core.features import mels_of_spectrum
from melodygan_core.networks import PatchDiscriminator, adv_loss, feature_matching, hinge
from melodygan_core.training import Batch, Preview, Update, Validation, autocast

VALIDATION_CROPS = 256


class TemporalTask:
    """Trains by the mean absolute error of crops.

    Log magnitudes are heavy-tailed at the floor, where squared errors would spend the effort.

    Args:
        dataset: Memory-mapped.
        config: The model and its training.
        device: Where the model is.
    """

    betas = (0.8, 0.99)

    def __init__(self, dataset: Dataset, config: TemporalCodecConfig, device: torch.device) -> None:
        self.config, self.device, self.feature = config, device, dataset.feature
        frames = config.crop_tokens * config.token_frames
        self._training, validation, test = (
            SpanDataset(dataset, split, config.stems, frames) for split in ("train", "validation", "test")
        )
        self._mels_of_spectrum = mels_of_spectrum(dataset.feature)
        self.model = self.eval_model = TemporalCodec(config, dataset.feature)
        statistics = dataset.statistics(config.stems)
        self.model.standardise_by(statistics)
        self.model.to(device)
        columns = self.model.columns
        self._mean = {name: torch.from_numpy(statistics.mean[name]).to(device) for name in columns}
        self._mean_token = self._token_of(self._mean)
        self._crops = {
            "validation": EvenCrops(validation, columns, VALIDATION_CROPS),
            "test": EvenCrops(test, columns, VALIDATION_CROPS),
        }
        self.optimized_modules: dict[str, nn.Module] = {"model": self.model}
        self.stateful_modules: dict[str, nn.Module] = {}
        self._disc_start = config.optimizer.max_steps
        self._discriminator: PatchDiscriminator | None = None
        if config.adv_weight or config.feature_matching_weight:
            self._disc_start = round(config.disc_start * config.optimizer.max_steps)
            self._discriminator = PatchDiscriminator(1, config.disc_channels).to(device)
            self.optimized_modules["discriminator"] = self._discriminator
            # Selection: the distance of reconstructed validation tracks from training tracks, by track.
            self._real = self._embedded(
                torch.from_numpy(self._training.evenly_spaced(VALIDATION_CROPS, self.feature.spectrum))
            )
            self._real_tracks = self._training.evenly_spaced_tracks(VALIDATION_CROPS)
            self._validation_tracks = validation.evenly_spaced_tracks(VALIDATION_CROPS)
            self._kad_groups = metrics.fewest_groups(self._real_tracks, self._validation_tracks)
            if self._kad_groups >= metrics.MIN_GROUPS:
                self._kad_real_baseline = self._kad(self._crops["validation"].columns[self.feature.spectrum])

    def _token_of(self, frame: Batch) -> Tensor:
        """The standardised token (values,) of frames that are all equal, each column (bands,)."""
        size = self.config.token_frames
        return self.model.targets({k: v.expand(1, size, -1) for k, v in frame.items()})[0, 0]

    def start_from(self, pretrained: Codec) -> None:
        """Takes over weights and standardisation: the weights were trained with it."""
        self.model.load_state_dict(pretrained.state_dict())
        self._mean_token = self._token_of(self._mean)

    def get_batch(self, step: int) -> Batch:
        """The codec's columns (batch_size, frames, bands), each example at a random level."""
        rng, count = np.random.default_rng((self.config.optimizer.seed, step)), self.config.optimizer.batch_size
        features = self._training.sample_columns(count, rng, self.model.columns)
        return at_random_levels(features, self.config.gain_db, self.feature, rng)

    def _autocast(self) -> torch.autocast:
        return autocast(self.device, wanted=self.config.bfloat16)

    def training_step(self, step: int, batch: Batch) -> Iterator[Update]:
        """Error of a batch in standardised bands; from `disc_start` on with the adversarial losses."""
        discriminator = self._discriminator if step >= self._disc_start else None
        tokens = self.model.targets(batch)
        with self._autocast():
            with torch.set_grad_enabled(discriminator is None):
                latents = self.model.encode_tokens(tokens)
            tokens_hat = self.model.decode_targets(latents).float()
        error = F.l1_loss(tokens_hat, tokens)
        if discriminator is None:
            yield Update("model", error, {"loss": error})
            return
        bands = tokens.shape[2] - self.feature.n_stereo
        real, fake = (t[..., :bands].reshape(len(t), 1, -1, self.feature.n_bands) for t in (tokens, tokens_hat))
        with self._autocast():
            real_output, fake_output = discriminator(real), discriminator(fake.detach())
        loss = hinge([real_output], [fake_output])
        # The features of real crops are those from before this update: one pass less, one step's difference.
        yield Update("discriminator", loss, {"adv/disc": loss})
        with self._autocast():
            fake_output = discriminator(fake)
        adv, matching = adv_loss([fake_output]), feature_matching([real_output], [fake_output])
        loss = error + self.config.adv_weight * adv + self.config.feature_matching_weight * matching
        yield Update("model", loss, {"loss": error, "adv/gen": adv, "adv/feature_matching": matching})

    def validate(self, step: int) -> Validation:
        """Error and explained variance of validation crops; with a discriminator, their KAD as well.

        With a discriminator the lowest KAD is selected: texture is not best where the error is lowest. KAD is
        computed by track; `kad_groups` is the number of tracks behind it. With fewer than two there is no KAD,
        and the lowest error is selected.
        """
        figures = self._errors("validation")
        if self._discriminator is None:
            return Validation(figures["loss"], figures)
        figures["kad_groups"] = float(self._kad_groups)
        if self._kad_groups >= metrics.MIN_GROUPS:
            figures["kad"] = self._kad(self._reconstructed("validation"))
            figures["kad_real_baseline"] = self._kad_real_baseline
        return Validation(figures.get("kad", figures["loss"]) if step > self._disc_start else None, figures)

    @torch.no_grad()
    def preview(self) -> Preview:
        """The first validation crop after the latents."""
        self.model.eval()
        crop = {name: column[:1] for name, column in next(self._crops["validation"].parts(self.device)).items()}
        spectrum = self.model(crop).spectrum[0].cpu()
        self.model.train()
        return Preview(self.feature, spectrum)

    def _kad(self, validation: Tensor) -> float:
        return metrics.kad(self._real, self._embedded(validation), self._real_tracks, self._validation_tracks)

    def _embedded(self, spectrum: Tensor) -> NDArray[np.float64]:
        log_mel = self._mels_of_spectrum(spectrum)
        return metrics.embed(log_mel.transpose(1, 2).numpy(), self.feature.frame_rate)

    @torch.no_grad()
    def _reconstructed(self, split: str) -> Tensor:
        """Spectra of the crops of a split after the latents (n, frames, n_bands)."""
        self.model.eval()
        made = [self.model(part).spectrum.cpu() for part in self._crops[split].parts(self.device)]
        self.model.train()
        return torch.cat(made)

    @torch.no_grad()
    def _errors(self, split: str) -> dict[str, float]:
        self.model.eval()
        absolute, squared, total, count = 0.0, 0.0, 0.0, 0
        for part in self._crops[split].parts(self.device):
            tokens = self.model.targets(part)
            error = self.model.decode_targets(self.model.encode_tokens(tokens)) - tokens
            absolute += float(error.abs().sum())
            squared += float(error.square().sum())
            # The mean of the training frames is 0 where they gave the standardisation.
            total += float((tokens - self._mean_token).square().sum())
            count += tokens.numel()
        self.model.train()
        return {"loss": absolute / count, "explained_variance": 1 - squared / total}

    def report(self) -> dict[str, Any]:
        """Figures on crops of test tracks, and sizes."""
        return {
            **{f"test/{k}": v for k, v in self._errors("test").items()},
            "latent_dim": self.config.latent_dim,
            "latent_rate": self.model.latent_rate,
            "train_frames": self._training.frames,
        }
