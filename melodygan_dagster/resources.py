"""Where things are and how the deployment is set, each by one environment variable."""

import dataclasses
import os
from pathlib import Path

import dagster as dg
from pydantic import Field

from melodygan_core.config import (
    CatalogueConfig,
    DatasetConfig,
    DownloadConfig,
    FeatureConfig,
    SeparationConfig,
    feature_id,
    require,
)
from melodygan_core.config.presets import Preset, configured
from melodygan_core.errors import InputError
from melodygan_core.parallel import Backend
from melodygan_core.storage.store import Store

OWNER = "team:melodygan"


def _env(name: str, default: str) -> str:
    return dg.EnvVar(name).get_value(default) or default


def number_of(name: str, default: int) -> int:
    """A variable of the environment that is a whole number.

    Raises:
        InputError: it is not.
    """
    value = _env(name, str(default))
    require(value.isdecimal(), name, value, "a whole number")
    return int(value)


def deployed_preset() -> Preset:
    """What this deployment runs with: its preset (MELODYGAN_PRESET) and what differs (MELODYGAN_CONFIG)."""
    file = _env("MELODYGAN_CONFIG", "")
    return configured(_env("MELODYGAN_PRESET", "small"), Path(file) if file else None)


class StoreResource(dg.ConfigurableResource):
    """The root that every artifact lies under."""

    root: str = Field(description="A folder, or any fsspec URI such as s3://bucket/prefix (MELODYGAN_STORE).")
    listen_url: str = Field(
        description="Where `melodygan ui` serves the store to listen to (MELODYGAN_LISTEN_URL)."
    )

    def open(self) -> Store:
        """The core's Store."""
        return Store(self.root)

    def url(self, uri: str) -> dg.UrlMetadataValue:
        """A link that plays a file of the store, while `melodygan ui` runs."""
        return dg.MetadataValue.url(f"{self.listen_url.rstrip('/')}/{uri}")


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

    def _preset(self) -> Preset:
        return configured(self.preset, Path(self.config) if self.config else None)

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
        return dataclasses.replace(config, allow_private=self.allow_private, allowed_roots=roots)

    def download(self) -> DownloadConfig:
        """Config of download.fetch."""
        config = self._preset().download
        # Politeness is for other people's servers.
        pause_s = 0.0 if self.allow_private else config.pause_s
        return dataclasses.replace(config, allow_private=self.allow_private, pause_s=pause_s)

    def separation(self) -> SeparationConfig:
        """Config of separation.separate."""
        config = self._preset().separation
        model = self.separation_model or config.model
        return dataclasses.replace(config, model=model, model_dir=self.model_dir or config.model_dir)

    def features(self) -> FeatureConfig:
        """Config of features.extract."""
        return self._preset().features

    def features_version(self) -> str:
        """Changes when features of the same wav would be others: the algorithm, its config, the stems."""
        return feature_id(self.features(), self.separation())

    def dataset(self) -> DatasetConfig:
        """Config of dataset.assemble."""
        config = self._preset().dataset
        return dataclasses.replace(config, train_on_unknown=self.train_on_unknown or config.train_on_unknown)


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


def from_environment() -> dict[str, object]:
    """All resources, as the environment sets them."""
    from melodygan_dagster.io_managers import ArtifactRecords

    store = StoreResource(
        root=_env("MELODYGAN_STORE", "data"),
        listen_url=_env("MELODYGAN_LISTEN_URL", "http://127.0.0.1:3030"),
    )
    return {
        "store": store,
        "settings": deployed_settings(),
        "workers": deployed_workers(),
        "records": ArtifactRecords(store=store),
    }


def deployed_workers() -> Workers:
    """Where the per-track stages run, as the environment sets it.

    Raises:
        InputError: MELODYGAN_RAY is not an address, or Ray is not installed.
    """
    address = _env("MELODYGAN_RAY", "")
    if not address:
        return Workers()
    try:
        from melodygan_dagster.ray_workers import ray_workers
    except ModuleNotFoundError as error:
        missing = f"MELODYGAN_RAY is {address!r}, but {error.name} is not installed"
        raise InputError(f"{missing}: pip install melodygan[ray], or leave it empty") from error
    return ray_workers(address)


def deployed_settings() -> Settings:
    """The per-track settings, as the environment sets them."""
    return Settings(
        sources=_env("MELODYGAN_SOURCES", "sources.yaml"),
        preset=_env("MELODYGAN_PRESET", "small"),
        config=_env("MELODYGAN_CONFIG", ""),
        separation_model=_env("MELODYGAN_SEPARATION_MODEL", ""),
        model_dir=_env("MELODYGAN_MODEL_DIR", ""),
        allow_roots=_env("MELODYGAN_ALLOW_ROOTS", ""),
        allow_private=_env("MELODYGAN_ALLOW_PRIVATE", "") == "1",
        train_on_unknown=_env("MELODYGAN_TRAIN_ON_UNKNOWN", "") == "1",
        retrain_after=number_of("MELODYGAN_RETRAIN_AFTER", 100),
    )
