"""Where every artifact lies, under one root: every path of the store is named here and nowhere else."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import fsspec
from fsspec.registry import known_implementations
from upath import UPath

from melodygan_core.errors import InputError


@dataclass(frozen=True)
class Layout:
    """One root, a local folder or any fsspec URI, and what lies where below it.

    Attributes:
        root: `data`, `/mnt/music`, `s3://bucket/prefix`, `memory://name`.
    """

    root: str

    def __reduce__(self) -> tuple[type[Layout], tuple[str]]:
        # Where it is sent to, another folder may be the current one.
        return type(self), (self.base.path if self.is_local else self.root,)

    @cached_property
    def base(self) -> UPath:
        """The root as a path; local ones are absolute.

        Raises:
            InputError: nothing that is installed can open it.
        """
        if self.is_local:
            return UPath(Path(self.root.removeprefix("file://")).absolute())
        protocol = self.root.partition("://")[0]
        if protocol not in known_implementations:
            known = "a folder, s3://bucket/prefix, memory://name, or another of fsspec's protocols"
            raise InputError(f"store is {self.root!r}; allowed: {known}")
        try:
            fsspec.get_filesystem_class(protocol)
        except ImportError as error:
            need = "pip install melodygan[s3]" if protocol in ("s3", "s3a") else str(error)
            raise InputError(f"store is {self.root!r}; allowed after: {need}") from error
        # A listing that was kept says nothing of what another process has written since.
        return UPath(self.root, use_listings_cache=False)

    @property
    def is_local(self) -> bool:
        """Whether the root is a folder of this machine."""
        return "://" not in self.root or self.root.startswith("file://")

    @property
    def in_memory(self) -> bool:
        """Whether no other process sees what is in it."""
        return self.root.startswith("memory://")

    @property
    def name(self) -> str:
        """A name for what this machine keeps of a store that lies elsewhere."""
        return hashlib.sha256(self.root.rstrip("/").encode()).hexdigest()[:12]

    def at(self, uri: str) -> UPath:
        """The path of a URI relative to the root.

        Raises:
            InputError: the URI leaves the root.
        """
        if uri.startswith("/") or "://" in uri or ".." in uri.split("/"):
            raise InputError(f"uri is {uri!r}; allowed: a path below the store's root")
        return self.base / uri

    def uri(self, path: UPath) -> str:
        """The path relative to the root, with forward slashes."""
        return path.relative_to(self.base).as_posix()

    def catalogue(self) -> UPath:
        """The Parquet table of tracks."""
        return self.base / "catalogue.parquet"

    def forgotten(self) -> UPath:
        """Tracks that were forgotten: sources that list them again do not bring them back."""
        return self.base / "forgotten.json"

    def mark(self, name: str, version: str) -> UPath:
        """What a forgotten track took away with it: enough to tell which models were made from that."""
        return self.base / "marks" / name.replace("/", ".") / f"{version}.json"

    def raw_wav(self, track_id: str) -> UPath:
        """The downloaded sound."""
        return self.base / "raw" / f"{track_id}.wav"

    def raw_json(self, track_id: str) -> UPath:
        """Provenance of the downloaded sound; written last, so it means that the wav is whole."""
        return self.base / "raw" / f"{track_id}.json"

    def raw_error(self, track_id: str) -> UPath:
        """A permanent failure: why this track is skipped."""
        return self.base / "raw" / f"{track_id}.error.json"

    def fingerprint(self, track_id: str) -> UPath:
        """The acoustic fingerprint of the downloaded sound."""
        return self.base / "fingerprints" / f"{track_id}.json"

    def stems(self, model_id: str, track_id: str) -> UPath:
        """Folder of one track's stems."""
        return self.base / "stems" / model_id / track_id

    def features(self, feature_id: str, track_id: str) -> UPath:
        """One track's feature table."""
        return self.base / "features" / feature_id / f"{track_id}.parquet"

    def shards(self, dataset_id: str) -> UPath:
        """Arrow shards that the versions of one dataset share."""
        return self.base / "dataset" / "shards" / dataset_id

    def dataset(self, version: str) -> UPath:
        """One version of the dataset."""
        return self.base / "dataset" / version

    def splits(self) -> UPath:
        """Which group of tracks is in which split, for ever, whatever the features are."""
        return self.base / "dataset" / "splits.json"

    def groups(self) -> UPath:
        """Which sounds are nearly the same, and which track stands for each group of them, for ever."""
        return self.base / "dataset" / "groups.json"

    def dataset_health(self, dataset_id: str) -> UPath:
        """What was measured of the shards and feature files of a dataset; made again when it is gone."""
        return self.base / "dataset" / "health" / f"{dataset_id}.json"

    def dataset_report(self) -> UPath:
        """What the last assembly read and left out; the versions themselves never change."""
        return self.base / "dataset" / "report.json"

    def model(self, family: str, stage: str, version: str) -> UPath:
        """A trained model's or latent table's folder."""
        return self.base / "models" / family / stage / version

    def samples(self, family: str, version: str) -> UPath:
        """Generated samples."""
        return self.base / "samples" / family / version

    def evaluation(self, family: str, version: str) -> UPath:
        """The evaluation of one set of models."""
        return self.base / "evaluations" / family / version

    def release(self, family: str, version: str) -> UPath:
        """A portable release folder."""
        return self.base / "releases" / family / version

    def use(self, job: str, run_id: str) -> UPath:
        """What one run of a job made with a release: `interpolate`, `transfer`, ..."""
        return self.base / "uses" / job / run_id

    def gallery(self, version: str) -> UPath:
        """The page to listen to."""
        return self.base / "gallery" / version

    def picture(self, name: str) -> UPath:
        """A picture for the UI; `name` may have slashes and no suffix."""
        return self.at(f"pictures/{name}.png")

    def record_path(self, name: str) -> UPath:
        """Where the Artifact in use of an unpartitioned asset is recorded."""
        return self.base / "records" / f"{name.replace('/', '.')}.json"
