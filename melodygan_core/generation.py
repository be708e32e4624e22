"""noise -> latents -> spectrum -> wav: new pieces from a pipeline, with their provenance."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from melodygan_core import audio
from melodygan_core.config import VERSIONS, GenerationConfig, SamplingConfig, config_id, to_dict
from melodygan_core.errors import InputError, MelodyGANError
from melodygan_core.pipeline import Pipeline, PipelineArtifacts, Sample, frames_of, joined
from melodygan_core.prior import Sampling, condition_index
from melodygan_core.progress import Progress, drawn, tracked
from melodygan_core.storage import Artifact, Store, dump_json, replacing
from melodygan_core.storage.files import named_errors

# Music lies around full scale at the vocoder's output; what is far above is noise at the vocoder's limit.
MAX_PEAK_DB = 40.0
# Less than half the smallest step of 16 bits.
MIN_PEAK_DB = -96.0


def name_of(pipeline: str) -> str:
    """The asset's name."""
    return f"{pipeline}/generated_samples"


@dataclass(frozen=True)
class Piece:
    """One generated piece.

    Attributes:
        index: Which of its seed.
        condition: Name of its condition; empty for none.
        sample: Latents and what the codec decodes them to.
        wav: (channels, samples) float32, at the level that the vocoder gave it.
    """

    index: int
    condition: str
    sample: Sample
    wav: NDArray[np.float32]


def pieces(pipeline: Pipeline, config: GenerationConfig) -> Iterator[Piece]:
    """Yields pieces one by one; piece k depends on the seed and k, not on how many are wanted.

    Raises:
        InputError: an unknown condition.
        MelodyGANError: a piece is not finite, clipped noise or silent.
    """
    feature, names = pipeline.feature, pipeline.conditions
    wanted = condition_index(names, config.condition) if config.condition else None
    frames = frames_of(config.duration_s, feature)
    together = _vocoded_together(pipeline.device)
    waiting: list[tuple[int, str, int, Sample]] = []
    for index in range(config.count):
        seed = int(np.random.SeedSequence((config.seed, index)).generate_state(1, np.uint64)[0] >> 1)
        condition = wanted
        if names and condition is None:
            condition = int(np.random.default_rng(seed).integers(len(names)))
        sample = pipeline.sample(frames, seed, condition, config.truncation, sampling_of(config))
        waiting.append((index, names[condition] if condition is not None else "", seed % 2**31, sample))
        if len(waiting) < together and index + 1 < config.count:
            continue
        decoded = joined([sample.decoded for *_, sample in waiting])
        wavs = pipeline.sound(decoded, [phases for _, _, phases, _ in waiting]).numpy()
        for (number, name, _, sample), wav in zip(waiting, wavs, strict=True):
            check_sound(wav, f"piece {number} of seed {config.seed}")
            yield Piece(number, name, sample, wav[:, : round(config.duration_s * feature.sample_rate)])
        waiting.clear()


def sampling_of(config: SamplingConfig) -> Sampling:
    """The settings of a request for the priors that have them."""
    return Sampling(config.steps, config.guidance, config.autoguidance)


def check_sound(wav: NDArray[np.float32], name: str, *, silence: bool = False) -> None:
    """Checks that a sound of a vocoder can be music.

    Args:
        wav: Of any shape, as the vocoder gave it.
        name: What it is, for the error.
        silence: Whether it may be silent.

    Raises:
        MelodyGANError: it is not finite, clipped noise, or silent.
    """
    advice = "its models are damaged or diverged: take another seed or release"
    if not np.isfinite(wav).all():
        raise MelodyGANError(f"{name} must be finite, got NaN or infinite samples; {advice}")
    peak_db = audio.peak_db(wav)
    if peak_db > MAX_PEAK_DB:
        raise MelodyGANError(
            f"{name} must peak at {MAX_PEAK_DB:g} dB of full scale or below, got {peak_db:.0f} dB: noise;"
            f" {advice}"
        )
    if peak_db < MIN_PEAK_DB and not silence:
        raise MelodyGANError(f"{name} must be audible, got silence; {advice}")


def _vocoded_together(device: torch.device) -> int:
    """Pieces that go through the vocoder at once.

    One on the CPU, so that the bytes of a piece there do not depend on how many are wanted.
    """
    return 1 if device.type == "cpu" else 8


def _write_table(path: Path, name: str, values: list[Tensor], samples: list[int]) -> None:
    """Writes one row per position of a sample: `sample`, `position`, and its values as a list."""
    flat = torch.cat(values).numpy()
    column = pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1), pa.float32()), flat.shape[1])
    owner = [s for s, v in zip(samples, values, strict=True) for _ in range(len(v))]
    position = [i for v in values for i in range(len(v))]
    table = pa.table({"sample": owner, "position": position, name: column})
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def write_pieces(
    pipeline: Pipeline,
    config: GenerationConfig,
    folder: Path,
    provenance: dict[str, Any],
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Writes `sample-000.wav` and its `.json` per piece, and all latents and vectors as Parquet.

    All pieces of one call have one loudness: where one is limited by its peak, all are lowered with it.

    Args:
        pipeline: Makes them.
        config: How many, how long, which seed.
        folder: Exists; files of the same names are replaced.
        provenance: Goes into every sample's JSON (model and data versions, sources, licences).
        progress: Called after every piece.

    Returns:
        One summary per sample.
    """
    rate = pipeline.feature.sample_rate
    made: list[Piece] = []
    levels: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory(prefix="melodygan-") as scratch:
        # The level of all is known when the last one is made: until then sounds wait on disk, not in memory.
        for piece in tracked(pieces(pipeline, config), config.count, "generate", progress):
            levels.append((audio.loudness_lufs(piece.wav, rate), audio.peak_db(piece.wav)))
            with named_errors(Path(scratch)):
                np.save(Path(scratch) / f"{piece.index}.npy", piece.wav)
            made.append(replace(piece, wav=piece.wav[:, :0]))
        loudness, peaks = ([level[k] for level in levels] for k in (0, 1))
        gains = audio.matched_gains(loudness, peaks, config.loudness_lufs)
        summaries = []
        for piece, gain_db in zip(made, gains, strict=True):
            wav = audio.amplify(np.load(Path(scratch) / f"{piece.index}.npy"), gain_db)
            facts = {"generation": to_dict(config), **provenance}
            summaries.append(_write_piece(replace(piece, wav=wav), rate, config.seed, folder, facts))
    indices = [s["index"] for s in summaries]
    _write_table(folder / "latents.parquet", "latents", [p.sample.latents for p in made], indices)
    vectors = [p.sample.vectors for p in made if p.sample.vectors is not None]
    if vectors:
        _write_table(folder / "vectors.parquet", "vectors", vectors, indices)
    return summaries


def _write_piece(piece: Piece, rate: int, seed: int, folder: Path, facts: dict[str, Any]) -> dict[str, Any]:
    name, wav = f"sample-{piece.index:03d}", piece.wav
    with replacing(folder / f"{name}.wav") as temporary:
        audio.write_wav(temporary, wav, rate)
    summary = {
        "file": f"{name}.wav",
        "index": piece.index,
        "seed": seed,
        "condition": piece.condition,
        "duration_s": round(wav.shape[1] / rate, 3),
        "sample_rate": rate,
        "channels": len(wav),
        "peak_db": round(audio.peak_db(wav), 2),
        "loudness_lufs": round(audio.loudness_lufs(wav, rate), 2),
    }
    with replacing(folder / f"{name}.json") as temporary:
        dump_json(temporary, {**summary, **facts})
    return summary


def sources(store: Store, artifacts: PipelineArtifacts) -> dict[str, Any]:
    """Training tracks of a pipeline with licences and rights: every sample carries them.

    Raises:
        InputError: a dataset that a checkpoint was trained on is gone.
    """
    columns = ("track_id", "title", "url", "licence", "rights")
    known: dict[str, dict[str, Any]] = {}
    for version in artifacts.datasets:
        table = store.dataset(version) / "tracks.parquet"
        if not table.exists():
            raise InputError(f"dataset {version} that the models were trained on is gone: train them again")
        with store.reading(table) as path:
            rows = pq.read_table(path, columns=[*columns, "split"]).to_pylist()
        known |= {row["track_id"]: row for row in rows if row["split"] == "train"}
    tracks = list(known.values())
    return {
        "dataset": artifacts.datasets[0],
        "stems": list(artifacts.codec.config["stems"]),
        "tracks": [{k: t[k] for k in columns} for t in tracks],
        "licences": sorted({t["licence"] or "unknown" for t in tracks}),
        "rights": sorted({t["rights"] for t in tracks}),
    }


def generate(
    artifacts: PipelineArtifacts, dataset: Artifact, store: Store, config: GenerationConfig
) -> Artifact:
    """Makes samples with a pipeline and writes them with their provenance.

    Args:
        artifacts: The pipeline's checkpoints.
        dataset: The one in use.
        store: Where the samples go.
        config: How many, how long, which seed.

    Raises:
        InputError: an unknown condition.
    """
    version = config_id(config, artifacts.identity, VERSIONS["generation"])

    def build(folder: Path) -> dict[str, Any]:
        provenance = {
            "pipeline": artifacts.name,
            "models": artifacts.inputs,
            "sources": sources(store, artifacts),
        }
        with drawn() as progress:
            return {"samples": write_pieces(artifacts.open(store), config, folder, provenance, progress)}

    return store.get_or_build(
        name_of(artifacts.name),
        store.samples(artifacts.name, version),
        build,
        config=to_dict(config),
        inputs={**artifacts.inputs, "feature_table": dataset.version},
    )
