"""Continuous log-mel of any length, across the segments that the table cuts it into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from melodygan_core.config import require
from melodygan_core.dataset.crops import CropSampler
from melodygan_core.dataset.reading import Dataset
from melodygan_core.errors import InputError


@dataclass(frozen=True)
class Span:
    """Consecutive usable segments of one stem of one track.

    Attributes:
        shard: Index into the dataset's shards.
        row: Of its first segment within the shard.
        segments: How many.
        track: Index into the dataset's tracks.
        stem: Index into STEMS.
        position: Of its first segment in the track, in segments.
    """

    shard: int
    row: int
    segments: int
    track: int
    stem: int
    position: int


class SpanDataset:
    """All stretches of a split, read where they lie.

    Args:
        dataset: Memory-mapped.
        split: Which.
        stems: Which.
        fewest_frames: Shorter stretches are left out.

    Raises:
        InputError: none is that long.
    """

    def __init__(self, dataset: Dataset, split: str, stems: Sequence[str], fewest_frames: int = 1) -> None:
        self.dataset = dataset
        self.fewest_frames = fewest_frames
        found = _find(dataset, split, stems)
        length = np.array([s.segments for s in found]) * dataset.feature.segment_frames
        # Counted as if all stretches lay one after the other.
        self._first = np.cumsum(length) - length
        self._places = CropSampler(self._first, length, fewest_frames)
        if not self._places:
            raise InputError(f"{split} has no {fewest_frames} frames of consecutive usable {', '.join(stems)}")
        self._shard = np.array([s.shard for s in found])
        self._begins = np.array([s.row for s in found]) * dataset.feature.segment_frames
        self.all = [found[k] for k in self._places.span]

    def __len__(self) -> int:
        return len(self.all)

    @property
    def frames(self) -> int:
        """In all stretches together."""
        return sum(s.segments for s in self.all) * self.dataset.feature.segment_frames

    def read(self, span: Span, start: int = 0, frames: int | None = None) -> NDArray[np.float32]:
        """Log-mel (frames, n_mels) of a part of a stretch, from `start` frames after its beginning."""
        size = self.dataset.feature.segment_frames
        whole = span.segments * size
        frames = whole - start if frames is None else frames
        require(0 <= start <= whole - frames, "start", start, f"0 to {whole - frames}")
        first = span.row * size + start
        return self.dataset.frames(span.shard)[first : first + frames].astype(np.float32)

    def sample(self, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Random pieces (count, fewest_frames, n_mels)."""
        return self._pieces(*self._places.sample(count, rng))

    def evenly_spaced(self, at_most: int) -> NDArray[np.float32]:
        """Pieces of `fewest_frames` frames spread evenly over all stretches, none overlapping another."""
        return self._pieces(*self._places.evenly_spaced(at_most))

    def _pieces(self, places: NDArray[np.int64], which: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.dataset.pieces(
            self._shard[which], self._begins[which] + places - self._first[which], self.fewest_frames
        )


def _find(dataset: Dataset, split: str, stems: Sequence[str]) -> list[Span]:
    rows = dataset.rows(split, stems)
    position = dataset.start(rows)
    # A stretch ends where the track, the stem or the place in the file is not the next one.
    same = (np.diff(rows.track) == 0) & (np.diff(rows.stem) == 0) & (np.diff(rows.shard) == 0)
    same &= (np.diff(position) == 1) & (np.diff(rows.row) == 1)
    first = np.flatnonzero(np.concatenate([[True], ~same]))
    length = np.diff(np.append(first, len(rows)))
    return [
        Span(
            shard=int(rows.shard[i]),
            row=int(rows.row[i]),
            segments=int(n),
            track=int(rows.track[i]),
            stem=int(rows.stem[i]),
            position=int(position[i]),
        )
        for i, n in zip(first, length, strict=True)
    ]
