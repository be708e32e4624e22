"""Paths of a store, built from the declarations in `kinds`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import fsspec
from fsspec.registry import known_implementations
from upath import UPath

from melodygan_core.errors import INSTALL, InputError
from melodygan_core.storage import kinds
from melodygan_core.storage.kinds import Kind


@dataclass(frozen=True)
class Layout:
    """Paths below one root, which is a local folder or any fsspec URI.

    Attributes:
        root: Such as `data`, `/mnt/music`, `s3://bucket/prefix`, `memory://name`.
    """

    root: str

    def __reduce__(self) -> tuple[type[Layout], tuple[str]]:
        # The receiving process may have another working directory.
        return type(self), (self.base.path if self.is_local else self.root,)

    @cached_property
    def base(self) -> UPath:
        """The root as a path; local ones are absolute.

        Raises:
            InputError: no installed library opens the root.
        """
        if self.is_local:
            return UPath(Path(self.root.removeprefix("file://")).absolute())
        protocol = self.root.partition("://")[0]
        if protocol not in known_implementations:
            known = "a folder, s3://bucket/prefix, memory://name or a URI of another fsspec protocol"
            raise InputError(f"store must be {known}, got {self.root!r}")
        try:
            fsspec.get_filesystem_class(protocol)
        except ImportError as error:
            need = f"{INSTALL} '.[s3]'" if protocol in ("s3", "s3a") else str(error)
            raise InputError(f"store must be of an installed protocol ({need}), got {self.root!r}") from error
        # A cached listing lacks what other processes have written since.
        return UPath(self.root, use_listings_cache=False)

    @property
    def is_local(self) -> bool:
        """Whether the root is a folder on this machine."""
        return "://" not in self.root or self.root.startswith("file://")

    @property
    def in_memory(self) -> bool:
        """Whether the store lives in this process's memory, invisible to other processes."""
        return self.root.startswith("memory://")

    @property
    def name(self) -> str:
        """Name of this machine's local folder for a remote store."""
        return hashlib.sha256(self.root.rstrip("/").encode()).hexdigest()[:12]

    def at(self, uri: str) -> UPath:
        """The path of a URI relative to the root.

        Raises:
            InputError: the URI is not below the root.
        """
        if uri.startswith("/") or "://" in uri or ".." in uri.split("/"):
            raise InputError(f"uri must be a path below the store's root, got {uri!r}")
        return self.base / uri

    def uri(self, path: UPath) -> str:
        """The path relative to the root, with forward slashes."""
        return path.relative_to(self.base).as_posix()

    def path(self, kind: Kind, **fields: str) -> UPath:
        """Path of a file or folder of a kind; its fields are those of the kind's template."""
        return self.base / kind.uri(**fields)

    def catalogue(self) -> UPath:
        """Parquet table of all tracks."""
        return self.path(kinds.CATALOGUE)

    def forgotten(self) -> UPath:
        """List of forgotten tracks, which sources do not bring back."""
        return self.path(kinds.FORGOTTEN)

    def mark(self, name: str, version: str) -> UPath:
        """Inputs of an artifact that was removed with a track: they show which models were made from it."""
        return self.path(kinds.MARK, asset=name, version=version)

    def raw_wav(self, track_id: str) -> UPath:
        """Downloaded sound of a track."""
        return self.path(kinds.RAW_WAV, track_id=track_id)

    def raw_json(self, track_id: str) -> UPath:
        """Provenance of the downloaded sound; written last, so where it exists the wav is complete."""
        return self.path(kinds.RAW_JSON, track_id=track_id)

    def raw_error(self, track_id: str) -> UPath:
        """Permanent failure of a track, which later runs skip."""
        return self.path(kinds.RAW_ERROR, track_id=track_id)

    def fingerprint(self, track_id: str) -> UPath:
        """Acoustic fingerprint of the downloaded sound."""
        return self.path(kinds.FINGERPRINT, track_id=track_id)

    def stems(self, model_id: str, track_id: str) -> UPath:
        """Folder of a track's stems."""
        return self.path(kinds.STEMS, model_id=model_id, track_id=track_id)

    def features(self, feature_id: str, track_id: str) -> UPath:
        """Feature table of a track."""
        return self.path(kinds.FEATURES, feature_id=feature_id, track_id=track_id)

    def shards(self, dataset_id: str) -> UPath:
        """Folder of Arrow shards that all versions of a dataset share."""
        return self.path(kinds.SHARDS, dataset_id=dataset_id)

    def dataset(self, version: str) -> UPath:
        """Folder of one version of the dataset."""
        return self.path(kinds.DATASET, version=version)

    def splits(self) -> UPath:
        """Split of every group of tracks; a group keeps its split for ever."""
        return self.path(kinds.SPLITS)

    def groups(self) -> UPath:
        """Groups of nearly equal recordings, and the track that represents each; kept for ever."""
        return self.path(kinds.GROUPS)

    def dataset_health(self, dataset_id: str) -> UPath:
        """Figures of a dataset's shards and feature files; computed again when missing."""
        return self.path(kinds.HEALTH, dataset_id=dataset_id)

    def dataset_report(self) -> UPath:
        """What the last assembly read and excluded; the versions themselves never change."""
        return self.path(kinds.REPORT)

    def model(self, group: str, stage: str, version: str) -> UPath:
        """Folder of a trained model or latent table.

        Args:
            group: The codec that it belongs to, or `vocoder`.
            stage: `autoencoder`, `latents`, `vocoder`, or the prior's name.
            version: Hash of config, inputs and code version.
        """
        return self.path(kinds.MODEL, group=group, stage=stage, version=version)

    def training_work(self, group: str, stage: str, version: str) -> str:
        """Name, for `Store.work`, of the resumable state of the training of `model(group, stage, version)`."""
        uri = kinds.TRAINING_STATE.uri(group=group, stage=stage, version=version)
        return uri.removeprefix("work/")

    def samples(self, pipeline: str, version: str) -> UPath:
        """Folder of a pipeline's generated samples."""
        return self.path(kinds.SAMPLES, pipeline=pipeline, version=version)

    def evaluation(self, pipeline: str, version: str) -> UPath:
        """Folder of a pipeline's evaluation."""
        return self.path(kinds.EVALUATION, pipeline=pipeline, version=version)

    def release(self, pipeline: str, version: str) -> UPath:
        """Folder of a pipeline's portable release."""
        return self.path(kinds.RELEASE, pipeline=pipeline, version=version)

    def use(self, job: str, run_id: str) -> UPath:
        """Folder of what one run of a job made with a release: `interpolate`, `transfer`, ..."""
        return self.path(kinds.USE, job=job, run_id=run_id)

    def gallery(self, version: str) -> UPath:
        """Folder of the listening page."""
        return self.path(kinds.GALLERY, version=version)

    def picture(self, name: str) -> UPath:
        """Picture for the UI, named after the URI that it shows, without its suffix."""
        return self.at(kinds.PICTURE.uri(pictured=name))

    def record_path(self, name: str) -> UPath:
        """Record of the artifact in use of an unpartitioned asset."""
        return self.path(kinds.RECORD, asset=name)
