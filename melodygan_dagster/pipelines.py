"""The pipelines of this deployment, as the asset factories take them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from melodygan_core.config.config import Config, PipelineConfig
from melodygan_core.config.registry import prior_component
from melodygan_core.storage import Artifact, Store
from melodygan_dagster.resources import deployed_config

if TYPE_CHECKING:
    from melodygan_core.gallery.sounds import GalleryEntry
    from melodygan_core.pipeline import PipelineArtifacts

# Trained vocoder to its asset and its folder among the models.
_VOCODERS = {"neural": ("vocoder_checkpoint", "vocoder"), "flow": ("flow_vocoder_checkpoint", "flow")}


@dataclass(frozen=True)
class DeployedPipeline:
    """A row of the table of pipelines with this deployment's config.

    Attributes:
        name: Of the pipeline.
        row: Its codec, prior and vocoder, by name.
        config: Every stage's config.
    """

    name: str
    row: PipelineConfig
    config: Config

    @property
    def checkpoints(self) -> dict[str, dg.AssetKey]:
        """Component to the asset key of its checkpoint."""
        keys = {
            "codec": dg.AssetKey([self.row.codec, "autoencoder_checkpoint"]),
            "prior": dg.AssetKey([self.row.codec, f"{self.row.prior}_checkpoint"]),
        }
        if self.row.refined:
            keys["refiner"] = dg.AssetKey([self.row.codec, "refiner_checkpoint"])
        if self.row.vocoder in _VOCODERS:
            keys["vocoder"] = dg.AssetKey(_VOCODERS[self.row.vocoder][0])
        return keys

    @property
    def ins(self) -> dict[str, dg.AssetIn]:
        """The inputs of an asset that is made with the pipeline."""
        return {part: dg.AssetIn(key) for part, key in self.checkpoints.items()}

    @property
    def asset_keys(self) -> list[dg.AssetKey]:
        """Everything between the dataset and the release of the pipeline, what it shares included."""
        made = ("generated_samples", "evaluation", "release")
        tables = ("latent_table", "plan_table") if self.follows_plans else ("latent_table",)
        keys = [(self.row.codec, table) for table in tables] + [(self.name, name) for name in made]
        # The flow starts at the sound of the neural vocoder.
        first = [dg.AssetKey("vocoder_checkpoint")] if self.row.vocoder == "flow" else []
        return [*self.checkpoints.values(), *first, *map(dg.AssetKey, keys)]

    @property
    def follows_plans(self) -> bool:
        """Whether the prior is trained with plans."""
        return "plan" in prior_component(self.row.codec, self.row.prior).capabilities

    def artifacts(self, checkpoints: Mapping[str, Artifact]) -> PipelineArtifacts:
        """The pipeline's artifacts, of inputs named as in `ins`."""
        from melodygan_core.pipeline import PipelineArtifacts

        return PipelineArtifacts(
            self.name,
            checkpoints["codec"],
            checkpoints["prior"],
            checkpoints.get("vocoder"),
            self.row.vocoder,
            self.config.griffin_lim,
            self.config.codecs[self.row.codec].optimizer.device,
            checkpoints.get("refiner"),
        )

    def gallery_entry(self, store: Store) -> GalleryEntry | None:
        """What the gallery shows of the pipeline: samples, the checkpoints that made them, their evaluation.

        None while there are no samples, or no evaluation of those checkpoints.
        """
        from melodygan_core.gallery.sounds import GalleryEntry

        samples = store.record(f"{self.name}/generated_samples")
        evaluation = store.record(f"{self.name}/evaluation")
        if samples is None or evaluation is None:
            return None
        folders = {
            "codec": store.model(self.row.codec, "autoencoder", ""),
            "refiner": store.model(self.row.codec, "refiner", ""),
            "prior": store.model(self.row.codec, self.row.prior, ""),
        }
        if self.row.vocoder in _VOCODERS:
            folders["vocoder"] = store.model("vocoder", _VOCODERS[self.row.vocoder][1], "")
        found = {}
        for part, key in self.checkpoints.items():
            version = samples.inputs.get(key.to_user_string())
            if version is None or version != evaluation.inputs.get(key.to_user_string()):
                return None
            made = store.artifact(folders[part] / version)
            if made is None:
                return None
            found[part] = made
        return GalleryEntry(self.artifacts(found), samples, evaluation)


def deployed_pipelines() -> list[DeployedPipeline]:
    """The pipelines that this deployment trains."""
    config = deployed_config()
    return [DeployedPipeline(name, row, config) for name, row in config.trained_pipelines().items()]
