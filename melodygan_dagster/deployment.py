"""One deployment: where its store, sources and Dagster instance are; sets the environment that says so."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from melodygan_core.config.presets import configured
from melodygan_core.storage.store import Store

if TYPE_CHECKING:
    import dagster as dg


@dataclass(frozen=True)
class Deployment:
    """What `melodygan run` and `melodygan ui` share.

    Attributes:
        store: Root of the store.
        sources: sources.yaml or a plain list.
        preset: Name of the preset.
        allow_private: Reach loopback and private addresses: the demo's site, a server of one's own network.
        train_on_unknown: Train on tracks whose rights are unknown.
        separation_model: Overrides the preset's; empty for the preset's.
        model_dir: Where separation models are kept; empty for a cache of the user's.
        config: A YAML file of settings that differ from the preset's.
        own_home: Keep Dagster's instance in the store whatever DAGSTER_HOME says: a demo must not fill the
            instance that somebody works with.
        allow_roots: Folders under which `path:` sources may lie, besides that of the sources file.
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

    def __post_init__(self) -> None:
        configured(self.preset, self.config)

    @property
    def opened(self) -> Store:
        """The store."""
        return Store(self.store)

    @property
    def home(self) -> Path:
        """DAGSTER_HOME as it is set, else a folder of a local store, else one of the user's."""
        if os.environ.get("DAGSTER_HOME") and not self.own_home:
            return Path(os.environ["DAGSTER_HOME"])
        store = self.opened
        if store.is_local:
            return Path(store.base.path) / "dagster"
        # One a store: tracks of two in one instance would be looked for in both.
        return Path.home() / ".melodygan" / store.name / "dagster"

    def activate(self) -> None:
        """Sets the environment of this process and its children, and makes the instance's folder."""
        home = self.home
        home.mkdir(parents=True, exist_ok=True)
        if not (home / "dagster.yaml").exists():
            shutil.copy(Path(__file__).with_name("dagster.yaml"), home / "dagster.yaml")
        store = self.opened
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
            "MELODYGAN_ALLOW_ROOTS": os.pathsep.join(str(p.absolute()) for p in self.allow_roots),
        }

    def instance(self) -> dg.DagsterInstance:
        """The Dagster instance, its database made if it is new."""
        import dagster as dg

        self.activate()
        return dg.DagsterInstance.get()
