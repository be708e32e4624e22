"""Features -> latents: what priors learn from, computed once and kept as a table."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from melodygan_core import codec
from melodygan_core.codec import Codec
from melodygan_core.codec.collapse import active_dims, shares
from melodygan_core.codec.covariance import Covariance
from melodygan_core.config import SPLITS, STEMS, VERSIONS, config_id
from melodygan_core.dataset import Dataset, Rows
from melodygan_core.errors import damage_errors
from melodygan_core.storage import Artifact, Store, dump_json
from melodygan_core.training import allow_tf32, resolve_device

FILE = "latents.parquet"
MIN_STD = 1e-4
# 16 MB of the temporal codec's latents.
_BLOCK_ROWS = 4096


@dataclass(frozen=True)
class LatentTable:
    """The latents of every usable segment of the codec's stems.

    Attributes:
        latents: (n, tokens, latent_dim) float32, standardised by the training split; tokens per segment. The
            next row continues a row where its index is the next one.
        split: (n,) names.
        stem: (n,) names.
        index: (n,) position of the segment in its track.
        track_id: (n,)
        tags: One tuple of tags a row.
        mean: (latent_dim,) before standardisation.
        std: (latent_dim,)
        plan: (n, tokens, plan.CHANNELS) of the same tokens, for priors that follow a plan; None for others.
    """

    latents: NDArray[np.float32]
    split: NDArray[np.str_]
    stem: NDArray[np.str_]
    index: NDArray[np.int64]
    track_id: NDArray[np.str_]
    tags: list[tuple[str, ...]]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    plan: NDArray[np.float16] | None = None


def name_of(codec: str) -> str:
    """The asset's name."""
    return f"{codec}/latent_table"


def encode(checkpoint: Artifact, dataset: Artifact, store: Store, device: str = "auto") -> Artifact:
    """Encodes all splits of the codec's stems.

    Args:
        checkpoint: What `codec.train` returned.
        dataset: The dataset it was trained on, or a later one of the same features.
        store: Where the table goes.
        device: Where the codec runs, wherever it was trained.
    """
    version = config_id(checkpoint.version, dataset.version, VERSIONS["latents"])

    def build(folder: Path) -> dict[str, Any]:
        return _run(checkpoint, Dataset(store, dataset), store, resolve_device(device), folder)

    return store.get_or_build(
        name_of(checkpoint.group),
        store.model(checkpoint.group, "latents", version),
        build,
        config={},
        inputs={"feature_table": dataset.version, checkpoint.name: checkpoint.version},
    )


def _blocks(model: Codec, dataset: Dataset, split: str) -> Iterator[NDArray[np.float32]]:
    """Latents (n, tokens, latent_dim) of a split's rows, in their order, some thousand rows at a time."""
    waiting: list[NDArray[np.float32]] = []
    for latents in model.encode_split(dataset, split):
        waiting.append(latents)
        if sum(map(len, waiting)) >= _BLOCK_ROWS:
            yield np.concatenate(waiting)
            waiting.clear()
    if waiting:
        yield np.concatenate(waiting)


def _table(dataset: Dataset, split: str, rows: Rows, latents: NDArray[np.float32]) -> pa.Table:
    tracks = [dataset.tracks[t] for t in rows.track]
    values = pa.array(latents.reshape(-1), pa.float32())
    return pa.table(
        {
            "track_id": [t["track_id"] for t in tracks],
            "split": [split] * len(rows),
            "stem": [STEMS[s] for s in rows.stem],
            "index": dataset.start(rows),
            "tags": pa.array([t["tags"] for t in tracks], pa.list_(pa.string())),
            "latents": pa.FixedSizeListArray.from_arrays(values, latents.shape[1] * latents.shape[2]),
        }
    )


def _run(
    checkpoint: Artifact, dataset: Dataset, store: Store, device: torch.device, folder: Path
) -> dict[str, Any]:
    with store.reading(store.at(checkpoint.uri)) as local:
        model = codec.load(local, device)
    allow_tf32(device)
    training, count, tokens = Covariance(), 0, 0
    with ExitStack() as stack:
        writer: pq.ParquetWriter | None = None
        for split in SPLITS:
            rows, start = dataset.rows(split, model.stems), 0
            for latents in _blocks(model, dataset, split):
                tokens = latents.shape[1]
                if split == "train":
                    training.add(torch.from_numpy(latents.reshape(-1, latents.shape[2])).double())
                table = _table(dataset, split, rows.take(np.arange(start, start + len(latents))), latents)
                start, count = start + len(latents), count + len(latents)
                if writer is None:
                    path = folder / FILE
                    writer = stack.enter_context(pq.ParquetWriter(path, table.schema, compression="zstd"))
                writer.write_table(table)
            assert start == len(rows), "every row has latents"
    mean, std = training.mean, training.covariance.diagonal().sqrt().clamp(min=MIN_STD)
    dump_json(folder / "statistics.json", {"mean": mean.tolist(), "std": std.tolist()})
    share = shares(training)
    return {
        "rows": count,
        "tokens": tokens,
        "latent_dim": len(mean),
        "active_dims": active_dims(share),
        "dims_for_95_percent": int(np.searchsorted(np.cumsum(share), 0.95) + 1),
        "explained_by_component": [float(v) for v in share[:64]],
    }


def load(artifact: Artifact, store: Store) -> LatentTable:
    """The latent table, standardised. The latents lie in a nameless file that goes with them, not in memory.

    Raises:
        DamagedError: a file of the table cannot be read.
    """
    folder = store.at(artifact.uri)
    statistics = store.read_json(folder / "statistics.json")
    with damage_errors(folder / "statistics.json"):
        mean = np.asarray(statistics["mean"], dtype=np.float32)
        std = np.asarray(statistics["std"], dtype=np.float32)
    with (
        store.reading(folder / FILE) as path,
        tempfile.TemporaryFile(dir=store.work("scratch")) as file,
        damage_errors(folder / FILE),
    ):
        table = pq.read_table(path, columns=["split", "stem", "index", "track_id", "tags"])
        source = pq.ParquetFile(path)
        shape = len(table), source.schema_arrow.field("latents").type.list_size // len(mean), len(mean)
        latents = np.memmap(file, np.float32, "w+", shape=shape)
        start = 0
        for batch in source.iter_batches(_BLOCK_ROWS, columns=["latents"]):
            values = batch["latents"].flatten().to_numpy(zero_copy_only=False).reshape(-1, *shape[1:])
            latents[start : start + len(values)] = (values - mean) / std
            start += len(values)
    return LatentTable(
        latents=latents,
        split=np.asarray(table["split"].to_pylist()),
        stem=np.asarray(table["stem"].to_pylist()),
        index=table["index"].to_numpy(),
        track_id=np.asarray(table["track_id"].to_pylist()),
        tags=[tuple(t) for t in table["tags"].to_pylist()],
        mean=mean,
        std=std,
    )
