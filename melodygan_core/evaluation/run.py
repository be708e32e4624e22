"""Generates a set of its own, compares it, and writes the figures down."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from melodygan_core import metrics
from melodygan_core.config import (
    VERSIONS,
    EvaluationConfig,
    GenerationConfig,
    TemporalGanConfig,
    config_id,
    to_dict,
)
from melodygan_core.dataset import Dataset
from melodygan_core.errors import InputError
from melodygan_core.evaluation.distances import compare
from melodygan_core.evaluation.memorisation import memorisation
from melodygan_core.evaluation.seams import seams
from melodygan_core.evaluation.sets import windows_of
from melodygan_core.generation import pieces
from melodygan_core.pipeline import Models
from melodygan_core.storage.store import Artifact, Store


def name_of(family: str) -> str:
    """The asset's name."""
    return f"{family}/evaluation"


def _shortest_s(models: Models) -> float:
    """Seconds of a piece in which there are borders to look at."""
    config = models.gan.config
    if not isinstance(config, TemporalGanConfig):
        return 0.0
    return 3 * config.margin * models.token_frames / models.feature.frame_rate


def _refuse_leaks(store: Store, trained_on: str, dataset: Dataset) -> None:
    """Makes sure that no model has learned from what it is compared with.

    A split is for ever but for one case: where forgotten tracks leave too few to test on, tracks of training
    take their place in the next dataset, and models of the one before must not be judged by it.
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
    gan_checkpoint: Artifact,
    checkpoint: Artifact,
    vocoder_checkpoint: Artifact,
    dataset: Artifact,
    store: Store,
    config: EvaluationConfig,
    generation: GenerationConfig,
) -> Artifact:
    """Generates a set of its own and compares it with test tracks; writes `table.parquet` and the figures.

    Args:
        gan_checkpoint: What `gan.train` returned.
        checkpoint: The autoencoder of its latents.
        vocoder_checkpoint: Used unless `generation` says otherwise.
        dataset: With the test tracks.
        store: Where the evaluation goes.
        config: Windows, neighbours, resamplings, seed.
        generation: How pieces are made; its count and seed are replaced by those of `config`.

    Raises:
        InputError: too little real sound for windows of this length, or models that were trained on some of it.
    """
    generation = replace(
        generation,
        count=config.generated_count,
        seed=config.seed,
        duration_s=max(generation.duration_s, max(config.windows_s) + 0.1),
    )
    version = config_id(
        config,
        generation,
        gan_checkpoint.version,
        vocoder_checkpoint.version,
        dataset.version,
        metrics.EMBEDDING,
        VERSIONS["evaluation"],
    )

    def build(folder: Path) -> dict[str, Any]:
        models = Models.of(checkpoint, gan_checkpoint, vocoder_checkpoint, store, generation)
        data = Dataset(store, dataset)
        for trained in (checkpoint, vocoder_checkpoint):
            _refuse_leaks(store, trained.inputs["feature_table"], data)
        lasting = replace(generation, duration_s=max(generation.duration_s, _shortest_s(models)))
        bar = tqdm(pieces(models, lasting), total=generation.count, desc="evaluation pieces", unit="piece")
        made = list(bar)
        table = [
            {"window_s": window_s, **row}
            for window_s in config.windows_s
            for row in compare(windows_of(data, models, made, config, window_s), config)
        ]
        pq.write_table(pa.Table.from_pylist(table), folder / "table.parquet")
        figures: dict[str, Any] = {"embedding": metrics.EMBEDDING, "window_s": config.windows_s[0]}
        for row in table:
            # The first length is the one that releases are judged by.
            prefix = "" if row["window_s"] == config.windows_s[0] else f"{row['window_s']:g}s/"
            figures |= {f"{prefix}{row['set']}/{k}": v for k, v in row.items() if k not in ("set", "window_s")}
        return {**figures, **memorisation(data, models, made), **seams(models, made), "table": table}

    return store.get_or_build(
        name_of(checkpoint.family),
        store.evaluation(checkpoint.family, version),
        build,
        config={**to_dict(config), "generation": to_dict(generation)},
        inputs={
            gan_checkpoint.name: gan_checkpoint.version,
            checkpoint.name: checkpoint.version,
            vocoder_checkpoint.name: vocoder_checkpoint.version,
            "feature_table": dataset.version,
        },
    )
