"""Continuous log-mel of any length, across the segments that the table cuts it into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from melodygan_core.config import require
from melodygan_core.dataset.reading import Dataset
from melodygan_core.errors import InputError


@dataclass(frozen=True)
class Stretch:
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


class Stretches:
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
        frames = dataset.feature.segment_frames
        self.all = [s for s in _find(dataset, split, stems) if s.segments * frames >= fewest_frames]
        if not self.all:
            raise InputError(f"{split} has no {fewest_frames} frames of consecutive usable {', '.join(stems)}")
        # Starts at which `fewest_frames` fit: each is as likely as any other, whatever stretch it is in.
        self._starts = np.cumsum([s.segments * frames - fewest_frames + 1 for s in self.all])

    def __len__(self) -> int:
        return len(self.all)

    @property
    def frames(self) -> int:
        """In all stretches together."""
        return sum(s.segments for s in self.all) * self.dataset.feature.segment_frames

    def read(self, stretch: Stretch, start: int = 0, frames: int | None = None) -> NDArray[np.float32]:
        """Log-mel (frames, n_mels) of a part of a stretch, from `start` frames after its beginning."""
        size = self.dataset.feature.segment_frames
        whole = stretch.segments * size
        frames = whole - start if frames is None else frames
        require(0 <= start <= whole - frames, "start", start, f"0 to {whole - frames}")
        first = stretch.row * size + start
        return self.dataset.frames(stretch.shard)[first : first + frames].astype(np.float32)

    def draw(self, count: int, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Random pieces of `fewest_frames` frames.

        Returns:
            log_mel (count, fewest_frames, n_mels), and the index of the stretch of each.
        """
        picked = rng.integers(0, self._starts[-1], count)
        which = np.searchsorted(self._starts, picked, side="right")
        start = picked - np.where(which > 0, self._starts[which - 1], 0)
        pieces = [self.read(self.all[w], int(s), self.fewest_frames) for w, s in zip(which, start, strict=True)]
        return np.stack(pieces), which

    def spread(self, at_most: int) -> NDArray[np.float32]:
        """Pieces of `fewest_frames` frames spread evenly over all stretches, none overlapping another."""
        size = self.dataset.feature.segment_frames
        places = [
            (s, start)
            for s in self.all
            for start in range(0, s.segments * size - self.fewest_frames + 1, self.fewest_frames)
        ]
        chosen = np.linspace(0, len(places) - 1, min(len(places), at_most)).round().astype(int)
        return np.stack([self.read(*places[k], frames=self.fewest_frames) for k in chosen])


def _find(dataset: Dataset, split: str, stems: Sequence[str]) -> list[Stretch]:
    rows = dataset.rows(split, stems)
    position = dataset.start(rows)
    # A stretch ends where the track, the stem or the place in the file is not the next one.
    same = (np.diff(rows.track) == 0) & (np.diff(rows.stem) == 0) & (np.diff(rows.shard) == 0)
    same &= (np.diff(position) == 1) & (np.diff(rows.row) == 1)
    first = np.flatnonzero(np.concatenate([[True], ~same]))
    length = np.diff(np.append(first, len(rows)))
    return [
        Stretch(
            shard=int(rows.shard[i]),
            row=int(rows.row[i]),
            segments=int(n),
            track=int(rows.track[i]),
            stem=int(rows.stem[i]),
            position=int(position[i]),
        )
        for i, n in zip(first, length, strict=True)
    ]
