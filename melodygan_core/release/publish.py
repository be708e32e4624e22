"""Publishes a pipeline as one portable folder, unless it is worse than the release in use."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from melodygan_core.config import VERSIONS, GenerationConfig, GriffinLimConfig, config_id, to_dict
from melodygan_core.dataset import Dataset
from melodygan_core.generation import sources, started_from
from melodygan_core.pipeline import PipelineArtifacts
from melodygan_core.release import gate, styles
from melodygan_core.release.manifest import CARD, FILE, Component, Manifest, folder_sha256
from melodygan_core.release.model_card import model_card
from melodygan_core.storage import ARTIFACT_FILE, Artifact, Store, dump_json


@dataclass(frozen=True)
class Published:
    """What came of an attempt to publish.

    Attributes:
        artifact: The release in use from now on.
        replaced: Whether it is the new one.
        reason: Why, in one sentence.
    """

    artifact: Artifact
    replaced: bool
    reason: str


def name_of(pipeline: str) -> str:
    """The asset's name."""
    return f"{pipeline}/release"


def publish(
    artifacts: PipelineArtifacts,
    evaluation: Artifact,
    dataset: Artifact,
    store: Store,
    generation: GenerationConfig,
    current: Artifact | None,
) -> Published:
    """Writes a release of a pipeline, unless it is worse than the one in use.

    Args:
        artifacts: The pipeline's checkpoints.
        evaluation: Of this pipeline.
        dataset: What it was trained on.
        store: Where the release goes.
        generation: How sound is made with it unless its user chooses otherwise; what it was evaluated with.
        current: The release in use, if any.
    """
    new = gate.Measurement.of(evaluation.version, evaluation.metrics)
    decision = gate.release_gate(new, gate.from_figures(current.metrics) if current else [])
    if not decision.accepted:
        assert current is not None
        return Published(current, False, decision.reason)
    inputs = {**artifacts.inputs, evaluation.name: evaluation.version, "feature_table": dataset.version}
    version = config_id(artifacts.identity, inputs, generation, VERSIONS["release"])

    def build(folder: Path) -> dict[str, Any]:
        for part, artifact in artifacts.parts.items():
            with store.reading(store.at(artifact.uri)) as source:
                shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns(ARTIFACT_FILE))
        stems = tuple(artifacts.codec.config["stems"])
        styles.write(folder / styles.FILE, styles.of_dataset(Dataset(store, dataset), stems))
        figures = {k: v for k, v in evaluation.metrics.items() if isinstance(v, int | float | str)}
        manifest = Manifest(
            pipeline=artifacts.name,
            version=version,
            components=_components(artifacts, folder),
            models=artifacts.inputs,
            sources=sources(store, artifacts),
            generation=to_dict(generation),
            evaluation=figures,
            griffin_lim=to_dict(artifacts.griffin_lim or GriffinLimConfig()),
            **started_from(store, artifacts),
        )
        dump_json(folder / FILE, manifest.to_dict())
        (folder / CARD).write_text(model_card(manifest), "utf-8")
        return {**figures, gate.HISTORY: gate.to_figures(decision.history)}

    artifact = store.get_or_build(
        name_of(artifacts.name), store.release(artifacts.name, version), build, config={}, inputs=inputs
    )
    return Published(artifact, True, decision.reason)


def _components(artifacts: PipelineArtifacts, folder: Path) -> dict[str, Component]:
    codec, prior = artifacts.codec.group, artifacts.prior.name.removesuffix("_checkpoint")
    refiner = "none" if artifacts.refiner is None else "flow"
    kinds = {"codec": codec, "refiner": refiner, "prior": prior, "vocoder": artifacts.vocoder_kind}
    found = {}
    for part, kind in kinds.items():
        there = part in artifacts.parts
        found[part] = Component(kind, part if there else "", folder_sha256(folder / part) if there else "")
    return found
