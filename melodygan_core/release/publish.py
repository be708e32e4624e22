"""The portable folder: one family's weights, figures, sources and model card, all that `generate` takes."""

from __future__ import annotations

import math
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from melodygan_core.config import VERSIONS, GenerationConfig, config_id, from_dict, require, to_dict
from melodygan_core.dataset import Dataset
from melodygan_core.errors import InputError
from melodygan_core.generation import sources
from melodygan_core.pipeline import Models
from melodygan_core.release import styles
from melodygan_core.release.styles import Style
from melodygan_core.storage.store import Artifact, Store, dump_json
from melodygan_core.training.checkpoint import config_errors, load_config

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


def name_of(family: str) -> str:
    """The asset's name."""
    return f"{family}/release"


def release_gate(evaluation: Artifact, current: Artifact | None) -> tuple[bool, str, float]:
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
    for ruler in ("embedding", "window_s"):
        if current.metrics[ruler] != evaluation.metrics[ruler]:
            said = f"the release in use was measured with {ruler} {current.metrics[ruler]}: not comparable"
            return True, said, high
    limit = current.metrics[LIMIT]
    if new <= limit:
        return True, f"excess KAD {new:.1f} is within the limit of {limit:.1f}", min(limit, high)
    return False, f"excess KAD {new:.1f} is worse than the limit of {limit:.1f}", limit


def publish(
    gan_checkpoint: Artifact,
    checkpoint: Artifact,
    vocoder_checkpoint: Artifact,
    evaluation: Artifact,
    dataset: Artifact,
    store: Store,
    generation: GenerationConfig,
    current: Artifact | None,
) -> Published:
    """Writes a release of these models, unless they are worse than the one in use.

    Args:
        gan_checkpoint: What `gan.train` returned.
        checkpoint: The autoencoder of its latents.
        vocoder_checkpoint: Makes its sound.
        evaluation: Of these models.
        dataset: What they were trained on.
        store: Where the release goes.
        generation: How sound is made of it unless its user says otherwise; what it was evaluated with.
        current: The release in use, if any.
    """
    accepted, reason, limit = release_gate(evaluation, current)
    if not accepted:
        assert current is not None
        return Published(current, False, reason)
    parts = {"autoencoder": checkpoint, "gan": gan_checkpoint, "vocoder": vocoder_checkpoint}
    inputs = {a.name: a.version for a in (*parts.values(), evaluation, dataset)}
    version = config_id(inputs, generation, VERSIONS["release"])

    def build(folder: Path) -> dict[str, Any]:
        for name, artifact in parts.items():
            with store.reading(store.at(artifact.uri)) as source:
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("artifact.json"))
        stems = tuple(checkpoint.config["stems"])
        opened = Dataset(store, dataset)
        styles.write(folder / styles.FILE, styles.of_dataset(opened, stems))
        figures = {k: v for k, v in evaluation.metrics.items() if isinstance(v, int | float | str)}
        description = {
            "family": checkpoint.family,
            "version": version,
            "models": {a.name: a.version for a in parts.values()},
            "generation": to_dict(generation),
            "sources": sources(store, checkpoint, vocoder_checkpoint),
            "evaluation": figures,
        }
        dump_json(folder / FILE, description)
        (folder / "MODEL_CARD.md").write_text(_model_card(description), "utf-8")
        return {**figures, LIMIT: limit}

    artifact = store.get_or_build(
        name_of(checkpoint.family), store.release(checkpoint.family, version), build, config={}, inputs=inputs
    )
    return Published(artifact, True, reason)


@dataclass(frozen=True)
class Release:
    """A release folder, read.

    Attributes:
        models: What makes sound.
        generation: How, unless its user says otherwise.
        description: Version, sources with their licences, figures.
        styles: Of the training tracks: `all`, each stem, each tag; none in releases of earlier versions.
    """

    models: Models
    generation: GenerationConfig
    description: dict[str, Any]
    styles: dict[str, Style]

    def style(self, tag: str) -> Style:
        """The style of a tag.

        Raises:
            InputError: unknown; the message lists the known ones.
        """
        known = ", ".join(self.styles) or "none: this release was published without styles; publish again"
        require(tag in self.styles, "the style's tag", tag, known)
        return self.styles[tag]


def load(folder: Path, vocoder: str = "") -> Release:
    """Reads a release folder.

    Args:
        folder: Of the release.
        vocoder: `neural` or `griffin_lim`; the release's own choice when empty.

    Raises:
        InputError: no release, or damaged.
    """
    description = load_config(folder, "family", "version", "models", "sources", "generation")
    with config_errors(folder):
        generation = from_dict(GenerationConfig, description["generation"])
    generation = replace(generation, vocoder=vocoder or generation.vocoder)
    models = Models.load(folder / "autoencoder", folder / "gan", folder / "vocoder", generation)
    if description["family"] != models.family:
        raise InputError(f"{folder} says family {description['family']!r}; its models are {models.family}")
    return Release(models, generation, description, styles.read(folder / styles.FILE, models.feature))


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
