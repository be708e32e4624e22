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

from melodygan_core import audio, autoencoder, gan
from melodygan_core.autoencoder import DenseAutoencoder
from melodygan_core.config import VERSIONS, GenerationConfig, config_id, to_dict
from melodygan_core.dataset import Dataset
from melodygan_core.errors import InputError
from melodygan_core.gan import LatentGan
from melodygan_core.gan.dense import condition_index
from melodygan_core.store import Artifact, Store, dump_json
from melodygan_core.vocoder import GriffinLim

NAME = "dense/generated_samples"
# Neighbouring segments of a piece share this part of a segment and fade into each other.
OVERLAP = 0.125


@dataclass(frozen=True)
class Models:
    """Everything that turns noise into sound.

    Attributes:
        autoencoder: Its decoder is used.
        gan: Makes latents.
    """

    autoencoder: DenseAutoencoder
    gan: LatentGan

    @classmethod
    def load(cls, autoencoder_folder: Path, gan_folder: Path) -> Models:
        """Reads both checkpoints.

        Raises:
            InputError: missing, damaged, or not of one another.
        """
        made = cls(autoencoder.load(autoencoder_folder), gan.load(gan_folder))
        expected, found = made.autoencoder.config.latent_dim, len(made.gan.mean)
        if expected != found:
            raise InputError(f"the GAN makes latents of {found} values; allowed: {expected}, the autoencoder's")
        return made


@dataclass(frozen=True)
class Piece:
    """One generated piece.

    Attributes:
        index: Which of its seed.
        condition: What it was asked to be; empty for nothing.
        latents: (segments, latent_dim)
        vectors: (segments, vector_dim) standardised.
        log_mel: (n_mels, frames), natural log of magnitude.
        wav: (samples,) float32, at the level that the models gave it.
    """

    index: int
    condition: str
    latents: Tensor
    vectors: Tensor
    log_mel: Tensor
    wav: NDArray[np.float32]


def truncated_noise(shape: tuple[int, int], limit: float, rng: torch.Generator) -> Tensor:
    """Standard normal noise without values beyond `limit` standard deviations; 0 for no limit."""
    noise = torch.randn(shape, generator=rng)
    while limit and bool((outside := noise.abs() > limit).any()):
        noise[outside] = torch.randn(int(outside.sum()), generator=rng)
    return noise


def _join(segments: Tensor, overlap: int, frames: int) -> Tensor:
    """Fades segments (n, n_mels, segment_frames) into one log-mel (n_mels, frames), linear in magnitude."""
    n, n_mels, length = segments.shape
    hop = length - overlap
    total = torch.zeros(n_mels, hop * (n - 1) + length)
    ramp = torch.arange(1, overlap + 1) / (overlap + 1)
    for i, magnitude in enumerate(segments.exp()):
        weight = torch.ones(length)
        if i > 0:
            weight[:overlap] = ramp
        if i < n - 1:
            weight[length - overlap :] = 1 - ramp
        total[:, i * hop : i * hop + length] += magnitude * weight
    return total[:, :frames].log()


def pieces(models: Models, config: GenerationConfig) -> Iterator[Piece]:
    """Makes pieces one after the other; piece k depends on the seed and k, not on how many are asked for.

    Raises:
        InputError: an unknown condition.
    """
    feature = models.autoencoder.feature
    names = models.gan.conditions
    wanted = condition_index(names, config.condition) if config.condition else None
    vocoder = GriffinLim(feature, config.griffin_lim)
    # One frame more than hops, as in a centred STFT.
    frames = math.ceil(config.duration_s * feature.frame_rate) + 1
    overlap = int(feature.segment_frames * OVERLAP)
    count = max(1, math.ceil((frames - overlap) / (feature.segment_frames - overlap)))
    for index in range(config.count):
        seed = int(np.random.SeedSequence((config.seed, index)).generate_state(1, np.uint64)[0] >> 1)
        rng = torch.Generator().manual_seed(seed)
        condition = wanted
        if names and condition is None:
            condition = int(torch.randint(len(names), (1,), generator=rng))
        noise = truncated_noise((count, models.gan.config.noise_dim), config.truncation, rng)
        latents = models.gan.latents(noise, condition)
        with torch.no_grad():
            vectors = models.autoencoder.decode(latents)
            log_mel = _join(models.autoencoder.log_mel(vectors), overlap, frames)
        wav = vocoder(log_mel[None], seed=seed % 2**31)[0].numpy()
        wav = wav[: round(config.duration_s * feature.sample_rate)]
        name = names[condition] if condition is not None else ""
        yield Piece(index, name, latents, vectors, log_mel, wav)


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
    feature = models.autoencoder.feature
    summaries, latents, vectors = [], [], []
    for piece in tqdm(pieces(models, config), total=config.count, desc="generate", unit="sample"):
        wav = audio.normalise_loudness(piece.wav, feature.sample_rate, config.loudness_lufs)
        name = f"sample-{piece.index:03d}"
        audio.write_wav(folder / f"{name}.wav", wav, feature.sample_rate)
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
        dump_json(folder / f"{name}.json", {**summary, "generation": to_dict(config), **provenance})
        summaries.append(summary)
        latents.append(piece.latents)
        vectors.append(piece.vectors)
    for name, values in (("latents", latents), ("vectors", vectors)):
        samples = [s["index"] for s, v in zip(summaries, values, strict=True) for _ in range(len(v))]
        segments = [i for v in values for i in range(len(v))]
        flat = torch.cat(values).numpy()
        column = pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1), pa.float32()), flat.shape[1])
        table = pa.table({"sample": samples, "segment": segments, name: column})
        pq.write_table(table, folder / f"{name}.parquet", compression="zstd")
    return summaries


def sources(dataset: Dataset, stems: tuple[str, ...]) -> dict[str, Any]:
    """Which tracks a model was trained on, with their licences and rights: what every sample must carry."""
    tracks = [t for t in dataset.tracks if t["split"] == "train"]
    columns = ("track_id", "title", "url", "licence", "rights")
    return {
        "dataset": dataset.version,
        "stems": list(stems),
        "tracks": [{k: t[k] for k in columns} for t in tracks],
        "licences": sorted({t["licence"] or "unknown" for t in tracks}),
        "rights": sorted({t["rights"] for t in tracks}),
    }


def generate(
    gan_checkpoint: Artifact, checkpoint: Artifact, dataset: Artifact, store: Store, config: GenerationConfig
) -> Artifact:
    """Makes samples and writes them with their provenance.

    Args:
        gan_checkpoint: What `gan.train` returned.
        checkpoint: The autoencoder of its latents.
        dataset: What both were trained on.
        store: Where the samples go.
        config: How many, how long, which seed.

    Raises:
        InputError: an unknown condition.
    """
    version = config_id(config, gan_checkpoint.version, VERSIONS["generation"])

    def build(folder: Path) -> dict[str, Any]:
        with store.reading(store.at(checkpoint.uri)) as ae, store.reading(store.at(gan_checkpoint.uri)) as g:
            models = Models.load(ae, g)
        provenance = {
            "models": {checkpoint.name: checkpoint.version, gan_checkpoint.name: gan_checkpoint.version},
            "sources": sources(Dataset(store, dataset), models.autoencoder.config.stems),
        }
        return {"samples": write_pieces(models, config, folder, provenance)}

    return store.once(
        NAME,
        store.samples("dense", version),
        build,
        config=to_dict(config),
        inputs={
            "dense/gan_checkpoint": gan_checkpoint.version,
            "dense/autoencoder_checkpoint": checkpoint.version,
            "feature_table": dataset.version,
        },
    )
