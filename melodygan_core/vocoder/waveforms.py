"""The sound of a dataset's usable segments, at the features' rate, memory-mapped for training."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from melodygan_core import audio
from melodygan_core.config import STEMS
from melodygan_core.dataset import CropSampler, Dataset, SpanDataset
from melodygan_core.errors import InputError
from melodygan_core.storage.store import Store
from melodygan_core.training import distributed

_FULL_SCALE = 32768.0


class WaveformDataset:
    """Mono 16-bit sound of every stretch of usable segments of a split, one after the other in one file.

    Decoding and resampling a crop for every example would cost more than the training step, so it is done once.

    Args:
        dataset: What is usable, and where.
        store: Has the raw wavs and stems.
        split: Which.
        stems: Which.
        samples: Of what is drawn.
        folder: Where the file is kept; it is made again when it is not there.

    Raises:
        InputError: no stretch is that long.
    """

    def __init__(
        self, dataset: Dataset, store: Store, split: str, stems: Sequence[str], samples: int, folder: Path
    ) -> None:
        feature = dataset.feature
        segment = feature.segment_frames * feature.hop_length
        spans = SpanDataset(dataset, split, stems).all
        length = np.array([s.segments * segment for s in spans])
        self._places = CropSampler(np.cumsum(length) - length, length, samples)
        if not self._places:
            raise InputError(
                f"{split} has no {samples / feature.sample_rate:.1f} s of usable {', '.join(stems)}"
            )
        path = folder / f"{dataset.version}-{split}-{'-'.join(stems)}.i16"
        with distributed.main_process_first():
            if not path.exists() or path.stat().st_size != 2 * int(length.sum()):
                _decode(dataset, store, spans, segment, path)
        self._values = np.memmap(path, dtype="<i2", mode="r")
        self.samples = samples

    def sample(self, count: int, rng: np.random.Generator) -> Tensor:
        """Random wavs (count, samples) float32."""
        return self._taken(self._places.sample(count, rng)[0])

    def evenly_spaced(self, at_most: int) -> Tensor:
        """Wavs (n, samples) that do not overlap, evenly over all stretches."""
        return self._taken(self._places.evenly_spaced(at_most)[0])

    def _taken(self, starts: NDArray[np.int64]) -> Tensor:
        wavs = np.stack([self._values[s : s + self.samples] for s in starts])
        return torch.from_numpy(wavs.astype(np.float32) / _FULL_SCALE)


def longest(dataset: Dataset, split: str, stems: Sequence[str]) -> int:
    """Samples of the longest stretch of a split: short tracks are measured, too, in shorter windows.

    Raises:
        InputError: there is none.
    """
    feature = dataset.feature
    segments = max(s.segments for s in SpanDataset(dataset, split, stems).all)
    return segments * feature.segment_frames * feature.hop_length


def _decode(dataset: Dataset, store: Store, spans: Sequence, segment: int, path: Path) -> None:
    """Writes the sound of all stretches, the file by atomic rename."""
    rate = dataset.feature.sample_rate
    temporary = path.with_suffix(".tmp")
    opened: tuple[int, int] | None = None
    wav = np.empty(0, dtype=np.float32)
    with temporary.open("wb") as file:
        for span in tqdm(spans, desc="sound", unit="stretch"):
            if opened != (span.track, span.stem):
                opened = (span.track, span.stem)
                wav = _mono(dataset, store, span.track, STEMS[span.stem], rate)
            first = span.position * segment
            part = wav[first : first + span.segments * segment]
            padded = np.pad(part, (0, span.segments * segment - len(part)))
            file.write(
                np.clip(np.rint(padded * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1).astype("<i2").tobytes()
            )
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _mono(dataset: Dataset, store: Store, track: int, stem: str, rate: int) -> NDArray[np.float32]:
    track_id = dataset.tracks[track]["track_id"]
    path = store.raw_wav(track_id)
    if stem != "mix":
        path = store.stems(dataset.separation_id, track_id) / f"{stem}.wav"
    with store.reading(path) as local:
        wav, from_rate = audio.read_wav(local)
    return audio.resample(audio.to_mono(wav), from_rate, rate)
