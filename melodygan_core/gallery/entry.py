"""What the gallery takes of a pipeline."""

from __future__ import annotations

from dataclasses import dataclass

from melodygan_core.pipeline import Pipeline, PipelineArtifacts
from melodygan_core.storage import Artifact, Store


@dataclass(frozen=True)
class GalleryEntry:
    """One pipeline's artifacts.

    Attributes:
        pipeline: Its checkpoints.
        samples: What it generated.
        evaluation: Its figures.
    """

    pipeline: PipelineArtifacts
    samples: Artifact
    evaluation: Artifact

    @property
    def name(self) -> str:
        """Of the pipeline."""
        return self.pipeline.name

    @property
    def versions(self) -> list[str]:
        """What the page depends on."""
        return [self.samples.version, self.evaluation.version, *self.pipeline.inputs.values()]

    def open(self, store: Store) -> Pipeline:
        """The pipeline on its device."""
        return self.pipeline.open(store)
