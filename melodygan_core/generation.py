"""noise -> latents -> spectrum -> wav: new pieces from a pipeline, with their provenance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from melodygan_core import piece_files
from melodygan_core.config import VERSIONS, GenerationConfig, SamplingConfig, config_id, to_dict
from melodygan_core.errors import InputError
from melodygan_core.piece_files import frames_of
from melodygan_core.pipeline import Pipeline, PipelineArtifacts, Sample, joined
from melodygan_core.plan import Plan
from melodygan_core.plan.files import write_plan
from melodygan_core.plan.midi import write_midi
from melodygan_core.prior import Sampling, condition_index
from melodygan_core.progress import Progress, drawn
from melodygan_core.storage import Artifact, Store, start


def name_of(pipeline: str) -> str:
    """The asset's name."""
    return f"{pipeline}/generated_samples"


@dataclass(frozen=True, kw_only=True)
class Piece(piece_files.Piece):
    """One generated piece.

    Attributes:
        sample: Latents and what the codec decodes them to.
    """

    sample: Sample


def pieces(pipeline: Pipeline, config: GenerationConfig, plan: Plan | None = None) -> Iterator[Piece]:
    """Yields pieces one by one; piece k depends on the seed and k, not on how many are wanted.

    Args:
        pipeline: Makes them.
        config: How many, how long, which seed.
        plan: What each of them plays; None to leave it open.

    Raises:
        InputError: an unknown condition, or a plan that the pipeline cannot follow.
        MelodyGANError: a piece is not finite, clipped noise or silent.
    """
    feature, names = pipeline.feature, pipeline.conditions
    wanted = condition_index(names, config.condition) if config.condition else None
    frames = frames_of(config.duration_s, feature)
    together = _vocoded_together(pipeline.device)
    waiting: list[tuple[int, str, int, Sample]] = []
    for index in range(config.count):
        seed = piece_files.piece_seed(config.seed, index)
        condition = wanted
        if names and condition is None:
            condition = piece_files.random_condition(seed, len(names))
        sample = pipeline.sample(frames, seed, condition, config.truncation, sampling_of(config), plan)
        waiting.append((index, names[condition] if condition is not None else "", seed % 2**31, sample))
        if len(waiting) < together and index + 1 < config.count:
            continue
        decoded = joined([sample.decoded for *_, sample in waiting])
        wavs = pipeline.sound(decoded, [phases for _, _, phases, _ in waiting]).numpy()
        for (number, name, _, sample), wav in zip(waiting, wavs, strict=True):
            piece_files.check_sound(wav, f"piece {number} of seed {config.seed}")
            yield Piece(
                index=number,
                condition=name,
                latents=sample.latents.numpy(),
                vectors=None if sample.vectors is None else sample.vectors.numpy(),
                wav=wav[:, : round(config.duration_s * feature.sample_rate)],
                sample=sample,
            )
        waiting.clear()


def sampling_of(config: SamplingConfig) -> Sampling:
    """The settings of a request for the priors that have them."""
    return Sampling(config.steps, config.guidance, config.autoguidance)


def _vocoded_together(device: torch.device) -> int:
    """Pieces that go through the vocoder at once.

    One on the CPU, so that the bytes of a piece there do not depend on how many are wanted.
    """
    return 1 if device.type == "cpu" else 8


def write_pieces(
    pipeline: Pipeline,
    config: GenerationConfig,
    folder: Path,
    provenance: dict[str, Any],
    progress: Progress | None = None,
    plan: Plan | None = None,
) -> list[dict[str, Any]]:
    """Makes pieces and writes them; see piece_files.write_pieces.

    With a plan, what each piece plays is written beside it, as `sample-000.plan.parquet` and `sample-000.mid`.
    """
    feature = pipeline.feature
    made = pieces(pipeline, config, plan)
    rows = piece_files.write_pieces(made, config, feature.sample_rate, folder, provenance, progress)
    if plan is not None:
        played = plan.crop(0, pipeline.codec.tokens_for(frames_of(config.duration_s, feature)))
        for row in rows:
            name = piece_files.sample_name(row["index"])
            write_plan(folder / f"{name}.plan.parquet", played)
            write_midi(folder / f"{name}.mid", played)
    return rows


def sources(store: Store, artifacts: PipelineArtifacts) -> dict[str, Any]:
    """Training tracks of a pipeline with licences and rights: every sample carries them.

    Those of the releases that trainings began with are among them.

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
    for begun in start.provenance(store, list(artifacts.parts.values())):
        known |= {row["track_id"]: row for row in begun["sources"]["tracks"] if row["track_id"] not in known}
    tracks = list(known.values())
    return {
        "dataset": artifacts.datasets[0],
        "stems": list(artifacts.codec.config["stems"]),
        "tracks": [{k: t[k] for k in columns} for t in tracks],
        "licences": sorted({t["licence"] or "unknown" for t in tracks}),
        "rights": sorted({t["rights"] for t in tracks}),
    }


def started_from(store: Store, artifacts: PipelineArtifacts) -> dict[str, Any]:
    """Releases that trainings of a pipeline began with, under `started_from`; nothing where there are none."""
    releases: dict[tuple[str, str], list[str]] = {}
    for begun in start.provenance(store, list(artifacts.parts.values())):
        releases.setdefault((begun["pipeline"], begun["version"]), []).append(begun["part"])
    rows = [
        {"pipeline": name, "version": version, "parts": parts} for (name, version), parts in releases.items()
    ]
    return {start.RELEASES: rows} if rows else {}


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
            **started_from(store, artifacts),
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
