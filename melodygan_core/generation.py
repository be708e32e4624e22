"""noise -> latents -> log-mel -> wav, from a trained family."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from melodygan_core import audio
from melodygan_core.config import VERSIONS, GenerationConfig, config_id, to_dict
from melodygan_core.errors import InputError
from melodygan_core.pipeline import Models, PipelineSample
from melodygan_core.prior.gan import condition_index
from melodygan_core.storage.store import Artifact, Store, dump_json, replacing


def name_of(family: str) -> str:
    """The asset's name."""
    return f"{family}/generated_samples"


@dataclass(frozen=True)
class Piece:
    """One generated piece.

    Attributes:
        index: Which of its seed.
        condition: What it was asked to be; empty for nothing.
        composed: Latents and log-mel, as the models made them.
        wav: (samples,) float32, at the level that the models gave it.
    """

    index: int
    condition: str
    composed: PipelineSample
    wav: NDArray[np.float32]


def pieces(models: Models, config: GenerationConfig) -> Iterator[Piece]:
    """Makes pieces one after the other; piece k depends on the seed and k, not on how many are asked for.

    Raises:
        InputError: an unknown condition.
    """
    feature, names = models.feature, models.gan.conditions
    wanted = condition_index(names, config.condition) if config.condition else None
    # One frame more than hops, as in a centred STFT.
    frames = math.ceil(config.duration_s * feature.frame_rate) + 1
    for index in range(config.count):
        seed = int(np.random.SeedSequence((config.seed, index)).generate_state(1, np.uint64)[0] >> 1)
        condition = wanted
        if names and condition is None:
            condition = int(np.random.default_rng(seed).integers(len(names)))
        composed = models.sample(frames, seed, condition, config.truncation)
        wav = models.vocoder(composed.log_mel[None], seed % 2**31)[0].numpy()
        wav = wav[: round(config.duration_s * feature.sample_rate)]
        yield Piece(index, names[condition] if condition is not None else "", composed, wav)


def _write_table(path: Path, name: str, values: list[Tensor], samples: list[int]) -> None:
    """One row a position of a sample: `sample`, `position`, and its values as a list."""
    flat = torch.cat(values).numpy()
    column = pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1), pa.float32()), flat.shape[1])
    owner = [s for s, v in zip(samples, values, strict=True) for _ in range(len(v))]
    position = [i for v in values for i in range(len(v))]
    table = pa.table({"sample": owner, "position": position, name: column})
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def write_pieces(
    models: Models, config: GenerationConfig, folder: Path, provenance: dict[str, Any]
) -> list[dict[str, Any]]:
    """Writes `sample-000.wav`, its `.json`, and all latents and vectors as Parquet into a folder.

    Args:
        models: What makes them.
        config: How many, how long, which seed.
        folder: Exists; files of the same names are replaced.
        provenance: Goes into every sample's JSON (model and data versions, sources, licences).

    Returns:
        One summary a sample.
    """
    feature = models.feature
    summaries: list[dict[str, Any]] = []
    made: list[PipelineSample] = []
    for piece in tqdm(pieces(models, config), total=config.count, desc="generate", unit="sample"):
        wav = audio.normalise_loudness(piece.wav, feature.sample_rate, config.loudness_lufs)
        name = f"sample-{piece.index:03d}"
        with replacing(folder / f"{name}.wav") as temporary:
            audio.write_wav(temporary, wav, feature.sample_rate)
        summary = {
            "file": f"{name}.wav",
            "index": piece.index,
            "seed": config.seed,
            "condition": piece.condition,
            "duration_s": round(len(wav) / feature.sample_rate, 3),
            "sample_rate": feature.sample_rate,
            "peak_db": round(audio.peak_db(wav), 2),
            "loudness_lufs": round(audio.loudness_lufs(wav, feature.sample_rate), 2),
        }
        with replacing(folder / f"{name}.json") as temporary:
            dump_json(temporary, {**summary, "generation": to_dict(config), **provenance})
        summaries.append(summary)
        made.append(piece.composed)
    samples = [s["index"] for s in summaries]
    _write_table(folder / "latents.parquet", "latents", [c.latents for c in made], samples)
    vectors = [c.vectors for c in made if c.vectors is not None]
    if vectors:
        _write_table(folder / "vectors.parquet", "vectors", vectors, samples)
    return summaries


def sources(store: Store, checkpoint: Artifact, vocoder_checkpoint: Artifact) -> dict[str, Any]:
    """Which tracks models were trained on, with their licences and rights: what every sample must carry.

    Args:
        store: Of the datasets that they were trained on, which need not be the one in use.
        checkpoint: The autoencoder's.
        vocoder_checkpoint: Its training tracks are heard as well.

    Raises:
        InputError: a dataset is gone.
    """
    columns = ("track_id", "title", "url", "licence", "rights")
    known: dict[str, dict[str, Any]] = {}
    for version in dict.fromkeys(a.inputs["feature_table"] for a in (checkpoint, vocoder_checkpoint)):
        table = store.dataset(version) / "tracks.parquet"
        if not table.exists():
            raise InputError(f"dataset {version} that the models were trained on is gone: train them again")
        with store.reading(table) as path:
            rows = pq.read_table(path, columns=[*columns, "split"]).to_pylist()
        known |= {row["track_id"]: row for row in rows if row["split"] == "train"}
    tracks = list(known.values())
    return {
        "dataset": checkpoint.inputs["feature_table"],
        "stems": list(checkpoint.config["stems"]),
        "tracks": [{k: t[k] for k in columns} for t in tracks],
        "licences": sorted({t["licence"] or "unknown" for t in tracks}),
        "rights": sorted({t["rights"] for t in tracks}),
    }


def generate(
    gan_checkpoint: Artifact,
    checkpoint: Artifact,
    vocoder_checkpoint: Artifact,
    dataset: Artifact,
    store: Store,
    config: GenerationConfig,
) -> Artifact:
    """Makes samples and writes them with their provenance.

    Args:
        gan_checkpoint: What `gan.train` returned.
        checkpoint: The autoencoder of its latents.
        vocoder_checkpoint: Used unless the config says otherwise.
        dataset: What they were trained on.
        store: Where the samples go.
        config: How many, how long, which seed.

    Raises:
        InputError: an unknown condition.
    """
    version = config_id(config, gan_checkpoint.version, vocoder_checkpoint.version, VERSIONS["generation"])

    def build(folder: Path) -> dict[str, Any]:
        models = Models.of(checkpoint, gan_checkpoint, vocoder_checkpoint, store, config)
        provenance = {
            "models": {a.name: a.version for a in (checkpoint, gan_checkpoint, vocoder_checkpoint)},
            "sources": sources(store, checkpoint, vocoder_checkpoint),
        }
        return {"samples": write_pieces(models, config, folder, provenance)}

    return store.get_or_build(
        name_of(checkpoint.family),
        store.samples(checkpoint.family, version),
        build,
        config=to_dict(config),
        inputs={
            gan_checkpoint.name: gan_checkpoint.version,
            checkpoint.name: checkpoint.version,
            vocoder_checkpoint.name: vocoder_checkpoint.version,
            "feature_table": dataset.version,
        },
    )
