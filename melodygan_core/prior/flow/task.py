"""The training of the flow: sequences of latents, masks, the loss, and what is looked at on unseen tracks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from melodygan_core import metrics
from melodygan_core.codec import Codec
from melodygan_core.config import TemporalFlowConfig
from melodygan_core.latents import LatentTable
from melodygan_core.prior.base import LatentSpace, Prior
from melodygan_core.prior.conditions import Conditions
from melodygan_core.prior.editing import Sampling
from melodygan_core.prior.flow.masks import draw_masks, masked_error
from melodygan_core.prior.flow.solver import FlowModel, solve, unknown
from melodygan_core.prior.flow.start import started_state
from melodygan_core.prior.flow.temporal import TemporalFlow
from melodygan_core.prior.flow.whitening import Whitening
from melodygan_core.prior.sequences import DecodedSequences
from melodygan_core.training import EMA, Batch, Preview, Update, Validation, autocast, distributed

VALIDATION_SEQUENCES = 48
# At which the loss on unseen latents is measured.
VALIDATION_TIMES = (0.2, 0.4, 0.6, 0.8)
# Of the samples that a validation listens to.
VALIDATION_STEPS = 8
# Training sequences that samples are searched in for copies, and that directions are computed of.
MAX_SEARCHED, MAX_WHITENED = 512, 4096
_PERCENTILE = 5
_TINY = 1e-12


class FlowTask:
    """Trains the velocity network; evaluates its exponential moving average.

    Args:
        table: Of the codec's latents.
        codec: Decodes what is listened to.
        config: The network and its training.
        device: Where the networks are.
    """

    betas = (0.9, 0.95)
    prior_class: type[TemporalFlow] = TemporalFlow

    def __init__(
        self, table: LatentTable, codec: Codec, config: TemporalFlowConfig, device: torch.device
    ) -> None:
        self.config, self.device, self._codec = config, device, codec
        self._std, self._mean = (torch.from_numpy(v).to(device) for v in (table.std, table.mean))
        self._decoded = DecodedSequences(table, codec, config.window_tokens, VALIDATION_SEQUENCES, device)
        self._sequences = self._decoded.sequences
        self._conditions = Conditions(config.condition, table, self._sequences["train"].rows)
        dim, count = table.latents.shape[2], len(self._conditions.names)

        whitening = Whitening(dim)
        whitening.fit(self._training_latents(table), config.whitening_floor)
        self._network = self.prior_class.network(config, dim, count).to(device)
        self._ema = EMA(self._network, config.ema_decay)
        guide = EMA(self._network, config.ema_decay).module
        self.eval_model = FlowModel(self._ema.module, guide, whitening.to(device))
        self.optimized_modules = {"network": self._network}
        self.stateful_modules = {"average": self.eval_model}
        self._guide_step, self._table = config.guide_step, table
        self._fix_validation(table)

    def _training_latents(self, table: LatentTable) -> Tensor:
        """Latents (n, latent_dim) of training tracks, on the CPU."""
        seen = self._sequences["train"].evenly_spaced(MAX_WHITENED).flatten(0, 1)
        return seen * torch.from_numpy(table.std) + torch.from_numpy(table.mean)

    def start_from(self, pretrained: Prior, space: LatentSpace) -> None:
        """Takes over the networks of a trained flow, its early version, and the directions that they know."""
        given = pretrained.get_submodule("model")
        assert isinstance(given, FlowModel)
        latents = self._training_latents(self._table).to(self.device)
        self.eval_model.whitening.take(given.whitening, latents)
        names, known = space.conditions, pretrained.conditions
        self._network.load_state_dict(started_state(self._network, names, given.network, known, trains=True))
        self._ema.module.load_state_dict(self._network.state_dict())
        guide = self.eval_model.guide
        guide.load_state_dict(started_state(guide, names, given.guide, known, trains=False))
        # The early version is that of the trained flow, which this training never was.
        self._guide_step = 0
        self._hold()

    def _hold(self) -> None:
        """Whitens what every validation uses again."""
        self._held = {
            split: self._whitened(sequences.evenly_spaced(VALIDATION_SEQUENCES).to(self.device))
            for split, sequences in self._sequences.items()
        }

    def _fix_validation(self, table: LatentTable) -> None:
        """Draws what every validation uses again."""
        self._hold()
        rng = torch.Generator().manual_seed(self.config.optimizer.seed)
        drawn = np.random.default_rng(self.config.optimizer.seed)
        dim, tokens = table.latents.shape[2], self.config.window_tokens
        self._noise = torch.randn(VALIDATION_SEQUENCES, tokens, dim, generator=rng).to(self.device)
        self._held_condition, self._held_plan, self._searched = {}, {}, {}
        for split, sequences in self._sequences.items():
            rows = sequences.evenly_spaced_rows(VALIDATION_SEQUENCES)
            self._held_condition[split] = self._moved(self._conditions.first(rows))
            self._held_plan[split] = self._moved(sequences.evenly_spaced_plan(VALIDATION_SEQUENCES))
            at_most = MAX_SEARCHED if split == "train" else VALIDATION_SEQUENCES
            self._searched[split] = self._bins(self._decoded.log_mel(sequences.evenly_spaced(at_most)))
        self._bin_mean = self._searched["train"].mean(dim=(0, 1))
        self._bin_std = self._searched["train"].std(dim=(0, 1)).clamp_min(1e-3)
        self._unseen = self._nearest(self._searched["validation"])
        rows = self._sequences["train"].sample(VALIDATION_SEQUENCES, drawn).rows
        self._condition = self._moved(self._conditions.sample(rows, drawn))
        # What is sampled follows unseen plans, again and again where there are few.
        plan = self._held_plan["validation"]
        self._validation_plan = None if plan is None else plan[torch.arange(VALIDATION_SEQUENCES) % len(plan)]

    @property
    def conditions(self) -> tuple[str, ...]:
        """Names of the conditions."""
        return self._conditions.names

    def _moved(self, condition: Tensor | None) -> Tensor | None:
        return None if condition is None else condition.to(self.device)

    def _whitened(self, standardised: Tensor) -> Tensor:
        return self.eval_model.whitening(standardised * self._std + self._mean)

    def _autocast(self) -> torch.autocast:
        return autocast(self.device, wanted=self.config.bfloat16)

    def get_batch(self, step: int) -> Batch:
        """Standardised latents of a step, with the times, masks, levels and conditions they are trained at."""
        config = self.config
        rng = np.random.default_rng((config.optimizer.seed, step))
        count = config.optimizer.batch_size
        latents, rows, plan = self._sequences["train"].sample(count, rng)
        logit = config.time_mean + config.time_std * rng.standard_normal(count)
        masks = draw_masks(count, config.window_tokens, config.mask_segments, config.mask_prefix, rng)
        gain = config.level_db / 20 * np.log(10) * rng.standard_normal(count)
        gain[rng.random(count) >= config.level_share] = 0
        batch = {
            "latents": latents,
            "time": torch.from_numpy(1 / (1 + np.exp(-logit))).float(),
            "mask": torch.from_numpy(masks)[:, :, None],
            "gain": torch.from_numpy(gain).float(),
            "context_noise": torch.from_numpy(config.context_noise * rng.random(count)).float(),
        }
        if plan is not None:
            batch["plan"] = self._shown_plan(plan, rng)
        condition = self._conditions.sample(rows, rng)
        if condition is None:
            return batch
        condition[torch.from_numpy(rng.random(count) < config.condition_dropout)] = len(self.conditions)
        return {**batch, "condition": condition}

    def _shown_plan(self, plan: Tensor, rng: np.random.Generator) -> Tensor:
        """What a training step sees of the plans (n, tokens, plan.CHANNELS)."""
        return plan

    def training_step(self, step: int, batch: Batch) -> Iterator[Update]:
        """Updates the network, then its averages."""
        data = self._whitened(self._at_levels(batch["latents"], batch["gain"]))
        noise, shaking = (distributed.sample_global(len(data), self._normal) for _ in range(2))
        time, mask = batch["time"][:, None, None], batch["mask"]
        known = data + batch["context_noise"][:, None, None] * shaking
        with self._autocast():
            x = (1 - time) * noise + time * data
            conditions = batch.get("condition"), batch.get("plan")
            made = self._network(x, batch["time"], known, mask, *conditions).float()
        loss = masked_error(made, data - noise, 1 - mask)
        yield Update("network", loss, {"loss": loss})
        self._ema.update(self._network, step)
        if step < self._guide_step:
            self.eval_model.guide.load_state_dict(self._ema.module.state_dict())

    def _normal(self, count: int) -> Tensor:
        shape = (count, self.config.window_tokens, len(self._mean))
        return torch.randn(shape, device=self.device)

    @torch.no_grad()
    def _at_levels(self, standardised: Tensor, gain: Tensor) -> Tensor:
        """Standardised latents, some of them as if their sound were louder or softer.

        What the codec loses by itself is left out: only the difference that the level makes is added.

        Args:
            standardised: (n, tokens, latent_dim).
            gain: (n,) in natural log of magnitude; 0 for none.
        """
        rows = torch.nonzero(gain)[:, 0]
        if not len(rows):
            return standardised
        latents = standardised[rows] * self._std + self._mean
        spectrum, stereo = self._codec.decode(latents)

        def encoded(spectrum: Tensor) -> Tensor:
            columns = {self._codec.feature.spectrum: spectrum}
            return self._codec.encode(columns if stereo is None else {**columns, "stereo": stereo})

        shift = encoded(spectrum + gain[rows][:, None, None]) - encoded(spectrum)
        moved = self._codec.clamp(latents + shift)
        return standardised.index_copy(0, rows, (moved - self._mean) / self._std)

    @torch.no_grad()
    def validate(self, step: int) -> Validation:
        """Loss on unseen latents, KAD to unseen tracks, and whether samples are nearer to training music.

        Weights whose samples are copies are no candidates, so that training stops after `patience` of them.
        """
        decoded = self.decoded(self.eval_model)
        figures = {
            "loss": self._held_loss("validation"),
            "train_loss": self._held_loss("train"),
            **self._decoded.figures(decoded),
            "memorisation_ratio": self._nearest(self._bins(decoded)) / max(self._unseen, 1e-6),
        }
        copies = figures["memorisation_ratio"] < self.config.memorisation_ratio
        return Validation(None if copies else self._score(figures), figures)

    def _score(self, figures: dict[str, float]) -> float:
        """What the best weights have lowest; with fewer than two validation tracks there is no KAD.

        The loss alone is lowest when samples already lie further apart than music does; the KAD alone, of few
        tracks, is noisy.
        """
        loss = math.log(max(figures["loss"], _TINY))
        if self.config.select == "loss" or "kad" not in figures:
            return loss
        return figures["kad"] / 1000 + (loss if self.config.select == "both" else 0.0)

    def _held_loss(self, split: str) -> float:
        """Mean loss of the average at fixed times and noise, where nothing is known."""
        data = self._held[split]
        noise, conditions = self._noise[: len(data)], (self._held_condition[split], self._held_plan[split])
        nothing = torch.zeros_like(data[..., :1])
        losses = []
        for time in VALIDATION_TIMES:
            at = torch.full((len(data),), time, device=self.device)
            with self._autocast():
                x = (1 - time) * noise + time * data
                made = self.eval_model.network(x, at, data, nothing, *conditions).float()
            losses.append(masked_error(made, data - noise, 1 - nothing))
        return float(torch.stack(losses).mean())

    @torch.no_grad()
    def decoded(self, model: FlowModel) -> NDArray[np.float32]:
        """Log-mel (n, frames, n_mels) of what a model makes of noise and validation plans that never change."""
        with self._autocast():
            problem = unknown(self._noise, self._condition, self._validation_plan)
            made = solve(model, problem, Sampling(steps=VALIDATION_STEPS))
        latents = model.whitening.inverse(made.float())
        return self._decoded.log_mel((latents - self._mean) / self._std)

    @torch.no_grad()
    def preview(self) -> Preview:
        """What the average makes of noise that stays the same."""
        condition = None if self._condition is None else self._condition[:1]
        plan = None if self._validation_plan is None else self._validation_plan[:1]
        problem = unknown(self._noise[:1], condition, plan)
        made = solve(self.eval_model, problem, Sampling(steps=VALIDATION_STEPS)).float()
        latents = self.eval_model.whitening.inverse(made[0])
        return self._decoded.preview((latents - self._mean) / self._std)

    def diversity(self, decoded: NDArray[np.floating]) -> float:
        """How far apart what was made lies beside real training sequences; 1 is equal, 0 a constant."""
        return self._decoded.diversity(decoded)

    def _bins(self, log_mel: NDArray[np.float32]) -> Tensor:
        """Log-mel (n, frames, n_mels) -> means over each token (n, tokens, n_mels), on the CPU."""
        return torch.from_numpy(log_mel).unflatten(1, (self.config.window_tokens, -1)).mean(dim=2)

    def _nearest(self, bins: Tensor) -> float:
        """5th percentile of the distances of segments of some bins to the nearest training segment."""
        size = self.config.window_tokens // 4
        flat = (bins - self._bin_mean) / self._bin_std
        queries = {"queries": flat.unflatten(1, (-1, size)).flatten(0, 1)}
        database = (self._searched["train"] - self._bin_mean) / self._bin_std
        found = metrics.nearest_segments(queries, database, size)
        return float(np.percentile(found.distances["queries"].numpy(), _PERCENTILE))

    def prior(self, space: LatentSpace) -> TemporalFlow:
        """The prior with the weights of `eval_model`."""
        made = self.prior_class(self.config, space).to(self.device)
        made.model.load_state_dict(self.eval_model.state_dict())
        return made.eval()

    def report(self) -> dict[str, Any]:
        """Sizes."""
        return {"window_s": self.config.window_tokens / self._codec.latent_rate}
