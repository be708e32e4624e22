"""Training task of the vocoder: crops of the dataset's sound."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from melodygan_core import metrics
from melodygan_core.config import VocoderConfig
from melodygan_core.dataset import Dataset
from melodygan_core.features import mel_filterbank
from melodygan_core.networks import adv_loss, feature_matching, hinge
from melodygan_core.storage import Store
from melodygan_core.training import Batch, Preview, Update, Validation
from melodygan_core.vocoder.bands import LogBands
from melodygan_core.vocoder.losses import MultiResolutionDiscriminator, stft_distance
from melodygan_core.vocoder.neural import NeuralVocoder
from melodygan_core.vocoder.phase import InitialSpectrum, pad_to_window
from melodygan_core.vocoder.waveforms import WaveformDataset, longest_span

VALIDATION_WINDOWS = 64
VALIDATION_WINDOW_S = 1.5
PREVIEW_WINDOWS = 2


def with_initial_phase(wav: Tensor, bands: LogBands, initial_spectrum: InitialSpectrum) -> Batch:
    """`wav` (batch, samples), and `phase` (batch, n_fft // 2 + 1, frames) of its initial spectrum."""
    return {"wav": wav, "phase": initial_spectrum(pad_to_window(bands(wav), bands.feature))[1]}


class VocoderTask:
    """Trains the vocoder by errors of log bands and STFT; from `disc_start` on by discriminators as well.

    Args:
        dataset: Memory-mapped.
        store: Has the sound.
        config: The model and its training.
        device: Where the model is.
        work: Folder of the decoded sound.
    """

    betas = (0.8, 0.99)

    def __init__(
        self, dataset: Dataset, store: Store, config: VocoderConfig, device: torch.device, work: Path
    ) -> None:
        self.config, self.device, self._feature = config, device, dataset.feature
        hop, rate = dataset.feature.hop_length, dataset.feature.frame_rate
        stems = config.stems
        self._training = WaveformDataset(dataset, store, "train", stems, config.crop_frames * hop, work)
        window = min(longest_span(dataset, s, stems) for s in ("train", "validation"))
        window = min(window, round(VALIDATION_WINDOW_S * rate) * hop)
        # On the CPU: batches are made by a loader thread, so that the GPU does not wait for phases.
        self._cpu_spectrum, self._initial_spectrum = LogBands(dataset.feature), InitialSpectrum(dataset.feature)
        validation = WaveformDataset(dataset, store, "validation", stems, window, work)
        self._validation = self._with_phase(validation.evenly_spaced(VALIDATION_WINDOWS))
        self._spectrum = LogBands(dataset.feature).to(device)
        self._log_mel = LogBands(dataset.feature, mel_filterbank(dataset.feature)).to(device)
        self.model = self.eval_model = NeuralVocoder(config, dataset.feature).to(device)
        self.optimized_modules: dict[str, nn.Module] = {"model": self.model}
        self.stateful_modules: dict[str, nn.Module] = {}
        self._disc_start, self._discriminator = config.optimizer.max_steps, None
        if config.adv_weight or config.feature_matching_weight:
            self._disc_start = round(config.disc_start * config.optimizer.max_steps)
            self._discriminator = MultiResolutionDiscriminator(
                config.disc_channels, dataset.feature.sample_rate
            ).to(device)
            self.optimized_modules["discriminator"] = self._discriminator
        # KAD to other tracks: a set is nearer to its own original than any two sets of music are.
        real = WaveformDataset(dataset, store, "train", stems, window, work)
        self._real = self._embedded(real.evenly_spaced(VALIDATION_WINDOWS))
        self._real_tracks = real.evenly_spaced_tracks(VALIDATION_WINDOWS)
        self._validation_tracks = validation.evenly_spaced_tracks(VALIDATION_WINDOWS)
        self._kad_groups = metrics.fewest_groups(self._real_tracks, self._validation_tracks)
        if self._kad_groups >= metrics.MIN_GROUPS:
            self._kad_real_baseline = self._kad(self._validation["wav"])

    def _with_phase(self, wav: Tensor) -> Batch:
        return with_initial_phase(wav, self._cpu_spectrum, self._initial_spectrum)

    def get_batch(self, step: int) -> Batch:
        """`wav` (batch_size, samples) and `phase` (batch_size, n_fft // 2 + 1, frames) of its spectrum."""
        opt = self.config.optimizer
        return self._with_phase(self._training.sample(opt.batch_size, np.random.default_rng((opt.seed, step))))

    def training_step(self, step: int, batch: Batch) -> Iterator[Update]:
        """Updates the discriminator, from `disc_start` on, and the vocoder."""
        config, wav, discriminator = self.config, batch["wav"], self._discriminator
        spectrum = self._spectrum(wav)
        wav_hat = self.model(spectrum, phase=batch["phase"])
        figures = {
            "recon/bands": F.l1_loss(self._spectrum(wav_hat), spectrum),
            "recon/stft": stft_distance(wav_hat, wav, self._feature.sample_rate),
        }
        loss = config.mel_weight * figures["recon/bands"] + config.stft_weight * figures["recon/stft"]
        if discriminator is not None and step >= self._disc_start:
            real_output = discriminator(wav)
            disc_loss = hinge(real_output, discriminator(wav_hat.detach()))
            yield Update("discriminator", disc_loss, {"adv/disc": disc_loss})
            fake_output = discriminator(wav_hat)
            adv, matching = adv_loss(fake_output), feature_matching(real_output, fake_output)
            loss = loss + config.adv_weight * adv
            loss = loss + config.feature_matching_weight * matching
            figures |= {"adv/gen": adv, "adv/feature_matching": matching}
        yield Update("model", loss, figures)

    @torch.no_grad()
    def validate(self, step: int) -> Validation:
        """Errors of windows of the validation split, and their KAD to training sound.

        The loss is the distance of that KAD to the KAD of the real windows: errors alone prefer a vocoder that
        blurs. Weights from before the discriminators started are no candidate. KAD is computed by track;
        `kad_groups` is the number of tracks behind it. With fewer than two there is no KAD, and the loss is the
        weighted error.
        """
        self.model.eval()
        wav, phase = (self._validation[k].to(self.device) for k in ("wav", "phase"))
        spectrum = self._spectrum(wav)
        wav_hat = self.model(spectrum, phase=phase)
        self.model.train()
        figures = {
            "log_bands_l1": float(F.l1_loss(self._spectrum(wav_hat), spectrum)),
            "stft": float(stft_distance(wav_hat, wav, self._feature.sample_rate)),
            "kad_groups": float(self._kad_groups),
        }
        loss = self.config.mel_weight * figures["log_bands_l1"] + self.config.stft_weight * figures["stft"]
        if self._kad_groups >= metrics.MIN_GROUPS:
            figures["kad"] = self._kad(wav_hat.cpu())
            figures["kad_real_baseline"] = self._kad_real_baseline
            loss = abs(figures["kad"] - self._kad_real_baseline)
        candidate = self._discriminator is None or step > self._disc_start
        return Validation(loss if candidate else None, figures)

    @torch.no_grad()
    def preview(self) -> Preview:
        """The first validation windows from their spectra, one after the other."""
        self.model.eval()
        wav, phase = (self._validation[k][:PREVIEW_WINDOWS].to(self.device) for k in ("wav", "phase"))
        wav_hat = self.model(self._spectrum(wav), phase=phase)
        self.model.train()
        return Preview(self._feature, wav=wav_hat.flatten().cpu())

    def _kad(self, wav: Tensor) -> float:
        return metrics.kad(self._real, self._embedded(wav), self._real_tracks, self._validation_tracks)

    @torch.no_grad()
    def _embedded(self, wav: Tensor) -> NDArray[np.float64]:
        log_mel = torch.cat([self._log_mel(part.to(self.device)).cpu() for part in wav.split(8)])
        return metrics.embed(log_mel.numpy(), self._feature.frame_rate)
