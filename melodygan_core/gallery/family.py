"""What the gallery takes of a family."""

from __future__ import annotations

from dataclasses import dataclass

from melodygan_core.config import GenerationConfig, from_dict
from melodygan_core.pipeline import Models
from melodygan_core.storage.store import Artifact, Store


@dataclass(frozen=True)
class Family:
    """One family's artifacts.

    Attributes:
        name: Such as `dense`.
        autoencoder: Its checkpoint.
        gan: Its checkpoint.
        vocoder: The checkpoint of the vocoder that made its sound.
        samples: What it generated.
        evaluation: Its figures.
    """

    name: str
    autoencoder: Artifact
    gan: Artifact
    vocoder: Artifact
    samples: Artifact
    evaluation: Artifact

    @property
    def generation(self) -> GenerationConfig:
        """As its samples were made."""
        return from_dict(GenerationConfig, self.samples.config)

    def models(self, store: Store) -> Models:
        """Its models, with the vocoder of its samples."""
        return Models.of(self.autoencoder, self.gan, self.vocoder, store, self.generation)
