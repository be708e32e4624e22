"""The training of the flow vocoder: the neural vocoder is frozen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from melodygan_core.config import FlowVocoderConfig
from melodygan_core.dataset import Dataset
from melodygan_core.networks import VALIDATION_TIMES, random_times
from melodygan_core.storage import Store
from melodygan_core.training import EMA, Batch, Preview, Update, Validation, autocast, distributed
from melodygan_core.vocoder.bands import LogBands
from melodygan_core.vocoder.flow.model import FlowVocoder, WaveformFlow, likeliest_end
from melodygan_core.vocoder.flow.spectra import Residual, compress, local_mean, stft_of
from melodygan_core.vocoder.neural import NeuralVocoder
from melodygan_core.vocoder.phase import InitialSpectrum
from melodygan_core.vocoder.task import PREVIEW_WINDOWS, VALIDATION_WINDOW_S, with_initial_phase
from melodygan_core.vocoder.waveforms import WaveformDataset, longest_span

# Errors below this share of the local level are rounding.
MIN_NOISE = 1e-3
VALIDATION_WINDOWS = 32
# Windows that are validated at once.
_PART = 8


@dataclass(frozen=True)
class Problem:
    """Flows of a batch, all (batch, n_fft // 2 + 1, frames) but the conditions.

    Attributes:
        residual: Of the first spectra.
        conditions: (batch, 2 * n_bands, frames), by `FlowVocoder.conditions`.
        noise: Where they start.
        true: Where they end.
        weight: Of squared errors: errors of magnitudes are divided by the root of the true magnitude, as in
            Flow2GAN (arXiv 2512.23278), because quiet parts are heard, too. The magnitude is averaged locally:
            otherwise dips of noise would weigh most, and levels would come out too low.
    """

    residual: Residual
    conditions: Tensor
    noise: Tensor
    true: Tensor
    weight: Tensor

    def error(self, flow: Callable[..., Tensor], time: Tensor) -> Tensor:
        """Weighted squared errors of what a flow predicts at times (batch,), as if it were at time 0."""
        t = time[:, None, None]
        x = torch.lerp(self.noise, self.true, t)
        # The later, the less is left to predict.
        left = (1 - t).square() / ((1 - t).square() + t.square())
        predicted = flow(x, time, self.residual, self.conditions)
        return self.weight * (predicted.float() - self.true).square() / left


class FlowVocoderTask:
    """Trains by the squared error of predicted magnitudes, weighted so that quiet parts count.

    Args:
        dataset: Memory-mapped.
        store: Has the sound.
        neural: Trained, on the device; it is not changed.
        config: The flow and its training.
        device: Where both are.
        work: Folder of the decoded sound.
    """

    betas = (0.9, 0.99)

    def __init__(
        self,
        dataset: Dataset,
        store: Store,
        neural: NeuralVocoder,
        config: FlowVocoderConfig,
        device: torch.device,
        work: Path,
    ) -> None:
        self.config, self.device, self._feature = config, device, dataset.feature
        stems, hop, rate = neural.config.stems, dataset.feature.hop_length, dataset.feature.frame_rate
        self._training = WaveformDataset(dataset, store, "train", stems, config.crop_frames * hop, work)
        # On the CPU: batches are made by a loader thread, so that a GPU does not wait for phases.
        self._cpu_bands, self._initial_spectrum = LogBands(dataset.feature), InitialSpectrum(dataset.feature)
        self.model = FlowVocoder(neural.requires_grad_(False), WaveformFlow(config, dataset.feature)).to(device)
        window = min(longest_span(dataset, "validation", stems), round(VALIDATION_WINDOW_S * rate) * hop)
        validation = WaveformDataset(dataset, store, "validation", stems, window, work)
        wav = validation.evenly_spaced(VALIDATION_WINDOWS)
        self._validation = {"wav": wav, "first": self._first_wavs(wav)}
        self.model.flow.noise_std.copy_(self._error_std().clamp_min(MIN_NOISE))
        self._ema = EMA(self.model.flow, config.ema_decay)
        self.eval_model = self._ema.module
        self.optimized_modules: dict[str, nn.Module] = {"flow": self.model.flow}
        self.stateful_modules: dict[str, nn.Module] = {"ema": self._ema.module}
        rng = torch.Generator().manual_seed(config.optimizer.seed)
        self._white = torch.randn(len(VALIDATION_TIMES), window, generator=rng).to(device)

    def get_batch(self, step: int) -> Batch:
        """`wav` (batch_size, samples), `phase` of the initial spectrum, and the `time` (batch_size,)."""
        rng, count = np.random.default_rng((self.config.optimizer.seed, step)), self.config.optimizer.batch_size
        wav = self._training.sample(count, rng)
        batch = with_initial_phase(wav, self._cpu_bands, self._initial_spectrum)
        return {**batch, "time": random_times(count, rng)}

    def training_step(self, step: int, batch: Batch) -> Iterator[Update]:
        """One update of the flow, at random times."""
        wav, flow = batch["wav"], self.model.flow
        white = distributed.sample_global(len(wav), lambda count: torch.randn(count, wav.shape[1]))
        problem = self._problem(wav, self._first(batch), white.to(self.device))
        with autocast(self.device, wanted=self.config.bfloat16):
            loss = problem.error(flow, batch["time"]).mean()
        yield Update("flow", loss, {"loss": loss})
        self._ema.update(flow, step)

    @torch.no_grad()
    def validate(self, step: int) -> Validation:
        """Error of validation windows at fixed times of the flow: 1 is that of an untrained flow.

        At time 0, `one_step`, this is the error of the neural vocoder's own magnitudes.
        """
        errors = torch.zeros(2, len(VALIDATION_TIMES), device=self.device)
        for part in self._parts():
            without_noise = self._problem(part["wav"], part["first"])
            first = stft_of(part["first"], self._feature, self.model.window)
            for k, (time, white) in enumerate(zip(VALIDATION_TIMES, self._white, strict=True)):
                problem = replace(without_noise, noise=self.model.noise_of(white[None], first))
                at = torch.full((len(first),), time, device=self.device)
                errors[0, k] += problem.error(self.eval_model, at).sum()
                errors[1, k] += problem.error(_untrained, at).sum()
        relative = errors[0] / errors[1]
        loss = float(relative.mean())
        return Validation(loss, {"loss": loss, "one_step": float(relative[0])})

    @torch.no_grad()
    def preview(self) -> Preview:
        """The first validation windows, refined, one after the other."""
        wav, first = (self._validation[k][:PREVIEW_WINDOWS].to(self.device) for k in ("wav", "first"))
        model = FlowVocoder(self.model.neural, self.eval_model).to(self.device)
        white = self._white[:1].expand(len(wav), -1)
        stft = model.refine(first, model.log_bands(wav), white)
        sound = torch.istft(stft, self._feature.n_fft, self._feature.hop_length, window=model.window)
        return Preview(self._feature, wav=sound.flatten().cpu())

    @torch.no_grad()
    def _first(self, batch: Batch) -> Tensor:
        """The neural vocoder's sound (batch, samples)."""
        return self.model.neural(self.model.log_bands(batch["wav"]), phase=batch["phase"])

    @torch.no_grad()
    def _problem(self, wav: Tensor, first_wav: Tensor, white: Tensor | None = None) -> Problem:
        """The flow from a first sound and noise to the true magnitudes, of (batch, samples) each."""
        first, true = (stft_of(w, self._feature, self.model.window) for w in (first_wav, wav))
        residual = Residual(compress(first).abs(), self.model.flow.noise_std)
        weight = (local_mean(true.abs()) + 1e-7).rsqrt().clamp(1e-2, 1e2)
        return Problem(
            residual,
            self.model.conditions(self.model.log_bands(wav), first_wav),
            torch.zeros_like(weight) if white is None else self.model.noise_of(white, first),
            residual.relative(compress(true).abs()),
            weight * residual.unit.square(),
        )

    def _first_wavs(self, wav: Tensor) -> Tensor:
        """The neural vocoder's sound of wavs (n, samples), on the CPU."""
        made = []
        for part in wav.split(_PART):
            batch = with_initial_phase(part, self._cpu_bands, self._initial_spectrum)
            made.append(self._first({name: value.to(self.device) for name, value in batch.items()}).cpu())
        return torch.cat(made)

    def _parts(self) -> Iterator[Batch]:
        """The validation windows, true and by the neural vocoder, in parts, on the device."""
        for start in range(0, len(self._validation["wav"]), _PART):
            yield {k: v[start : start + _PART].to(self.device) for k, v in self._validation.items()}

    @torch.no_grad()
    def _error_std(self) -> Tensor:
        """Root mean square (n_fft // 2 + 1,) of the neural vocoder's error on validation windows."""
        total, count = torch.zeros((), device=self.device), 0
        for part in self._parts():
            true = self._problem(part["wav"], part["first"]).true
            total = total + true.square().sum(dim=(0, 2))
            count += true.shape[0] * true.shape[2]
        return (total / count).sqrt()


def _untrained(relative: Tensor, time: Tensor, residual: Residual, conditions: Tensor) -> Tensor:
    """What an untrained flow predicts."""
    return likeliest_end(relative, time, 0.0, 1.0)
