"""A deployment: its store, sources, preset and Dagster instance, passed to children by the environment."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from melodygan_core.config import Config, replace, require
from melodygan_core.config.presets import load
from melodygan_core.services.starting import resolve_start
from melodygan_core.services.tensorboard import check_installed
from melodygan_core.settings import dagster_home, environment
from melodygan_core.storage import Store, replacing
from melodygan_dagster import database
from melodygan_dagster.database import database_errors

if TYPE_CHECKING:
    import dagster as dg


@dataclass(frozen=True)
class Deployment:
    """The options that `melodygan run` and `melodygan ui` share.

    Attributes:
        store: Root of the store.
        sources: sources.yaml or a plain list.
        preset: Name of the preset.
        allow_private: Allow loopback and private addresses: the demo's site, a server of your own network.
        train_on_unknown: Train on tracks whose rights are unknown.
        separation_model: Overrides the preset's model; empty for the preset's.
        model_dir: Folder of separation models; empty for the user's cache.
        allow_roots: Folders under which `path:` sources may lie, besides the folder of the sources file.
        config: A YAML file of settings that differ from the preset's.
        own_home: Keep the Dagster instance in the store even if DAGSTER_HOME is set: a demo must not fill the
            instance that somebody works with.
        pipelines: Names of the pipelines to train; empty for the config's `train`.
        start_from: Release whose weights trainings begin with; empty for the config's.
        start_parts: Parts that begin with them; empty for the config's.
        tensorboard: Folder of TensorBoard's files; empty for none.
        training_sound: Keep what trainings make at each validation, for the studio.
    """

    store: str
    sources: Path
    preset: str
    allow_private: bool = False
    train_on_unknown: bool = False
    separation_model: str = ""
    model_dir: str = ""
    allow_roots: tuple[Path, ...] = ()
    config: Path | None = None
    own_home: bool = False
    pipelines: tuple[str, ...] = ()
    start_from: str = ""
    start_parts: tuple[str, ...] = ()
    tensorboard: str = ""
    training_sound: bool = False

    def __post_init__(self) -> None:
        self.load_config()
        check_installed(self.tensorboard)

    def load_config(self) -> Config:
        """The preset with the settings of the file over it, the pipelines to train, and what they start from.

        Raises:
            InputError: no such preset, file or pipeline, or a setting of the file that is not allowed.
        """
        config = load(self.preset, self.config)
        begun = {"start_from": self.start_from, "start_parts": self.start_parts}
        config = replace(config, **{name: value for name, value in begun.items() if value})
        if not self.pipelines:
            return config
        for name in self.pipelines:
            allowed = f"names of pipelines: {', '.join(config.pipelines)}"
            require(name in config.pipelines, "pipelines", name, allowed)
        different = len(set(self.pipelines)) == len(self.pipelines)
        require(different, "pipelines", ",".join(self.pipelines), "all different")
        return replace(config, train=self.pipelines)

    @property
    def opened(self) -> Store:
        """The store."""
        return Store(self.store)

    @property
    def home(self) -> Path:
        """DAGSTER_HOME if it is set, else a folder of a local store, else a folder of the user."""
        if dagster_home() and not self.own_home:
            return Path(dagster_home())
        store = self.opened
        if store.is_local:
            return Path(store.base.path) / "dagster"
        # One per store: an instance of two stores would look for the tracks of each in both.
        return Path.home() / ".melodygan" / store.name / "dagster"

    def activate(self) -> None:
        """Sets the environment of this process and its children, and creates the instance's folder."""
        home = self.home
        home.mkdir(parents=True, exist_ok=True)
        if not (home / "dagster.yaml").exists():
            # At once: half a file would stay for ever.
            with replacing(home / "dagster.yaml") as temporary:
                shutil.copy(Path(__file__).with_name("dagster.yaml"), temporary)
        store, config = self.opened, self.load_config()
        os.environ |= {
            "DAGSTER_HOME": str(home.absolute()),
            "MELODYGAN_STORE": store.base.path if store.is_local else self.store,
            "MELODYGAN_SOURCES": str(self.sources.absolute()),
            "MELODYGAN_PRESET": self.preset,
            "MELODYGAN_ALLOW_PRIVATE": "1" if self.allow_private else "",
            "MELODYGAN_TRAIN_ON_UNKNOWN": "1" if self.train_on_unknown else "",
            "MELODYGAN_SEPARATION_MODEL": self.separation_model,
            "MELODYGAN_MODEL_DIR": self.model_dir,
            "MELODYGAN_CONFIG": str(self.config.absolute()) if self.config else "",
            "MELODYGAN_PIPELINES": ",".join(self.pipelines),
            # The release in use now: what this deployment publishes does not change what it starts from.
            "MELODYGAN_START_FROM": resolve_start(config.start_from),
            "MELODYGAN_TENSORBOARD": str(Path(self.tensorboard).absolute()) if self.tensorboard else "",
            "MELODYGAN_TRAINING_SOUND": "1" if self.training_sound or environment().training_sound else "",
            "MELODYGAN_START_PARTS": ",".join(self.start_parts),
            "MELODYGAN_ALLOW_ROOTS": os.pathsep.join(str(p.absolute()) for p in self.allow_roots),
        }

    def instance(self) -> dg.DagsterInstance:
        """Returns the Dagster instance; creates its database if it is new.

        Raises:
            StorageError: the database cannot be opened or written.
        """
        import dagster as dg

        with database_errors(self.home):
            self.activate()
            # Dagster would wait longer, once for each statement.
            database.check(self.home)
            return dg.DagsterInstance.get()
