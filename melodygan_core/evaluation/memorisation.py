"""Whether generated music lies nearer to the training music than unseen music does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from melodygan_core.codec import Features
from melodygan_core.dataset import Dataset, Span, SpanDataset
from melodygan_core.errors import InputError
from melodygan_core.features import mels_of_spectrum
from melodygan_core.metrics import nearest_segments

# Frames per bin. A copy is found wherever it begins, within half a bin.
BIN_FRAMES = 8
PERCENTILE = 5
# Bounds of the work, whatever the size of the library: 500,000 bins are about 13 hours at 86 frames per second
# and are searched in minutes on two cores. Smaller libraries are searched in full.
MAX_QUERIES = 2048
MAX_DATABASE_BINS = 500_000
# Validation spans are decoded in full and their segments are then thinned out to MAX_QUERIES.
_MAX_DECODED_QUERIES = 16 * MAX_QUERIES

# Columns of features, each (1, frames, bands) -> spectrum_hat (1, frames, n_bands)
Reconstruct = Callable[[Features], Tensor]


def choose_evenly(lengths: Sequence[int], at_most: int) -> list[tuple[int, int]]:
    """Chooses sequences, spread evenly over all of them, whose lengths sum to at most `at_most`.

    Sequence k has the rank k * 0.618... modulo 1 in the order of choice, so that the first of them, however
    many, are spread evenly. The last one chosen is cut off where the sum is reached. Deterministic.

    Args:
        lengths: Length of each sequence.
        at_most: Largest sum of lengths, at least 1.

    Returns:
        (index, length) of each chosen sequence, by index; all in full if they fit.
    """
    golden = (np.sqrt(5) - 1) / 2
    chosen, left = [], at_most
    for index in np.argsort(np.arange(len(lengths)) * golden % 1.0, kind="stable"):
        if left == 0:
            break
        length = min(lengths[index], left)
        chosen.append((int(index), length))
        left -= length
    return sorted(chosen)


def memorisation(
    dataset: Dataset,
    stems: Sequence[str],
    reconstruct: Reconstruct,
    generated: Iterable[Tensor],
    max_queries: int = MAX_QUERIES,
    max_database_bins: int = MAX_DATABASE_BINS,
) -> dict[str, float]:
    """Compares distances to the nearest training segment, of generated and of unseen real segments.

    All sounds are compared as the codec decodes them, in log-mel standardised by the training frames and
    averaged in bins. A generated set that lies nearer to the training music than validation music does has
    memorised it.

    The work is bounded: at most `max_queries` segments of each kind against at most `max_database_bins` bins
    of training music, both spread evenly over all tracks. Where only the share f of the training music is
    searched, a copy is found with probability f. The percentile behind the ratio is therefore 5 x f, so that
    the share of copies that lowers it is the same 5 % as in a full search. The smaller f, the fewer segments
    decide, down to the nearest one alone.

    Args:
        dataset: What the models were trained on.
        stems: Stems of the models.
        reconstruct: Codec: columns of features, each (1, frames, bands) of whole segments -> spectrum_hat.
        generated: Log-mel (frames, n_mels) of each generated piece, by `features.mels_of_spectrum`.
        max_queries: Most segments of each kind, at least 1.
        max_database_bins: Most bins of training music, at least the bins of one segment.

    Returns:
        `memorisation/{generated,validation}_p5`: 5th percentiles of the distances.
        `memorisation/ratio`: The quotient of the two at `memorisation/percentile`, which is 5 in a full search.
        `memorisation/compared_segments`, `memorisation/compared_segments_of`: Positions in training music that
        were searched, and that there are.
        `memorisation/{generated,validation}_segments`: Segments that were searched for.
        `memorisation/comparisons`: Distances computed.

    Raises:
        InputError: validation holds copies of training music.
    """
    decode = _Decoder(dataset, stems, reconstruct)
    queries = {
        "generated": _thinned((decode.binned(log_mel) for log_mel in generated), decode.size, max_queries),
        "validation": _thinned(decode.split("validation", _MAX_DECODED_QUERIES), decode.size, max_queries),
    }
    training = decode.split("train", max(1, max_database_bins // decode.size))
    found = nearest_segments(queries, training, decode.size)
    total = decode.positions("train")
    percentile = PERCENTILE * found.positions / total
    figures: dict[str, float] = {}
    for name, distances in found.distances.items():
        figures[f"memorisation/{name}_p5"] = float(np.percentile(distances.numpy(), PERCENTILE))
        figures[f"memorisation/{name}_segments"] = len(distances)
    low, unseen = (
        float(np.percentile(found.distances[name].numpy(), percentile)) for name in ("generated", "validation")
    )
    if unseen < 1e-3:
        raise InputError("validation holds copies of training segments (distance 0): remove the duplicates")
    return figures | {
        "memorisation/ratio": low / unseen,
        "memorisation/percentile": percentile,
        "memorisation/compared_segments": found.positions,
        "memorisation/compared_segments_of": total,
        "memorisation/comparisons": found.comparisons,
    }


def _thinned(sequences: Iterable[Tensor], size: int, at_most: int) -> Tensor:
    """Returns at most so many segments (n, size, n_mels) of binned sequences, evenly spaced."""
    segments = torch.cat([sequence.unfold(0, size, size).transpose(1, 2) for sequence in sequences])
    chosen = np.linspace(0, len(segments) - 1, min(len(segments), at_most)).round().astype(np.int64)
    return segments[torch.from_numpy(chosen)]


class _Decoder:
    """Spans of a dataset as the codec decodes them, binned and standardised.

    Attributes:
        size: Bins per segment.
    """

    def __init__(self, dataset: Dataset, stems: Sequence[str], reconstruct: Reconstruct) -> None:
        self._dataset, self._stems, self._reconstruct = dataset, stems, reconstruct
        self._mels_of_spectrum = mels_of_spectrum(dataset.feature)
        statistics = dataset.statistics(stems)
        self._mean = torch.from_numpy(statistics.mean["log_mel"])
        self._std = torch.from_numpy(statistics.std["log_mel"])
        self.size = -(-dataset.feature.segment_frames // BIN_FRAMES)

    def _spans(self, split: str) -> list[Span]:
        return SpanDataset(self._dataset, split, self._stems).all

    def positions(self, split: str) -> int:
        """Returns the number of positions at which a segment may begin in a split."""
        bins = [
            max(self.size, -(-s.segments * self._dataset.feature.segment_frames // BIN_FRAMES))
            for s in self._spans(split)
        ]
        return sum(bins) - len(bins) * (self.size - 1)

    def binned(self, log_mel: Tensor) -> Tensor:
        """log_mel (frames, n_mels) -> standardised bins (bins, n_mels), at least one segment."""
        missing = max(self.size * BIN_FRAMES - len(log_mel), -len(log_mel) % BIN_FRAMES)
        padded = F.pad(log_mel.T[None], (0, missing), mode="replicate")[0].T
        return ((padded - self._mean) / self._std).unflatten(0, (-1, BIN_FRAMES)).mean(dim=1)

    def split(self, split: str, max_segments: int) -> Iterator[Tensor]:
        """Yields spans (bins, n_mels) of a split, of at most so many segments together."""
        spans, rows = self._spans(split), self._dataset.rows(split, self._stems)
        first = np.cumsum([0, *(s.segments for s in spans)])
        chosen = choose_evenly([s.segments for s in spans], max_segments)
        for index, segments in tqdm(chosen, desc=f"memorisation: {split}", unit="span"):
            part = rows.take(np.arange(first[index], first[index] + segments))
            columns = self._dataset.columns(part, tuple(self._dataset.feature.columns))
            spectrum = self._reconstruct({k: v.flatten(0, 1)[None] for k, v in columns.items()})[0]
            yield self.binned(self._mels_of_spectrum(spectrum))
