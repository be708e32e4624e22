"""What the vocoder is trained on: crops of the project's own sound."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from melodygan_core import metrics
from melodygan_core.config import FeatureConfig, VocoderConfig
from melodygan_core.dataset import Dataset
from melodygan_core.features import mel_filterbank
from melodygan_core.networks import adversarial, feature_matching, hinge
from melodygan_core.storage.store import Store
from melodygan_core.training import Batch, Update, Validation
from melodygan_core.vocoder.losses import MultiResolutionDiscriminator, magnitude, stft_distance
from melodygan_core.vocoder.neural import NeuralVocoder
from melodygan_core.vocoder.waveforms import WaveformDataset, longest

VALIDATION_WINDOWS = 64
VALIDATION_WINDOW_S = 1.5


class LogMel(torch.nn.Module):
    """wav -> log_mel with gradients; the values of `features.FeatureExtractor`.

    Args:
        feature: Sizes and floor.
    """

    filterbank: Tensor

    def __init__(self, feature: FeatureConfig) -> None:
        super().__init__()
        self.feature = feature
        self.register_buffer("filterbank", mel_filterbank(feature))

    def forward(self, wav: Tensor) -> Tensor:
        """(batch, samples) -> (batch, n_mels, frames)."""
        f = self.feature
        # A band is a sum over bins: with their usual floor, silence in a wide one would be far above log_floor.
        mel = self.filterbank.T @ magnitude(wav, f.n_fft, f.hop_length, floor=1e-4 * f.log_floor)
        return mel.clamp_min(f.log_floor).log()


class VocoderTask:
    """Errors of log-mel and spectra; later what critics say of the complex spectra as well.

    Args:
        dataset: Memory-mapped.
        store: Has the sound.
        config: The model and its training.
        device: Where the model is.
        work: A folder for the decoded sound.
    """

    betas = (0.8, 0.99)

    def __init__(
        self, dataset: Dataset, store: Store, config: VocoderConfig, device: torch.device, work: Path
    ) -> None:
        self.config, self.device, self._feature = config, device, dataset.feature
        hop, rate = dataset.feature.hop_length, dataset.feature.frame_rate
        stems = config.stems
        self._training = WaveformDataset(dataset, store, "train", stems, config.crop_frames * hop, work)
        window = min(longest(dataset, s, stems) for s in ("train", "validation"))
        window = min(window, round(VALIDATION_WINDOW_S * rate) * hop)
        self._held = WaveformDataset(dataset, store, "validation", stems, window, work).evenly_spaced(
            VALIDATION_WINDOWS
        )
        self._log_mel = LogMel(dataset.feature).to(device)
        self.model = self.eval_model = NeuralVocoder(config, dataset.feature).to(device)
        self.optimized_modules: dict[str, nn.Module] = {"model": self.model}
        self.stateful_modules: dict[str, nn.Module] = {}
        self._joins, self._critics = config.optimizer.max_steps, None
        if config.adv_weight or config.feature_matching_weight:
            self._joins = round(config.disc_start * config.optimizer.max_steps)
            self._critics = self.optimized_modules["critics"] = MultiResolutionDiscriminator(
                config.disc_channels
            ).to(device)
        # KAD against other tracks: a set is nearer to its own original than any two sets of music are.
        self._real = self._embedded(
            WaveformDataset(dataset, store, "train", stems, window, work).evenly_spaced(VALIDATION_WINDOWS)
        )
        self._kad_floor = metrics.kad(self._real, self._embedded(self._held))

    def get_batch(self, step: int) -> Batch:
        """`wav` (batch_size, samples)."""
        opt = self.config.optimizer
        return {"wav": self._training.sample(opt.batch_size, np.random.default_rng((opt.seed, step)))}

    def training_step(self, step: int, batch: Batch) -> Iterator[Update]:
        """The critics', once they have joined, and the vocoder's."""
        config, wav = self.config, batch["wav"]
        log_mel = self._log_mel(wav)
        wav_hat = self.model(log_mel)
        figures = {
            "recon/mel": F.l1_loss(self._log_mel(wav_hat), log_mel),
            "recon/stft": stft_distance(wav_hat, wav),
        }
        loss = config.mel_weight * figures["recon/mel"] + config.stft_weight * figures["recon/stft"]
        if self._critics is not None and step >= self._joins:
            of_real = self._critics(wav)
            judging = hinge(of_real, self._critics(wav_hat.detach()))
            yield Update("critics", judging, {"adv/critics": judging})
            judged = self._critics(wav_hat)
            figures |= {"adv/model": adversarial(judged), "adv/matching": feature_matching(of_real, judged)}
            loss = loss + config.adv_weight * figures["adv/model"]
            loss = loss + config.feature_matching_weight * figures["adv/matching"]
        yield Update("model", loss, figures)

    @torch.no_grad()
    def validate(self, step: int) -> Validation:
        """Errors of windows of the validation split; how far their KAD to training sound is from the truth's.

        By the latter weights are kept: the errors alone would prefer a vocoder that blurs.
        """
        self.model.eval()
        wav = self._held.to(self.device)
        log_mel = self._log_mel(wav)
        wav_hat = self.model(log_mel)
        self.model.train()
        figures = {
            "log_mel_l1": float(F.l1_loss(self._log_mel(wav_hat), log_mel)),
            "stft": float(stft_distance(wav_hat, wav)),
            "kad": metrics.kad(self._real, self._embedded(wav_hat.cpu())),
            "kad_floor": self._kad_floor,
        }
        candidate = self._critics is None or step > self._joins
        return Validation(abs(figures["kad"] - self._kad_floor) if candidate else None, figures)

    @torch.no_grad()
    def _embedded(self, wav: Tensor) -> NDArray[np.float64]:
        log_mel = torch.cat([self._log_mel(part.to(self.device)).cpu() for part in wav.split(8)])
        return metrics.embed(log_mel.numpy(), self._feature.frame_rate)
