"""Whether generated music lies nearer to the training music than unseen music does."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from melodygan_core.dataset import Dataset, SpanDataset
from melodygan_core.errors import InputError
from melodygan_core.generation import Piece
from melodygan_core.pipeline import Models

# Frames that are averaged before comparing: a copy is found wherever it begins, within half of that.
BIN_FRAMES = 8
PERCENTILE = 5


def memorisation(dataset: Dataset, models: Models, made: list[Piece]) -> dict[str, float]:
    """Distances from segments to the nearest place of the training split, of generated and of unseen music.

    All are compared as the autoencoder decodes them, in standardised log-mel averaged in bins; a generated set
    that lies nearer to the training music than unseen real music does has learned it by heart. Training music
    is looked through bin by bin, because a copy need not begin where the table cut it.

    Args:
        dataset: That the models were trained on.
        models: Whose autoencoder decodes.
        made: Generated pieces.

    Returns:
        `memorisation/{generated,validation}_p5`, 5th percentiles, and their `memorisation/ratio`.

    Raises:
        InputError: validation holds copies of training music.
    """
    size = -(-dataset.feature.segment_frames // BIN_FRAMES)
    queries = {
        "generated": _generated(dataset, models, made, size),
        "validation": _decoded(dataset, "validation", models, size),
    }
    segments = {
        name: torch.cat([sequence.unfold(0, size, size) for sequence in sequences]).flatten(1)
        for name, sequences in queries.items()
    }
    nearest = {name: torch.full((len(values),), torch.inf) for name, values in segments.items()}
    # One stretch at a time: memory does not grow with the library.
    for sequence in _decoded(dataset, "train", models, size):
        places = sequence.unfold(0, size, 1).flatten(1)
        for name, values in segments.items():
            nearest[name] = torch.minimum(nearest[name], torch.cdist(values, places).amin(dim=1))
    figures = {
        f"memorisation/{name}_p5": float(np.percentile(distances.numpy(), PERCENTILE))
        for name, distances in nearest.items()
    }
    if figures["memorisation/validation_p5"] < 1e-3:
        raise InputError("validation holds copies of training segments (distance 0): remove the duplicates")
    figures["memorisation/ratio"] = figures["memorisation/generated_p5"] / figures["memorisation/validation_p5"]
    return figures


def _binned(dataset: Dataset, models: Models, log_mel: Tensor, size: int) -> Tensor:
    """log_mel (frames, n_mels) -> standardised bins (bins, n_mels), at least `size`."""
    statistics = dataset.statistics(models.stems)
    mean, std = (torch.from_numpy(v) for v in (statistics.log_mel_mean, statistics.log_mel_std))
    missing = max(size * BIN_FRAMES - len(log_mel), -len(log_mel) % BIN_FRAMES)
    padded = F.pad(log_mel.T[None], (0, missing), mode="replicate")[0].T
    return ((padded - mean) / std).unflatten(0, (-1, BIN_FRAMES)).mean(dim=1)


def _decoded(dataset: Dataset, split: str, models: Models, size: int) -> Iterator[Tensor]:
    """Every stretch of a split as the autoencoder decodes it, binned."""
    statistics, rows = dataset.statistics(models.stems), dataset.rows(split, models.stems)
    first = 0
    for span in tqdm(SpanDataset(dataset, split, models.stems).all, desc=f"memorised {split}", unit="stretch"):
        part = rows.take(np.arange(first, first + span.segments))
        first += span.segments
        log_mel, mfcc = (
            torch.from_numpy(x).flatten(0, 1)[None] for x in (dataset.log_mel(part), dataset.mfcc(part))
        )
        yield _binned(dataset, models, models.reconstruct(log_mel, mfcc, statistics)[0], size)


def _generated(dataset: Dataset, models: Models, made: list[Piece], size: int) -> Iterator[Tensor]:
    for piece in made:
        yield _binned(dataset, models, piece.composed.log_mel.T, size)
