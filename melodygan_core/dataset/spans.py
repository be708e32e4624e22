"""Continuous features of any length, across the segments of the table, and crops of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from melodygan_core.config import require
from melodygan_core.dataset.reading import Dataset
from melodygan_core.errors import InputError


class CropSampler:
    """Samples positions of crops that lie within one span.

    Args:
        first: (n,) start of each span.
        length: (n,) length of each span, in the same unit.
        size: Length of a crop; shorter spans have no crops.
    """

    def __init__(
        self, first: Sequence[int] | NDArray[np.int64], length: Sequence[int] | NDArray[np.int64], size: int
    ) -> None:
        starts, lengths = np.asarray(first, np.int64), np.asarray(length, np.int64)
        self.span = np.flatnonzero(lengths >= size)
        self.size = size
        self._first, self._length = starts[self.span], lengths[self.span]
        self._ends = np.cumsum(self._length - size + 1)

    def __bool__(self) -> bool:
        return len(self.span) > 0

    def sample(self, count: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns `count` uniformly random positions, and the index of the span of each."""
        picked = rng.integers(0, self._ends[-1], count)
        which = np.searchsorted(self._ends, picked, side="right")
        within = picked - np.where(which > 0, self._ends[which - 1], 0)
        return self._first[which] + within, self.span[which]

    def evenly_spaced(self, at_most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns positions that do not overlap, evenly over all spans, and the span of each."""
        ends = self._first + self._length - self.size + 1
        every = [np.arange(f, end, self.size) for f, end in zip(self._first, ends, strict=True)]
        positions = np.concatenate(every)
        span = np.repeat(self.span, [len(e) for e in every])
        chosen = np.linspace(0, len(positions) - 1, min(len(positions), at_most)).round().astype(np.int64)
        return positions[chosen], span[chosen]


@dataclass(frozen=True)
class Span:
    """Consecutive usable segments of one stem of one track.

    Attributes:
        shard: Index into the shards of the dataset.
        row: Row of its first segment in the shard.
        segments: Number of segments.
        track: Index into the tracks of the dataset.
        stem: Index into STEMS.
        position: Position of its first segment in the track, in segments.
    """

    shard: int
    row: int
    segments: int
    track: int
    stem: int
    position: int


class SpanDataset:
    """All spans of a split, memory-mapped.

    Args:
        dataset: The dataset.
        split: `train`, `validation` or `test`.
        stems: Names of STEMS.
        fewest_frames: Shorter spans are left out.

    Raises:
        InputError: no span is that long.
    """

    def __init__(self, dataset: Dataset, split: str, stems: Sequence[str], fewest_frames: int = 1) -> None:
        self.dataset = dataset
        self.fewest_frames = fewest_frames
        found = _find(dataset, split, stems)
        length = np.array([s.segments for s in found]) * dataset.feature.segment_frames
        # Positions count frames as if the spans were concatenated.
        self._first = np.cumsum(length) - length
        self._sampler = CropSampler(self._first, length, fewest_frames)
        if not self._sampler:
            raise InputError(f"{split} has no {fewest_frames} frames of consecutive usable {', '.join(stems)}")
        self._shard = np.array([s.shard for s in found])
        self._track = np.array([s.track for s in found])
        self._begins = np.array([s.row for s in found]) * dataset.feature.segment_frames
        self.all = [found[k] for k in self._sampler.span]

    def __len__(self) -> int:
        return len(self.all)

    @property
    def frames(self) -> int:
        """Number of frames in all spans."""
        return sum(s.segments for s in self.all) * self.dataset.feature.segment_frames

    def read(self, span: Span, column: str, start: int = 0, frames: int | None = None) -> NDArray[np.float32]:
        """Features (frames, bands) of a part of a span.

        Args:
            span: One of `all`.
            column: Name of a column of features, such as `log_mel`.
            start: Frames after the span's beginning.
            frames: Wanted; the rest of the span by default.
        """
        size = self.dataset.feature.segment_frames
        length = span.segments * size
        frames = length - start if frames is None else frames
        require(0 <= start <= length - frames, "start", start, f"0 to {length - frames}")
        first = span.row * size + start
        return self.dataset.frames(span.shard, column)[first : first + frames].astype(np.float32)

    def sample(self, count: int, rng: np.random.Generator, column: str) -> NDArray[np.float32]:
        """Returns random crops (count, fewest_frames, bands) of a column of features."""
        return self.sample_columns(count, rng, [column])[column]

    def sample_columns(
        self, count: int, rng: np.random.Generator, columns: Sequence[str]
    ) -> dict[str, NDArray[np.float32]]:
        """Returns random crops (count, fewest_frames, bands) by column, at the same positions of all."""
        positions = self._sampler.sample(count, rng)
        return {column: self._pieces(*positions, column) for column in columns}

    def evenly_spaced(self, at_most: int, column: str) -> NDArray[np.float32]:
        """Returns crops (n, fewest_frames, bands) of a column, evenly over all spans, without overlap."""
        return self._pieces(*self._sampler.evenly_spaced(at_most), column)

    def evenly_spaced_tracks(self, at_most: int) -> NDArray[np.int64]:
        """Returns the track (n,), an index into the dataset's tracks, of each piece of `evenly_spaced`."""
        return self._track[self._sampler.evenly_spaced(at_most)[1]]

    def _pieces(
        self, positions: NDArray[np.int64], span: NDArray[np.int64], column: str
    ) -> NDArray[np.float32]:
        first = self._begins[span] + positions - self._first[span]
        return self.dataset.pieces(self._shard[span], first, self.fewest_frames, column)


def _find(dataset: Dataset, split: str, stems: Sequence[str]) -> list[Span]:
    rows = dataset.rows(split, stems)
    position = dataset.start(rows)
    # A span ends where the track, the stem or the shard changes, or a row is missing.
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
