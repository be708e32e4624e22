"""The feature table: columns, footer, rows of one stem, reading."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor
from upath import UPath

from melodygan_core.config import VERSIONS, FeatureConfig, feature_id, require
from melodygan_core.errors import damage_errors
from melodygan_core.features.segments import Sound, levels
from melodygan_core.features.spectral import FeatureExtractor

__all__ = ["VERSION", "feature_id", "footer", "read", "schema", "stem_table", "values_of"]

VERSION = VERSIONS["features"]


def schema(config: FeatureConfig) -> pa.Schema:
    """Returns the schema; columns of features are frame-major: (segment_frames, values), flattened."""
    half = pa.field("element", pa.float16(), nullable=False)
    columns: dict[str, pa.DataType] = {
        "track_id": pa.string(),
        "stem": pa.string(),
        "index": pa.int32(),
        "start_s": pa.float64(),
        "valid_frames": pa.int32(),
        "loudness_lufs": pa.float32(),
        "peak_db": pa.float32(),
        "usable": pa.bool_(),
        "reason": pa.string(),
        **{name: pa.list_(half, config.segment_frames * width) for name, width in config.columns.items()},
    }
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])


@lru_cache(maxsize=4)
def _extractor(config: FeatureConfig) -> FeatureExtractor:
    return FeatureExtractor(config)


def _rows(values: Tensor, padding: Tensor, config: FeatureConfig, segments: int) -> NDArray[np.float16]:
    """Flattens (bands, frames) to (segments * segment_frames * bands,); the padding frame fills the end."""
    table = torch.empty(segments * config.segment_frames, len(padding), dtype=torch.float16)
    table[: values.shape[1]] = values.T
    table[values.shape[1] :] = padding
    return table.flatten().numpy()


def stem_table(track_id: str, stem: str, sound: Sound, config: FeatureConfig) -> pa.Table:
    """Returns the rows of one stem."""
    extractor = _extractor(config)
    side = None if sound.side is None else torch.from_numpy(sound.side)
    found, silence = extractor(torch.from_numpy(sound.wav), side), extractor.silence()
    measured = levels(sound, config)
    columns = {
        "track_id": [track_id] * sound.segments,
        "stem": [stem] * sound.segments,
        "index": np.arange(sound.segments),
        "start_s": np.arange(sound.segments) * config.segment_s,
        **measured._asdict(),
        "usable": measured.reason == "",
    }
    halves = {name: _rows(values, silence[name], config, sound.segments) for name, values in found.items()}
    arrays = []
    for field in schema(config):
        if field.name in halves:
            arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(halves[field.name]), type=field.type))
        else:
            arrays.append(pa.array(columns[field.name], type=field.type))
    return pa.table(arrays, schema=schema(config))


def footer(path: Path | UPath) -> dict[str, str]:
    """Returns the footer of a feature table without reading its rows.

    Returns:
        `version`, `feature_id`, `config` (JSON), `stems_sha256` (hash of the stems.json of its stems) and
        `summary` (JSON: segments, usable_segments, duration_s, mix_loudness_lufs, unusable).

    Raises:
        DamagedError: the file is no Parquet.
    """
    with path.open("rb") as file, damage_errors(path):
        pairs = pq.read_metadata(file).metadata or {}
        return {key.decode(): value.decode() for key, value in pairs.items() if key != b"ARROW:schema"}


def read(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Reads the feature table of a track.

    Args:
        path: A local Parquet file of `extract`.
        columns: Names of columns; all by default.

    Raises:
        DamagedError: the file cannot be read.
    """
    with damage_errors(path):
        return pq.ParquetFile(path).read(columns).combine_chunks()


def values_of(table: pa.Table, config: FeatureConfig, column: str) -> NDArray[np.float16]:
    """Returns a column of features (rows, segment_frames, values), a view if the table is one chunk.

    Args:
        table: Rows of a feature table or a shard.
        config: How they were made.
        column: A name of `config.columns`.

    Raises:
        InputError: the column has another width.
    """
    width = table.schema.field(column).type.list_size
    frames, bands = config.segment_frames, config.columns[column]
    require(width == frames * bands, f"{column} width", width, f"{frames * bands} as in the config")
    chunked = table[column]
    # combine_chunks copies even a single chunk.
    values = chunked.chunk(0) if chunked.num_chunks == 1 else chunked.combine_chunks()
    return values.flatten().to_numpy(zero_copy_only=True).reshape(-1, frames, bands)
