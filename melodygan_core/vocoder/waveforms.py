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
from melodygan_core.storage import Store
from melodygan_core.training import distributed

_FULL_SCALE = 32768.0


class WaveformDataset:
    """Crops of the mono 16-bit sound of a split: all spans of usable segments, one after the other in one file.

    The sound is decoded and resampled once, because doing that for every crop would cost more than a training
    step.

    Args:
        dataset: Which segments are usable.
        store: Has the raw wavs and stems.
        split: `train`, `validation` or `test`.
        stems: Which stems.
        samples: Length of a crop.
        folder: Of the file; it is written again if it is missing or incomplete.

    Raises:
        InputError: no span has that many samples.
    """

    def __init__(
        self, dataset: Dataset, store: Store, split: str, stems: Sequence[str], samples: int, folder: Path
    ) -> None:
        feature = dataset.feature
        segment = feature.segment_frames * feature.hop_length
        spans = SpanDataset(dataset, split, stems).all
        length = np.array([s.segments * segment for s in spans])
        self._tracks = np.array([s.track for s in spans])
        self._sampler = CropSampler(np.cumsum(length) - length, length, samples)
        if not self._sampler:
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
        """Random crops (count, samples), float32 in [-1, 1)."""
        return self._crops(self._sampler.sample(count, rng)[0])

    def evenly_spaced(self, at_most: int) -> Tensor:
        """Crops (n, samples) that do not overlap, spread evenly over all spans."""
        return self._crops(self._sampler.evenly_spaced(at_most)[0])

    def evenly_spaced_tracks(self, at_most: int) -> NDArray[np.int64]:
        """Returns the track (n,), an index into the dataset's tracks, of each wav of `evenly_spaced`."""
        return self._tracks[self._sampler.evenly_spaced(at_most)[1]]

    def _crops(self, starts: NDArray[np.int64]) -> Tensor:
        wavs = np.stack([self._values[s : s + self.samples] for s in starts])
        return torch.from_numpy(wavs.astype(np.float32) / _FULL_SCALE)


def longest_span(dataset: Dataset, split: str, stems: Sequence[str]) -> int:
    """Samples of the longest span of a split: short tracks are evaluated in shorter windows.

    Raises:
        InputError: the split has none.
    """
    feature = dataset.feature
    segments = max(s.segments for s in SpanDataset(dataset, split, stems).all)
    return segments * feature.segment_frames * feature.hop_length


def _decode(dataset: Dataset, store: Store, spans: Sequence, segment: int, path: Path) -> None:
    """Writes the sound of all spans to one file, which appears by an atomic rename."""
    rate = dataset.feature.sample_rate
    temporary = path.with_suffix(".tmp")
    opened: tuple[int, int] | None = None
    wav = np.empty(0, dtype=np.float32)
    with temporary.open("wb") as file:
        for span in tqdm(spans, desc="sound", unit="span"):
            if opened != (span.track, span.stem):
                opened = (span.track, span.stem)
                wav = track_sound(dataset, store, span.track, STEMS[span.stem], rate)
            first = span.position * segment
            part = wav[first : first + span.segments * segment]
            padded = np.pad(part, (0, span.segments * segment - len(part)))
            file.write(
                np.clip(np.rint(padded * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1).astype("<i2").tobytes()
            )
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def track_sound(dataset: Dataset, store: Store, track: int, stem: str, rate: int) -> NDArray[np.float32]:
    """Mono sound (samples,) of a stem of a track, at a rate in Hz."""
    track_id = dataset.tracks[track]["track_id"]
    path = store.raw_wav(track_id)
    if stem != "mix":
        path = store.stems(dataset.separation_id, track_id) / f"{stem}.wav"
    with store.reading(path) as local:
        wav, from_rate = audio.read_wav(local)
    return audio.resample(audio.to_mono(wav), from_rate, rate)
