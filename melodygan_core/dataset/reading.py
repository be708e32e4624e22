"""Reading a dataset: memory-mapped segments, windows, shuffled batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor
from upath import UPath

from melodygan_core import features
from melodygan_core.config import STEMS, require, stored_features
from melodygan_core.dataset.vectors import MIN_STD, Statistics, moments
from melodygan_core.errors import InputError, damage_errors
from melodygan_core.storage import Artifact, Store, replacing


@dataclass(frozen=True)
class Rows:
    """Addresses of segments in the dataset; all arrays have one length.

    Attributes:
        shard: Index into the shards of the dataset.
        row: Row within the shard.
        track: Index into the tracks of the dataset.
        stem: Index into STEMS.
    """

    shard: NDArray[np.int64]
    row: NDArray[np.int64]
    track: NDArray[np.int64]
    stem: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.row)

    def take(self, indices: NDArray[np.int64]) -> Rows:
        """Returns the rows at these positions."""
        return Rows(self.shard[indices], self.row[indices], self.track[indices], self.stem[indices])


class Dataset:
    """One version of the dataset, memory-mapped: opening it reads the manifest, not the features.

    Args:
        store: Holds the dataset.
        artifact: The result of `assemble`.

    Raises:
        DamagedError: a file of the dataset cannot be read.
    """

    def __init__(self, store: Store, artifact: Artifact) -> None:
        folder = store.at(artifact.uri)
        manifest = store.read_json(folder / "manifest.json")
        self.version = artifact.version
        with damage_errors(folder / "manifest.json"):
            self.feature = stored_features(manifest["feature"])
            self.separation_id: str = manifest["separation"]
            # Manifests without it are of versions that were split by recording.
            self.split_by: str = manifest.get("split_by", "recording")
            self.artists_in_several_splits: int | None = manifest.get("artists_in_several_splits")
            self._statistics: dict[str, list[float]] = manifest["statistics"]
            shards = store.at(manifest["shards"])
        with store.reading(folder / "tracks.parquet") as path, damage_errors(folder / "tracks.parquet"):
            self.tracks: list[dict[str, Any]] = pq.read_table(path).to_pylist()
            self._shard_names = sorted({t["shard"] for t in self.tracks})
        self._tables = [self._open(store, shards / name) for name in self._shard_names]

    def _open(self, store: Store, path: UPath) -> pa.Table:
        if store.is_local:
            local = str(path)
        else:  # A memory map needs a local file; shards never change, so a copy stays good.
            copy = store.work("shards") / path.name
            if not copy.exists():
                with replacing(copy) as temporary:
                    path.fs.get_file(path.path, str(temporary))
            local = str(copy)
        with damage_errors(path):
            return pa.ipc.open_file(pa.memory_map(local)).read_all()

    @cached_property
    def _values(self) -> list[dict[str, NDArray[np.float16]]]:
        """Columns of features, per shard."""
        names = self.feature.columns
        return [{name: features.values_of(t, self.feature, name) for name in names} for t in self._tables]

    @cached_property
    def _stem(self) -> list[NDArray[np.int64]]:
        """The index of the stem of each row, per shard."""
        result = []
        for table in self._tables:
            column = table["stem"].combine_chunks().dictionary_encode()
            stems = np.array([STEMS.index(s) for s in column.dictionary.to_pylist()], dtype=np.int64)
            result.append(stems[column.indices.to_numpy()])
        return result

    @cached_property
    def _index(self) -> list[NDArray[np.int32]]:
        """The position in its track of each row, per shard."""
        return [t["index"].to_numpy() for t in self._tables]

    def rows(self, split: str, stems: Sequence[str]) -> Rows:
        """Returns the addresses of all usable segments of a split, by track, stem and time.

        Raises:
            InputError: the split has none of these stems.
        """
        parts: list[tuple[NDArray[np.int64], ...]] = []
        shard_of = {name: i for i, name in enumerate(self._shard_names)}
        wanted = [STEMS.index(s) for s in stems]
        for number, track in enumerate(self.tracks):
            if track["split"] != split:
                continue
            shard = shard_of[track["shard"]]
            stem = self._stem[shard][track["row_start"] : track["row_start"] + track["rows"]]
            row = np.flatnonzero(np.isin(stem, wanted))
            fill = np.ones_like(row)
            parts.append((fill * shard, row + track["row_start"], fill * number, stem[row]))
        if not sum(len(p[1]) for p in parts):
            raise InputError(f"{split} has no usable segment of {', '.join(stems)}")
        return Rows(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def column(self, rows: Rows, name: str) -> NDArray[np.float32]:
        """Returns a column of features (n, segment_frames, bands), such as `log_mel`, natural log of magnitude.

        Raises:
            InputError: the features have no such column.
        """
        frames = self.feature.segment_frames
        return self.pieces(rows.shard, rows.row * frames, frames, name)

    def columns(self, rows: Rows, names: Sequence[str]) -> dict[str, Tensor]:
        """Returns columns of features, each (n, segment_frames, bands), as a codec reads them."""
        return {name: torch.from_numpy(self.column(rows, name)) for name in names}

    def pieces(
        self, shard: NDArray[np.int64], first: NDArray[np.int64], frames: int, column: str
    ) -> NDArray[np.float32]:
        """Returns crops that begin at any frame.

        Args:
            shard: (n,) shard of each crop.
            first: (n,) number of frames before each crop in its shard.
            frames: Frames per crop.
            column: Name of a column of features.

        Returns:
            (n, frames, bands)

        Raises:
            InputError: the features have no such column.
        """
        require(column in self.feature.columns, "column", column, ", ".join(self.feature.columns))
        width = self.feature.columns[column]
        out = np.empty((len(first), frames * width), dtype=np.float16)
        for k in np.unique(shard):
            mask = shard == k
            # Rows are frame-major: consecutive rows are contiguous in memory, and a crop is a part of them.
            span = self._values[k][column].reshape(-1)
            out[mask] = sliding_window_view(span, frames * width)[::width][first[mask]]
        # numpy takes twenty times as long for this conversion.
        return torch.from_numpy(out).float().numpy().reshape(len(first), frames, width)

    @cached_property
    def _followed(self) -> list[NDArray[np.bool_]]:
        """Whether the next row continues each row, per shard."""
        result = []
        for table, index in zip(self._tables, self._index, strict=True):
            same = np.zeros(len(index), dtype=bool)
            for name in ("track_id", "stem"):
                values = table[name].combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
                same[:-1] = (values[1:] == values[:-1]) & (same[:-1] if name == "stem" else True)
            same[:-1] &= index[1:] - index[:-1] == 1
            result.append(same)
        return result

    def shifted(self, rows: Rows, offset: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Returns segments that begin `offset` frames after the start of these rows.

        Args:
            rows: The rows.
            offset: (n,) frames, 0 to segment_frames - 1; 0 is used where no usable row follows.

        Returns:
            log_mel (n, segment_frames, n_mels) and mfcc (n, segment_frames, n_mfcc).
        """
        frames = self.feature.segment_frames
        followed = _at(self._followed, rows)
        first = rows.row * frames + np.where(followed, offset, 0)
        log_mel, mfcc = (self.pieces(rows.shard, first, frames, name) for name in ("log_mel", "mfcc"))
        return log_mel, mfcc

    def frames(self, shard: int, column: str) -> NDArray[np.float16]:
        """Frames (rows * segment_frames, bands) of a column of a shard, memory-mapped."""
        values = self._values[shard][column]
        return values.reshape(-1, values.shape[2])

    def start(self, rows: Rows) -> NDArray[np.int64]:
        """Returns (n,) the position of each segment in its track, in segments."""
        return _at(self._index, rows).astype(np.int64)

    def statistics(self, stems: Sequence[str]) -> Statistics:
        """Returns the mean and standard deviation of the training frames of these stems.

        Raises:
            InputError: train has no frame of these stems.
        """
        total = np.sum([self._statistics[s] for s in stems], axis=0)
        if total[0] == 0:
            raise InputError(f"train has no usable segment of {', '.join(stems)}")
        found = moments(total, self.feature)
        return Statistics(
            {name: mean.astype(np.float32) for name, (mean, _) in found.items()},
            {name: np.maximum(std, MIN_STD).astype(np.float32) for name, (_, std) in found.items()},
        )

    def windows(self, split: str, stem: str, window_s: float, at_most: int) -> tuple[Rows, int]:
        """Returns non-overlapping windows of consecutive usable segments, evenly over the tracks of a split.

        Args:
            split: `train`, `validation` or `test`.
            stem: A name of STEMS.
            window_s: Length in seconds, rounded up to full segments.
            at_most: Largest number of windows.

        Returns:
            The rows of all windows, window after window, and the number of segments per window.

        Raises:
            InputError: no window of that length exists.
        """
        length = math.ceil(round(window_s * self.feature.frame_rate) / self.feature.segment_frames)
        rows = self.rows(split, [stem])
        position = self.start(rows)
        starts, i = [], 0
        while i + length <= len(rows):
            j = i + length - 1
            if rows.track[i] == rows.track[j] and position[j] - position[i] == length - 1:
                starts.append(i)
                i += length
            else:
                i += 1
        if not starts:
            raise InputError(f"{split} has no {window_s} s of consecutive usable {stem} segments")
        if len(starts) > at_most:
            starts = [starts[k] for k in np.linspace(0, len(starts) - 1, at_most).round().astype(int)]
        chosen = np.asarray([range(s, s + length) for s in starts], dtype=np.int64)
        return rows.take(chosen.reshape(-1)), length


def _at(columns: list[NDArray[Any]], rows: Rows) -> NDArray[Any]:
    """Returns the values of a column, stored as one array per shard, at these rows."""
    out = np.empty(len(rows), dtype=columns[0].dtype)
    for shard in np.unique(rows.shard):
        mask = rows.shard == shard
        out[mask] = columns[shard][rows.row[mask]]
    return out


class Batches:
    """Endless shuffled batches of positions; batch k depends on (seed, k) alone, so that training can resume.

    Args:
        count: Number of examples.
        batch_size: Examples per batch, at most `count`.
        seed: Seed of the shuffling; every epoch has its own order.
    """

    def __init__(self, count: int, batch_size: int, seed: int) -> None:
        self.count, self.size, self.seed = count, min(batch_size, count), seed
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)

    def __getitem__(self, step: int) -> NDArray[np.int64]:
        epoch, k = divmod(step, self.count // self.size)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng((self.seed, epoch)).permutation(self.count)
        return self._order[k * self.size : (k + 1) * self.size]
