"""The sets that are compared: real windows, windows through parts of the chain, and generated ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from melodygan_core import audio, metrics
from melodygan_core.config import EvaluationConfig
from melodygan_core.dataset import Dataset, Rows
from melodygan_core.features import FeatureExtractor
from melodygan_core.generation import Piece
from melodygan_core.pipeline import Pipeline
from melodygan_core.storage import Store
from melodygan_core.vocoder.waveforms import track_sound

# Windows that go through the vocoder at once.
VOCODED = 16
# Excerpts that the pitch figures are measured on.
PITCH_S, PITCH_TRACKS = 6.0, 12


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

    def __init__(self, pipeline: Pipeline) -> None:
        self.feature = pipeline.feature
        self._extract = FeatureExtractor(pipeline.feature)
        self._pipeline = pipeline

    def log_mel(self, log_mel: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n, n_mels, frames) -> (n, dim)."""
        # The dataset holds float16; everything is rounded alike, so that no set is known by its rounding.
        return metrics.embed(log_mel.astype(np.float16).astype(np.float32), self.feature.frame_rate)

    def wav(self, wav: NDArray[np.float32], frames: int) -> NDArray[np.float64]:
        """(samples,) -> as many whole windows of `frames` as fit (n, dim)."""
        log_mel = self._extract(torch.from_numpy(wav))["log_mel"].numpy()
        count = log_mel.shape[1] // frames
        windows = log_mel[:, : count * frames].reshape(len(log_mel), count, frames).transpose(1, 0, 2)
        return self.log_mel(windows)

    def vocoded(self, spectrum: NDArray[np.float32], name: str) -> NDArray[np.float64]:
        """Spectra (n, n_bands, frames) -> sound -> (n, dim)."""
        embedded = []
        for start in tqdm(range(0, len(spectrum), VOCODED), desc=name, unit="batch", mininterval=1.0):
            part = torch.from_numpy(spectrum[start : start + VOCODED])
            for wav in self._pipeline.vocode(part, start).numpy():
                embedded.append(self.wav(wav, spectrum.shape[2]))
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


def to_windows(segments: NDArray[np.float32], length: int, frames: int) -> NDArray[np.float32]:
    """Segments (n * length, segment_frames, bands) -> windows (n, bands, frames)."""
    joined = segments.reshape(len(segments) // length, -1, segments.shape[2])
    return np.ascontiguousarray(joined[:, :frames].transpose(0, 2, 1))


def reconstructed(dataset: Dataset, rows: Rows, length: int, pipeline: Pipeline) -> NDArray[np.float32]:
    """Windows of `length` segments through the codec: (n * length, segment_frames, n_bands)."""
    size = dataset.feature.segment_frames
    out = []
    for start in range(0, len(rows), 512 * length):
        part = rows.take(np.arange(start, min(start + 512 * length, len(rows))))
        columns = dataset.columns(part, pipeline.codec.columns)
        made = pipeline.reconstruct(
            {name: x.reshape(-1, length * size, x.shape[2]) for name, x in columns.items()}
        ).spectrum
        out.append(made.reshape(-1, size, made.shape[2]).numpy())
    return np.concatenate(out)


def windows_of(
    dataset: Dataset, pipeline: Pipeline, made: list[Piece], config: EvaluationConfig, window_s: float
) -> dict[str, Windows]:
    """Windows of one length: `reference`, `real_baseline`, `vocoder`, `codec`, `generated`.

    Raises:
        InputError: a split has too little real sound for windows of this length.
    """
    embedder = _Embedder(pipeline)
    frames = round(window_s * dataset.feature.frame_rate)
    sets: dict[str, Windows] = {}
    for name, split in (("reference", "test"), ("real_baseline", "validation")):
        rows, length = _rows(dataset, split, pipeline.stems, config, window_s)
        windows = to_windows(dataset.column(rows, "log_mel"), length, frames)
        sets[name] = Windows(embedder.log_mel(windows), rows.track[::length])
    rows, length = _rows(dataset, "validation", pipeline.stems, config, window_s)
    for name, segments in (
        ("vocoder", dataset.column(rows, dataset.feature.spectrum)),
        ("codec", reconstructed(dataset, rows, length, pipeline)),
    ):
        label = f"{name}, {window_s:g} s"
        sets[name] = Windows(
            embedder.vocoded(to_windows(segments, length, frames), label), rows.track[::length]
        )
    windows = [embedder.wav(audio.to_mono(piece.wav), frames) for piece in made]
    groups = np.concatenate([np.full(len(w), i) for i, w in enumerate(windows)])
    sets["generated"] = Windows(np.concatenate(windows), groups)
    return sets


def pitch_pairs(
    dataset: Dataset, store: Store, pipeline: Pipeline
) -> dict[str, list[tuple[NDArray[np.float32], NDArray[np.float32]]]]:
    """Excerpts of validation tracks and what vocoder and codec make of them, one per track at most.

    Returns:
        `vocoder` and `codec` to pairs of mono wavs (original, reconstruction) at the features' rate.
    """
    feature, stem = dataset.feature, pipeline.stems[0]
    rows, length = dataset.windows("validation", stem, PITCH_S, 10_000)
    first = [np.flatnonzero(rows.track == track)[0] for track in np.unique(rows.track)][:PITCH_TRACKS]
    picked = rows.take(np.concatenate([np.arange(f, f + length) for f in first]))
    frames = length * feature.segment_frames
    starts = dataset.start(picked)[::length] * feature.segment_frames * feature.hop_length
    originals = []
    for track, start in zip(picked.track[::length], starts, strict=True):
        sound = track_sound(dataset, store, int(track), stem, feature.sample_rate)
        originals.append(sound[start : start + frames * feature.hop_length])
    pairs = {}
    for name, segments in (
        ("vocoder", dataset.column(picked, feature.spectrum)),
        ("codec", reconstructed(dataset, picked, length, pipeline)),
    ):
        wavs = pipeline.vocode(torch.from_numpy(to_windows(segments, length, frames))).numpy()
        pairs[name] = [(real[: len(wav)], wav[: len(real)]) for real, wav in zip(originals, wavs, strict=True)]
    return pairs
