"""Generates a set of its own, compares it with test tracks, and writes the figures down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from torch import Tensor

from melodygan_core import metrics
from melodygan_core.config import VERSIONS, EvaluationConfig, GenerationConfig, config_id, replace, to_dict
from melodygan_core.dataset import Dataset
from melodygan_core.errors import InputError
from melodygan_core.evaluation.distances import compare, measurement_setup, to_table
from melodygan_core.evaluation.memorisation import memorisation
from melodygan_core.evaluation.music import music_figures
from melodygan_core.evaluation.pitch import pitch_figures
from melodygan_core.evaluation.plans import plan_figures
from melodygan_core.evaluation.seams import seams
from melodygan_core.evaluation.sets import pitch_pairs, windows_of
from melodygan_core.features import mels_of_spectrum
from melodygan_core.generation import Piece, pieces
from melodygan_core.pipeline import Pipeline, PipelineArtifacts
from melodygan_core.progress import Progress, bar
from melodygan_core.storage import Artifact, Store


def name_of(pipeline: str) -> str:
    """The asset's name."""
    return f"{pipeline}/evaluation"


def _shortest_s(pipeline: Pipeline) -> float:
    """Seconds of a piece in which there are borders to measure; 0 for a prior without any."""
    tokens = 3 * pipeline.prior.border_tokens
    return tokens * pipeline.codec.token_frames / pipeline.feature.frame_rate


def _refuse_leaks(store: Store, trained_on: str, dataset: Dataset) -> None:
    """Raises where a model was trained on a track that is now held out.

    A group of tracks keeps its split but for one case: where erased tracks leave too few to test on,
    training tracks take their place in the next dataset. Models of the one before are not evaluated on it.
    """
    if trained_on == dataset.version:
        return
    table = store.dataset(trained_on) / "tracks.parquet"
    if not table.exists():
        raise InputError(f"dataset {trained_on} that the models were trained on is gone: train them again")
    with store.reading(table) as path:
        before = pq.read_table(path, columns=["group", "split"]).to_pylist()
    learned = {row["group"] for row in before if row["split"] == "train"}
    leaked = [t["track_id"] for t in dataset.tracks if t["split"] != "train" and t["group"] in learned]
    if leaked:
        raise InputError(f"the models were trained on {', '.join(leaked[:5])}, now held out: train them again")


def evaluate(
    artifacts: PipelineArtifacts,
    dataset: Artifact,
    store: Store,
    config: EvaluationConfig,
    generation: GenerationConfig,
    progress: Progress | None = None,
) -> Artifact:
    """Generates a set of its own and compares it with test tracks; writes tables and the figures.

    Args:
        artifacts: The pipeline's checkpoints.
        dataset: With the test tracks.
        store: Where the evaluation goes.
        config: Windows, neighbours, resamplings, seed.
        generation: How pieces are made; count and seed are those of `config`.
        progress: Called after every piece.

    Raises:
        InputError: too little real sound for windows of this length, or models that were trained on some of it.
    """
    generation = replace(
        generation,
        count=config.generated_count,
        seed=config.seed,
        duration_s=max(generation.duration_s, max(config.windows_s) + 0.1, config.music_s),
    )
    version = config_id(
        config,
        generation,
        artifacts.identity,
        dataset.version,
        metrics.EMBEDDING,
        VERSIONS["evaluation"],
    )

    def build(folder: Path) -> dict[str, Any]:
        pipeline, data = artifacts.open(store), Dataset(store, dataset)
        for trained_on in artifacts.datasets:
            _refuse_leaks(store, trained_on, data)
        lasting = replace(generation, duration_s=max(generation.duration_s, _shortest_s(pipeline)))
        made = list(bar(pieces(pipeline, lasting), generation.count, "evaluation pieces", progress))
        table = [
            {"window_s": window_s, **row}
            for window_s in config.windows_s
            for row in compare(windows_of(data, pipeline, made, config, window_s), config)
        ]
        pq.write_table(to_table(table), folder / "table.parquet")
        tested = [t["track_id"] for t in data.tracks if t["split"] == "test"]
        figures: dict[str, Any] = dict(
            measurement_setup(tested, pipeline.stems, data.feature, config, generation)
        )
        # With artists in several splits, the test tracks are nearer to the training tracks than new music is.
        figures["split_by"] = data.split_by
        if data.artists_in_several_splits is not None:
            figures["artists_in_several_splits"] = data.artists_in_several_splits
        for row in table:
            # The first length of window is the one that releases are gated by.
            prefix = "" if row["window_s"] == config.windows_s[0] else f"{row['window_s']:g}s/"
            figures |= {f"{prefix}{row['set']}/{k}": v for k, v in row.items() if k not in ("set", "window_s")}
        for name, pairs in pitch_pairs(data, store, pipeline).items():
            found = pitch_figures(pairs, pipeline.feature.sample_rate)
            figures |= {f"{name}/{k}": v for k, v in found.items()}
        mels_of = mels_of_spectrum(pipeline.feature)
        log_mels = [mels_of(p.sample.decoded.spectrum[0]) for p in made]
        figures |= music_figures(data, store, pipeline.stems[0], made, config, folder)
        return {
            **figures,
            **memorisation(data, pipeline.stems, lambda f: pipeline.reconstruct(f).spectrum, log_mels),
            **_seams(pipeline, made, log_mels),
            **(plan_figures(data, store, pipeline, config) if "plan" in pipeline.prior.capabilities else {}),
            "table": table,
        }

    return store.get_or_build(
        name_of(artifacts.name),
        store.evaluation(artifacts.name, version),
        build,
        config={**to_dict(config), "generation": to_dict(generation)},
        inputs={**artifacts.inputs, "feature_table": dataset.version},
    )


def _seams(pipeline: Pipeline, made: list[Piece], log_mels: list[Tensor]) -> dict[str, float]:
    border = pipeline.prior.border_tokens
    if not border:
        return {}
    std = pipeline.prior.latent_std.cpu().numpy()
    latents = [p.sample.latents.numpy() / std for p in made]
    return seams(latents, [log_mel.numpy() for log_mel in log_mels], border, pipeline.codec.token_frames)
