"""Consecutive latents of a table, and how sequences that a prior makes compare with them once decoded."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from melodygan_core import metrics
from melodygan_core.codec import Codec
from melodygan_core.dataset import CropSampler
from melodygan_core.errors import InputError
from melodygan_core.features import mels_of_spectrum
from melodygan_core.latents import LatentTable
from melodygan_core.training import Preview

WINDOW_S = 3.0


class Crops(NamedTuple):
    """Consecutive latents of a table.

    Attributes:
        latents: (n, tokens, latent_dim), standardised.
        rows: (n,) the table's row that each begins in.
        plan: (n, tokens, plan.CHANNELS), or None for a table without plans.
    """

    latents: Tensor
    rows: NDArray[np.int64]
    plan: Tensor | None


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
        self._plan = None if table.plan is None else table.plan.reshape(-1, table.plan.shape[2])
        # Of the table, in which a sequence may begin.
        self.rows = np.concatenate(
            [np.arange(first[k], first[k] + length[k] // per_row) for k in self._sampler.span]
        )

    def sample(self, count: int, rng: np.random.Generator) -> Crops:
        """Random sequences."""
        return self._taken(self._sampler.sample(count, rng)[0])

    def evenly_spaced(self, at_most: int) -> Tensor:
        """Sequences (n, tokens, latent_dim) that do not overlap, evenly over all of them."""
        return self._taken(self._sampler.evenly_spaced(at_most)[0]).latents

    def evenly_spaced_plan(self, at_most: int) -> Tensor | None:
        """Returns the plans (n, tokens, plan.CHANNELS) of `evenly_spaced`; None for a table without plans."""
        return self._taken(self._sampler.evenly_spaced(at_most)[0]).plan

    def evenly_spaced_tracks(self, at_most: int) -> NDArray[np.str_]:
        """Returns the track id (n,) of each sequence of `evenly_spaced`."""
        return self._track_id[self._sampler.evenly_spaced(at_most)[0] // self.per_row]

    def evenly_spaced_rows(self, at_most: int) -> NDArray[np.int64]:
        """Returns the table's row (n,) that each sequence of `evenly_spaced` begins in."""
        return self._sampler.evenly_spaced(at_most)[0] // self.per_row

    def _taken(self, starts: NDArray[np.int64]) -> Crops:
        index = starts[:, None] + np.arange(self.tokens)
        plan = None if self._plan is None else torch.from_numpy(self._plan[index].astype(np.float32))
        return Crops(torch.from_numpy(self._latents[index]), starts // self.per_row, plan)


class DecodedSequences:
    """Evenly spaced sequences of training and of validation, decoded, as what a prior makes is compared with.

    Args:
        table: Of the codec's latents.
        codec: Decodes them.
        tokens: Of each sequence.
        count: Most sequences of each split.
        device: Of the codec.

    Raises:
        InputError: a split has no consecutive latents of that length.
    """

    def __init__(self, table: LatentTable, codec: Codec, tokens: int, count: int, device: torch.device) -> None:
        self._codec, self._device = codec, device
        self._mels_of_spectrum = mels_of_spectrum(codec.feature)
        self._std, self._mean = (torch.from_numpy(v).to(device) for v in (table.std, table.mean))
        self.sequences = {split: Sequences(table, split, tokens) for split in ("train", "validation")}
        self._real = {
            split: self.embedded(self.log_mel(s.evenly_spaced(count))) for split, s in self.sequences.items()
        }
        # Every sequence gives the same number of windows, one after the other.
        self._tracks = {
            split: np.repeat(tracks := s.evenly_spaced_tracks(count), len(self._real[split]) // len(tracks))
            for split, s in self.sequences.items()
        }
        self._kad_groups = metrics.fewest_groups(*self._tracks.values())
        if self._kad_groups >= metrics.MIN_GROUPS:
            # What a perfect memory of the training set would get.
            self._kad_real_baseline = metrics.kad(
                self._real["validation"], self._real["train"], self._tracks["validation"], self._tracks["train"]
            )

    @torch.no_grad()
    def log_mel(self, standardised: Tensor) -> NDArray[np.float32]:
        """Standardised latents (n, tokens, latent_dim) -> log-mel (n, frames, n_mels)."""
        latents = standardised.to(self._device) * self._std + self._mean
        return self._mels_of_spectrum(self._codec.decode(latents).spectrum.cpu()).numpy()

    @torch.no_grad()
    def preview(self, standardised: Tensor) -> Preview:
        """Standardised latents (tokens, latent_dim) of one piece -> what the codec decodes them to."""
        latents = standardised.to(self._device) * self._std + self._mean
        return Preview(self._codec.feature, self._codec.decode(latents[None]).spectrum[0].cpu())

    def embedded(self, log_mel: NDArray[np.floating]) -> NDArray[np.float64]:
        """The evaluation's embedding of every whole 3 s of log-mel (n, frames, n_mels)."""
        rate = self._codec.feature.frame_rate
        frames = min(round(WINDOW_S * rate), log_mel.shape[1])
        count = log_mel.shape[1] // frames
        windows = log_mel[:, : count * frames].reshape(-1, frames, log_mel.shape[2])
        return metrics.embed(windows.transpose(0, 2, 1), rate)

    def diversity(self, decoded: NDArray[np.floating]) -> float:
        """How far apart what was made lies beside real training sequences; 1 is equal, 0 a constant."""
        return metrics.mean_distance(self.embedded(decoded)) / metrics.mean_distance(self._real["train"])

    def figures(self, decoded: NDArray[np.floating]) -> dict[str, float]:
        """Returns the KAD to validation by track, that of real training sequences, and diversity.

        `kad_groups` is the number of tracks behind the KAD; with fewer than two there is no KAD.
        """
        figures = {"diversity": self.diversity(decoded), "kad_groups": float(self._kad_groups)}
        if self._kad_groups < metrics.MIN_GROUPS:
            return figures
        embedded = self.embedded(decoded)
        pieces = np.repeat(np.arange(len(decoded)), len(embedded) // len(decoded))
        figures["kad"] = metrics.kad(self._real["validation"], embedded, self._tracks["validation"], pieces)
        figures["kad_real_baseline"] = self._kad_real_baseline
        return figures
