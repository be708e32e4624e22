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
from melodygan_core.autoencoder import Autoencoder, DenseAutoencoder, TemporalAutoencoder
from melodygan_core.autoencoder.dense_task import vectors
from melodygan_core.autoencoder.health import alive, shares
from melodygan_core.config import SPLITS, STEMS, VERSIONS, config_id, require
from melodygan_core.dataset import Dataset, Rows, Stretches
from melodygan_core.store import Artifact, Store, dump_json

MIN_STD = 1e-4


@dataclass(frozen=True)
class LatentTable:
    """The latents of every usable segment of the autoencoder's stems.

    Attributes:
        latents: (n, tokens, latent_dim) float32, standardised by the training split; the dense family has one
            token a segment, the temporal one several, which go on in the next row where its index is the next.
        split: (n,) names.
        stem: (n,) names.
        index: (n,) position of the segment in its track.
        track_id: (n,)
        tags: One tuple of tags a row.
        mean: (latent_dim,) before standardisation.
        std: (latent_dim,)
    """

    latents: NDArray[np.float32]
    split: NDArray[np.str_]
    stem: NDArray[np.str_]
    index: NDArray[np.int64]
    track_id: NDArray[np.str_]
    tags: list[tuple[str, ...]]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]


def name_of(family: str) -> str:
    """The asset's name."""
    return f"{family}/latent_table"


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
        name_of(checkpoint.family),
        store.model(checkpoint.family, "latents", version),
        build,
        config={},
        inputs={"feature_table": dataset.version, checkpoint.name: checkpoint.version},
    )


@torch.no_grad()
def _dense(model: DenseAutoencoder, dataset: Dataset, split: str) -> tuple[Rows, NDArray[np.float32]]:
    data = vectors(dataset, split, model.config)
    blocks = tqdm(data.blocks(), desc=f"latents of {split}", total=-(-len(data) // 1024), unit="block")
    return data.rows, np.concatenate([model.encode(block).numpy() for block in blocks])[:, None]


@torch.no_grad()
def _temporal(model: TemporalAutoencoder, dataset: Dataset, split: str) -> tuple[Rows, NDArray[np.float32]]:
    frames, token = dataset.feature.segment_frames, model.config.token_frames
    require(frames % token == 0, "token_frames", token, f"a divisor of segment_frames = {frames}")
    stretches = Stretches(dataset, split, model.config.stems)
    latents = []
    # A stretch at once: a segment's latents know what came before and after it.
    for stretch in tqdm(stretches.all, desc=f"latents of {split}", unit="stretch"):
        made = model.encode(torch.from_numpy(stretches.read(stretch))[None])[0].numpy()
        latents.append(made.reshape(stretch.segments, frames // token, -1))
    return dataset.rows(split, model.config.stems), np.concatenate(latents)


def _encoded(model: Autoencoder, dataset: Dataset, split: str) -> tuple[Rows, NDArray[np.float32]]:
    """Rows of a split and their latents (n, tokens, latent_dim)."""
    if isinstance(model, DenseAutoencoder):
        return _dense(model, dataset, split)
    return _temporal(model, dataset, split)


def _run(checkpoint: Artifact, dataset: Dataset, store: Store, folder: Path) -> dict[str, Any]:
    with store.reading(store.at(checkpoint.uri)) as local:
        model = autoencoder.load(local)
    parts: list[pa.Table] = []
    tokens = dim = 0
    for split in SPLITS:
        rows, latents = _encoded(model, dataset, split)
        tokens, dim = latents.shape[1:]
        tracks = [dataset.tracks[t] for t in rows.track]
        values = pa.array(latents.reshape(-1), pa.float32())
        parts.append(
            pa.table(
                {
                    "track_id": [t["track_id"] for t in tracks],
                    "split": [split] * len(rows),
                    "stem": [STEMS[s] for s in rows.stem],
                    "index": dataset.start(rows),
                    "tags": pa.array([t["tags"] for t in tracks], pa.list_(pa.string())),
                    "latents": pa.FixedSizeListArray.from_arrays(values, tokens * dim),
                }
            )
        )
    table = pa.concat_tables(parts)
    pq.write_table(table, folder / "latents.parquet", compression="zstd")
    training = _matrix(parts[0]).reshape(-1, dim)
    mean, std = training.mean(axis=0), np.maximum(training.std(axis=0), MIN_STD)
    dump_json(folder / "statistics.json", {"mean": mean.tolist(), "std": std.tolist()})
    share = shares(training)
    return {
        "rows": table.num_rows,
        "tokens": tokens,
        "latent_dim": dim,
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
        latents=(_matrix(table).reshape(len(table), -1, len(mean)) - mean) / std,
        split=np.asarray(table["split"].to_pylist()),
        stem=np.asarray(table["stem"].to_pylist()),
        index=table["index"].to_numpy(),
        track_id=np.asarray(table["track_id"].to_pylist()),
        tags=[tuple(t) for t in table["tags"].to_pylist()],
        mean=mean,
        std=std,
    )
