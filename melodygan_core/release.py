"""The portable folder: one family's weights, figures, sources and model card, all that `generate` takes."""

from __future__ import annotations

import math
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from melodygan_core.checkpoint import load_config
from melodygan_core.config import VERSIONS, config_id
from melodygan_core.dataset import Dataset
from melodygan_core.errors import InputError
from melodygan_core.generation import Models, sources
from melodygan_core.store import Artifact, Store, dump_json

NAME = "dense/release"
FILE = "config.json"


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


LIMIT = "limit_excess_kad"


def _verdict(evaluation: Artifact, current: Artifact | None) -> tuple[bool, str, float]:
    """Whether models with this evaluation may replace the release in use, why, and the limit from then on.

    The limit is the lowest upper end of an interval that any release so far had, so that releases that are each
    a little worse than the last cannot drift.
    """
    new, high = (evaluation.metrics[f"generated/excess_kad{end}"] for end in ("", "_high"))
    if not math.isfinite(new):
        raise InputError(f"the excess KAD of {evaluation.uri} is {new}; allowed: a finite number")
    if current is None:
        return True, f"first release; excess KAD {new:.1f}", high
    if current.inputs[evaluation.name] == evaluation.version:
        return True, "the same models and evaluation as the release in use", current.metrics[LIMIT]
    if current.metrics["embedding"] != evaluation.metrics["embedding"]:
        return (
            True,
            f"the release in use was measured with {current.metrics['embedding']}: not comparable",
            high,
        )
    limit = current.metrics[LIMIT]
    if new <= limit:
        return True, f"excess KAD {new:.1f} is within the limit of {limit:.1f}", min(limit, high)
    return False, f"excess KAD {new:.1f} is worse than the limit of {limit:.1f}", limit


def publish(
    gan_checkpoint: Artifact,
    checkpoint: Artifact,
    evaluation: Artifact,
    dataset: Artifact,
    store: Store,
    current: Artifact | None,
) -> Published:
    """Writes a release of these models, unless they are worse than the one in use.

    Args:
        gan_checkpoint: What `gan.train` returned.
        checkpoint: The autoencoder of its latents.
        evaluation: Of these models.
        dataset: What they were trained on.
        store: Where the release goes.
        current: The release in use, if any.
    """
    accepted, reason, limit = _verdict(evaluation, current)
    if not accepted:
        assert current is not None
        return Published(current, False, reason)
    version = config_id(gan_checkpoint.version, checkpoint.version, evaluation.version, VERSIONS["release"])
    inputs = {a.name: a.version for a in (gan_checkpoint, checkpoint, evaluation, dataset)}

    def build(folder: Path) -> dict[str, Any]:
        for name, artifact in (("autoencoder", checkpoint), ("gan", gan_checkpoint)):
            with store.reading(store.at(artifact.uri)) as source:
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("artifact.json"))
        stems = tuple(checkpoint.config["stems"])
        figures = {k: v for k, v in evaluation.metrics.items() if isinstance(v, int | float | str)}
        description = {
            "family": "dense",
            "version": version,
            "models": {a.name: a.version for a in (checkpoint, gan_checkpoint)},
            "sources": sources(Dataset(store, dataset), stems),
            "evaluation": figures,
        }
        dump_json(folder / FILE, description)
        (folder / "MODEL_CARD.md").write_text(_model_card(description), "utf-8")
        return {**figures, LIMIT: limit}

    artifact = store.once(NAME, store.release("dense", version), build, config={}, inputs=inputs)
    return Published(artifact, True, reason)


def load(folder: Path) -> tuple[Models, dict[str, Any]]:
    """The models of a release folder and its description.

    Raises:
        InputError: no release, damaged, or of a family that this version does not know.
    """
    description = load_config(folder, "family", "models", "sources")
    if description["family"] != "dense":
        raise InputError(f"{folder} is of family {description['family']!r}; allowed: dense")
    return Models.load(folder / "autoencoder", folder / "gan"), description


def escape_markdown(text: str) -> str:
    """Text from strangers as inert Markdown on one line."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~-])", r"\\\1", " ".join(text.split()))


def _model_card(description: dict[str, Any]) -> str:
    of = description["sources"]
    figures = "\n".join(
        f"| {k} | {v:.4g} |" for k, v in description["evaluation"].items() if not isinstance(v, str)
    )
    tracks = "\n".join(
        f"| {escape_markdown(t['title'])} | {escape_markdown(t['licence'] or 'unknown')} | {t['rights']} "
        f"| {escape_markdown(t['url'])} |"
        for t in of["tracks"]
    )
    return f"""# MelodyGAN {description["family"]} {description["version"]}

Makes {", ".join(of["stems"])} in the manner of {len(of["tracks"])} tracks. Licences of these:
{", ".join(map(escape_markdown, of["licences"]))}. Whoever uses what it makes answers for these rights.

Use: `melodygan generate {description["version"]} --count 8 --seconds 10 --seed 0 --out samples`

## Figures

Embedding: {description["evaluation"].get("embedding", "")}. KAD x1000 against test tracks; lower is better.

| figure | value |
|---|---|
{figures}

## Trained on (dataset {of["dataset"]})

| title | licence | rights | url |
|---|---|---|---|
{tracks}
"""
