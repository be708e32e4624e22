"""The sets that are compared: real windows, windows through parts of the chain, and generated ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from melodygan_core import metrics
from melodygan_core.config import EvaluationConfig
from melodygan_core.dataset import Dataset, Rows
from melodygan_core.features import FeatureExtractor
from melodygan_core.generation import Piece
from melodygan_core.pipeline import Models


@dataclass(frozen=True)
class Windows:
    """Embedded windows of one kind.

    Attributes:
        embeddings: (n, dim)
        groups: (n,) the track or piece that each window is of.
    """

    embeddings: NDArray[np.float64]
    groups: NDArray[np.int64]


class _Embedder:
    """Windows of log-mel or of sound -> embeddings."""

    def __init__(self, models: Models) -> None:
        self.feature = models.feature
        self._extract = FeatureExtractor(models.feature)
        self._vocoder = models.vocoder

    def log_mel(self, log_mel: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n, n_mels, frames) -> (n, dim)."""
        # The dataset holds float16; everything is rounded alike, so that no set is known by its rounding.
        return metrics.embed(log_mel.astype(np.float16).astype(np.float32), self.feature.frame_rate)

    def wav(self, wav: NDArray[np.float32], frames: int) -> NDArray[np.float64]:
        """(samples,) -> as many whole windows of `frames` as fit (n, dim)."""
        log_mel = self._extract(torch.from_numpy(wav))[0].numpy()
        count = log_mel.shape[1] // frames
        windows = log_mel[:, : count * frames].reshape(len(log_mel), count, frames).transpose(1, 0, 2)
        return self.log_mel(windows)

    def vocoded(self, log_mel: NDArray[np.float32], name: str) -> NDArray[np.float64]:
        """(n, n_mels, frames) -> sound -> (n, dim)."""
        embedded = []
        for k in tqdm(range(len(log_mel)), desc=name, unit="window", mininterval=1.0):
            wav = self._vocoder(torch.from_numpy(log_mel[k : k + 1]), k)[0].numpy()
            embedded.append(self.wav(wav, log_mel.shape[2]))
        return np.concatenate(embedded)


def _rows(
    dataset: Dataset, split: str, stems: tuple[str, ...], config: EvaluationConfig, window_s: float
) -> tuple[Rows, int]:
    """Rows of consecutive segments (n * length) and the length of a window in segments."""
    found = [dataset.windows(split, s, window_s, config.max_windows // len(stems)) for s in stems]
    length = found[0][1]
    rows = [r for r, _ in found]
    return Rows(
        *(np.concatenate([getattr(r, f) for r in rows]) for f in ("shard", "row", "track", "stem"))
    ), length


def _stretch(segments: NDArray[np.float32], length: int, frames: int) -> NDArray[np.float32]:
    """Segments (n * length, segment_frames, n_mels) -> windows (n, n_mels, frames)."""
    joined = segments.reshape(len(segments) // length, -1, segments.shape[2])
    return np.ascontiguousarray(joined[:, :frames].transpose(0, 2, 1))


def reconstructed(dataset: Dataset, rows: Rows, length: int, models: Models) -> NDArray[np.float32]:
    """What the autoencoder makes of windows of `length` segments: (n * length, segment_frames, n_mels)."""
    statistics, size = dataset.statistics(models.stems), dataset.feature.segment_frames
    out = []
    for start in range(0, len(rows), 512 * length):
        part = rows.take(np.arange(start, min(start + 512 * length, len(rows))))
        windows = [
            torch.from_numpy(x).reshape(-1, length * size, x.shape[2])
            for x in (dataset.log_mel(part), dataset.mfcc(part))
        ]
        made = models.reconstruct(windows[0], windows[1], statistics)
        out.append(made.reshape(-1, size, made.shape[2]).numpy())
    return np.concatenate(out)


def windows_of(
    dataset: Dataset, models: Models, made: list[Piece], config: EvaluationConfig, window_s: float
) -> dict[str, Windows]:
    """Windows of one length: `reference`, `floor`, `vocoder`, `autoencoder`, `generated`.

    Raises:
        InputError: a split has too little real sound for windows of this length.
    """
    embedder = _Embedder(models)
    frames = round(window_s * dataset.feature.frame_rate)
    sets: dict[str, Windows] = {}
    for name, split in (("reference", "test"), ("floor", "validation")):
        rows, length = _rows(dataset, split, models.stems, config, window_s)
        windows = _stretch(dataset.log_mel(rows), length, frames)
        sets[name] = Windows(embedder.log_mel(windows), rows.track[::length])
    rows, length = _rows(dataset, "validation", models.stems, config, window_s)
    for name, segments in (
        ("vocoder", dataset.log_mel(rows)),
        ("autoencoder", reconstructed(dataset, rows, length, models)),
    ):
        label = f"{name}, {window_s:g} s"
        sets[name] = Windows(embedder.vocoded(_stretch(segments, length, frames), label), rows.track[::length])
    windows = [embedder.wav(piece.wav, frames) for piece in made]
    groups = np.concatenate([np.full(len(w), i) for i, w in enumerate(windows)])
    sets["generated"] = Windows(np.concatenate(windows), groups)
    return sets
