"""Where things are and how the deployment is set, each by one environment variable."""

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import dagster as dg
from pydantic import Field

from melodygan_core.config import (
    CatalogueConfig,
    Config,
    DatasetConfig,
    DownloadConfig,
    FeatureConfig,
    SeparationConfig,
    feature_id,
    replace,
)
from melodygan_core.config.presets import load
from melodygan_core.parallel import Backend
from melodygan_core.settings import environment
from melodygan_core.storage import Store

OWNER = "team:melodygan"
# Path at which `melodygan ui` serves the store.
STORE_PATH = "/store"


def deployed_config() -> Config:
    """The deployment's config: its preset, the settings of its file, and the pipelines that it trains."""
    return environment().load_config()


class StoreResource(dg.ConfigurableResource):
    """The root that every artifact lies under."""

    root: str = Field(description="A folder, or any fsspec URI such as s3://bucket/prefix (MELODYGAN_STORE).")

    def open(self) -> Store:
        """The core's Store."""
        return Store(self.root)

    def url(self, uri: str) -> dg.UrlMetadataValue:
        """A link that plays a file of the store in `melodygan ui`, at whatever host and port it is opened."""
        return dg.MetadataValue.url(f"{STORE_PATH}/{quote(uri)}")


class Settings(dg.ConfigurableResource):
    """What the per-track stages run with; automated runs carry no run config, so it is the deployment's."""

    sources: str = Field(description="sources.yaml, or a plain list of URLs (MELODYGAN_SOURCES).")
    preset: str = Field(description="demo, small, base or large (MELODYGAN_PRESET).")
    config: str = Field(description="A YAML file of settings that differ from the preset's (MELODYGAN_CONFIG).")
    separation_model: str = Field(description="Overrides the preset's model (MELODYGAN_SEPARATION_MODEL).")
    model_dir: str = Field(description="Where separation models are kept (MELODYGAN_MODEL_DIR).")
    allow_roots: str = Field(
        description="More folders for `path:` sources, as in PATH (MELODYGAN_ALLOW_ROOTS)."
    )
    allow_private: bool = Field(description="Reach loopback and private addresses (MELODYGAN_ALLOW_PRIVATE).")
    train_on_unknown: bool = Field(description="Train on tracks whose rights are unknown.")
    retrain_after: int = Field(
        description="New tracks of the dataset after which it is trained on before its day; 0 for never"
        " (MELODYGAN_RETRAIN_AFTER).",
    )

    def _preset(self) -> Config:
        return load(self.preset, Path(self.config) if self.config else None)

    @property
    def sources_file(self) -> Path:
        """The sources as a path."""
        return Path(self.sources)

    def catalogue(self) -> CatalogueConfig:
        """Config of catalogue.expand."""
        config = self._preset().catalogue
        roots = tuple(p for p in self.allow_roots.split(os.pathsep) if p)
        if roots:
            roots = (str(self.sources_file.absolute().parent), *roots)
        return replace(config, allow_private=self.allow_private, allowed_roots=roots)

    def download(self) -> DownloadConfig:
        """Config of download.fetch."""
        config = self._preset().download
        # Politeness is for other people's servers.
        pause_s = 0.0 if self.allow_private else config.pause_s
        return replace(config, allow_private=self.allow_private, pause_s=pause_s)

    def separation(self) -> SeparationConfig:
        """Config of separation.separate."""
        config = self._preset().separation
        model = self.separation_model or config.model
        return replace(config, model=model, model_dir=self.model_dir or config.model_dir)

    def features(self) -> FeatureConfig:
        """Config of features.extract."""
        return self._preset().features

    def features_version(self) -> str:
        """Changes when features of the same wav would be others: the algorithm, its config, the stems."""
        return feature_id(self.features(), self.separation())

    def dataset(self) -> DatasetConfig:
        """Config of dataset.assemble."""
        config = self._preset().dataset
        return replace(config, train_on_unknown=self.train_on_unknown or config.train_on_unknown)


def without_config(resource: dg.ConfigurableResource | dg.ConfigurableIOManager) -> dg.ResourceDefinition:
    """Returns a resource whose fields a run cannot set.

    Dagster lets the config of a run replace every field of a resource. Whoever can launch a run could then
    fetch private addresses, read other folders or write into another store.
    """

    def initialize(context: dg.InitResourceContext) -> Iterator[object]:
        # A resource may keep its state, such as a connection: each run has one of its own, as Dagster does it.
        fresh = type(resource)(**{name: getattr(resource, name) for name in type(resource).model_fields})
        with fresh.yield_for_execution(context) as initialized:
            yield initialized

    io_manager = isinstance(resource, dg.IOManager)
    kind: type[dg.ResourceDefinition] = dg.IOManagerDefinition if io_manager else dg.ResourceDefinition
    return kind(initialize, config_schema={}, description=type(resource).__doc__)


class Workers(dg.ConfigurableResource):
    """Where the tracks of a stage are worked on: on this machine, as the stage's config says."""

    def downloads(self, config: DownloadConfig) -> Backend | None:
        """For download.fetch."""
        return None

    def separation(self, config: SeparationConfig) -> Backend | None:
        """For separation.separate."""
        return None

    def features(self, config: FeatureConfig) -> Backend | None:
        """For features.extract."""
        return None


def deployed_settings() -> Settings:
    """The per-track settings, as the environment sets them."""
    settings = environment()
    return Settings(
        sources=settings.sources,
        preset=settings.preset,
        config=settings.config,
        separation_model=settings.separation_model,
        model_dir=settings.model_dir,
        allow_roots=settings.allow_roots,
        allow_private=settings.allow_private,
        train_on_unknown=settings.train_on_unknown,
        retrain_after=settings.retrain_after,
    )
