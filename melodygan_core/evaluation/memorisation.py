"""Whether generated music lies nearer to the training music than unseen music does."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from melodygan_core.dataset import Dataset, Stretches
from melodygan_core.errors import InputError
from melodygan_core.generation import Models, Piece

# Frames that are averaged before comparing: a copy is found wherever it begins, within half of that.
BIN_FRAMES = 8
# Places of the training split that are compared with, evenly spread; 300 MB at 16 bins of 80 bands.
MOST_PLACES = 60_000
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
    # (places, n_mels, size) of each stretch: windows on one array, until some are chosen.
    places = [sequence.unfold(0, size, 1) for sequence in _decoded(dataset, "train", models, size)]
    counts = np.cumsum([len(p) for p in places])
    picked = np.linspace(0, counts[-1] - 1, min(int(counts[-1]), MOST_PLACES)).round().astype(np.int64)
    training = torch.cat(
        [
            p[picked[(picked >= end - len(p)) & (picked < end)] - (end - len(p))]
            for p, end in zip(places, counts, strict=True)
        ]
    ).flatten(1)

    def nearest(sequences: Iterator[Tensor]) -> float:
        queries = torch.cat([sequence.unfold(0, size, size) for sequence in sequences]).flatten(1)
        distances = [torch.cdist(block, training).amin(dim=1) for block in queries.split(64)]
        return float(np.percentile(torch.cat(distances).numpy(), PERCENTILE))

    figures = {
        "memorisation/generated_p5": nearest(_generated(dataset, models, made, size)),
        "memorisation/validation_p5": nearest(_decoded(dataset, "validation", models, size)),
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
    for stretch in tqdm(Stretches(dataset, split, models.stems).all, desc=f"memorised {split}", unit="stretch"):
        part = rows.take(np.arange(first, first + stretch.segments))
        first += stretch.segments
        log_mel, mfcc = (
            torch.from_numpy(x).flatten(0, 1)[None] for x in (dataset.log_mel(part), dataset.mfcc(part))
        )
        yield _binned(dataset, models, models.reconstruct(log_mel, mfcc, statistics)[0], size)


def _generated(dataset: Dataset, models: Models, made: list[Piece], size: int) -> Iterator[Tensor]:
    for piece in made:
        yield _binned(dataset, models, piece.composed.log_mel.T, size)
