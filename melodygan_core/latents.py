"""Features -> latents: what the GAN learns from, computed once and kept as a table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from melodygan_core import autoencoder
from melodygan_core.autoencoder.health import alive, shares
from melodygan_core.autoencoder.train import Vectors, vectors
from melodygan_core.config import SPLITS, STEMS, VERSIONS, config_id
from melodygan_core.dataset import Dataset
from melodygan_core.store import Artifact, Store, dump_json

NAME = "dense/latent_table"
MIN_STD = 1e-4


@dataclass(frozen=True)
class LatentTable:
    """The latents of every usable segment of the autoencoder's stems.

    Attributes:
        latents: (n, latent_dim) float32, standardised by the training split.
        split: (n,) names.
        stem: (n,) names.
        track_id: (n,)
        tags: One tuple of tags a row.
        mean: (latent_dim,) before standardisation.
        std: (latent_dim,)
    """

    latents: NDArray[np.float32]
    split: NDArray[np.str_]
    stem: NDArray[np.str_]
    track_id: NDArray[np.str_]
    tags: list[tuple[str, ...]]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]


def encode(checkpoint: Artifact, dataset: Artifact, store: Store) -> Artifact:
    """Encodes all splits of the autoencoder's stems.

    Args:
        checkpoint: What `autoencoder.train` returned.
        dataset: The dataset it was trained on, or a later one of the same features.
        store: Where the table goes.
    """
    version = config_id(checkpoint.version, dataset.version, VERSIONS["latents"])

    def build(folder: Path) -> dict[str, Any]:
        return _run(checkpoint, Dataset(store, dataset), store, folder)

    return store.once(
        NAME,
        store.model("dense", "latents", version),
        build,
        config={},
        inputs={"feature_table": dataset.version, "dense/autoencoder_checkpoint": checkpoint.version},
    )


@torch.no_grad()
def _encode_split(model: autoencoder.DenseAutoencoder, data: Vectors, split: str) -> NDArray[np.float32]:
    blocks = tqdm(data.blocks(), desc=f"latents of {split}", total=-(-len(data) // 1024), unit="block")
    return np.concatenate([model.encode(block).numpy() for block in blocks])


def _run(checkpoint: Artifact, dataset: Dataset, store: Store, folder: Path) -> dict[str, Any]:
    with store.reading(store.at(checkpoint.uri)) as local:
        model = autoencoder.load(local)
    parts: list[pa.Table] = []
    for split in SPLITS:
        data = vectors(dataset, split, model.config)
        latents = _encode_split(model, data, split)
        tracks = [dataset.tracks[t] for t in data.rows.track]
        values = pa.array(latents.reshape(-1), pa.float32())
        parts.append(
            pa.table(
                {
                    "track_id": [t["track_id"] for t in tracks],
                    "split": [split] * len(data),
                    "stem": [STEMS[s] for s in data.rows.stem],
                    "index": dataset.start(data.rows),
                    "tags": pa.array([t["tags"] for t in tracks], pa.list_(pa.string())),
                    "latents": pa.FixedSizeListArray.from_arrays(values, latents.shape[1]),
                }
            )
        )
    table = pa.concat_tables(parts)
    pq.write_table(table, folder / "latents.parquet", compression="zstd")
    training = _matrix(parts[0])
    mean, std = training.mean(axis=0), np.maximum(training.std(axis=0), MIN_STD)
    dump_json(folder / "statistics.json", {"mean": mean.tolist(), "std": std.tolist()})
    share = shares(training)
    return {
        "rows": table.num_rows,
        "latent_dim": training.shape[1],
        "alive_dims": alive(share),
        "dims_for_95_percent": int(np.searchsorted(np.cumsum(share), 0.95) + 1),
        "explained_by_component": [float(v) for v in share[:64]],
    }


def _matrix(table: pa.Table) -> NDArray[np.float32]:
    column = table["latents"].combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(table), -1)


def load(artifact: Artifact, store: Store) -> LatentTable:
    """The latent table, standardised."""
    folder = store.at(artifact.uri)
    with store.reading(folder / "latents.parquet") as path:
        table = pq.read_table(path)
    statistics = store.read_json(folder / "statistics.json")
    mean = np.asarray(statistics["mean"], dtype=np.float32)
    std = np.asarray(statistics["std"], dtype=np.float32)
    return LatentTable(
        latents=(_matrix(table) - mean) / std,
        split=np.asarray(table["split"].to_pylist()),
        stem=np.asarray(table["stem"].to_pylist()),
        track_id=np.asarray(table["track_id"].to_pylist()),
        tags=[tuple(t) for t in table["tags"].to_pylist()],
        mean=mean,
        std=std,
    )
