"""How files come to be in the store: whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from filelock import FileLock, Timeout
from upath import UPath

from melodygan_core.errors import TransientError
from melodygan_core.storage.files import own_folder, replacing, synced
from melodygan_core.storage.layout import Layout

ARTIFACT_FILE = "artifact.json"
# Written last, and so removed first: what is left of a folder without it passes for nothing.
MARKERS = (ARTIFACT_FILE, "stems.json")


@dataclass(frozen=True)
class Artifact:
    """One finished, immutable folder of the store, as its own `artifact.json` describes it.

    Attributes:
        name: The asset's name, such as `dense/gan_checkpoint`.
        version: Hash of config, input versions and code version; the folder's name.
        uri: Folder, relative to the store's root.
        sha256: Hash over the folder's file names and their hashes.
        bytes: Size of the folder.
        files: File name to SHA-256.
        config: The stage's config, as plain JSON.
        inputs: Upstream name to version.
        metrics: Figures of the stage, for people.
    """

    name: str
    version: str
    uri: str
    sha256: str
    bytes: int
    files: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)

    @property
    def family(self) -> str:
        """The family of models that the asset is of: what stands before the slash of its name."""
        family, slash, _ = self.name.partition("/")
        assert slash, f"{self.name} is of no family"
        return family


def sha256_of(path: Path) -> str:
    """SHA-256 of a local file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def dump_json(path: Path, value: object) -> None:
    """Writes JSON to a local file that is not yet visible to others."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", "utf-8")


def _local(path: UPath) -> Path:
    return Path(path.path)


@dataclass(frozen=True)
class Store(Layout):
    """A layout whose files are read, and written whole or not at all."""

    @property
    def work_base(self) -> Path:
        """The local folder that `work` is below: a local store's own, else one of the user's in TMPDIR.

        Raises:
            InputError: somebody else made it.
        """
        if self.is_local:
            return _local(self.base) / "work"
        # Its name can be foretold, and on a shared machine anybody may make what is not there yet.
        return own_folder(Path(tempfile.gettempdir()) / f"melodygan-{os.geteuid()}-{self.name}")

    def work(self, name: str) -> Path:
        """A local folder for resumable state and scratch, made if missing."""
        path = self.work_base / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def drop_work(self, name: str) -> None:
        """Removes scratch that is not needed any more."""
        shutil.rmtree(self.work(name), ignore_errors=True)

    @contextmanager
    def _copy(self, path: UPath) -> Iterator[Path]:
        """A local path for a copy; its folder's name says of what, so that it is found after a kill."""
        prefix = f"{quote(self.uri(path), safe='')}."
        with tempfile.TemporaryDirectory(dir=self.work("copies"), prefix=prefix) as folder:
            yield Path(folder) / path.name

    @contextmanager
    def reading(self, path: UPath) -> Iterator[Path]:
        """A local path with the content of a file or folder of the store."""
        if self.is_local:
            yield _local(path)
            return
        with self._copy(path) as local:
            path.fs.get(path.path, str(local), recursive=path.is_dir())
            yield local

    @contextmanager
    def writing(self, path: UPath) -> Iterator[Path]:
        """A local temporary path; when the block ends well it becomes `path`, atomically; see replacing."""
        if self.is_local:
            with replacing(_local(path)) as temporary:
                yield temporary
            return
        with self._copy(path) as temporary:
            yield temporary
            path.fs.put_file(str(temporary), path.path)

    @contextmanager
    def writing_folder(self, path: UPath) -> Iterator[Path]:
        """A local temporary folder; when the block ends well it becomes `path`, atomically.

        On object stores, which cannot rename, the marker (`artifact.json`, `stems.json`) is put last and means
        that the rest is whole.
        """
        if not self.is_local:
            with self._copy(path) as temporary:
                temporary.mkdir()
                yield temporary
                self._put_folder(temporary, path)
            return
        target = _local(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.parent / f".{uuid.uuid4().hex[:8]}-{path.name}"
        temporary.mkdir()
        try:
            yield temporary
            for path_inside in (*temporary.rglob("*"), temporary):
                synced(path_inside)
            # Half of a folder, or another writer's of the same version: replace it whole.
            self.remove(path)
            temporary.replace(target)
            synced(target.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _put_folder(self, folder: Path, path: UPath) -> None:
        self.remove(path)
        files = [f for f in folder.rglob("*") if f.is_file()]
        for last in (False, True):
            part = [f for f in files if (f.name in MARKERS and f.parent == folder) == last]
            if not part:
                continue
            # Together: what an object store takes long for is to answer.
            path.fs.put([str(f) for f in part], [(path / f.relative_to(folder).as_posix()).path for f in part])

    def remove(self, path: UPath) -> bool:
        """Takes a file or folder away, its marker first; says whether anything was there."""
        there = path.exists()
        if there and not path.is_dir():
            path.unlink(missing_ok=True)
        elif there:
            for marker in MARKERS:
                (path / marker).unlink(missing_ok=True)
            # Another run may remove it as well.
            with contextlib.suppress(FileNotFoundError):
                path.fs.rm(path.path, recursive=True)
        return there

    def write_json(self, path: UPath, value: object) -> None:
        """Writes JSON atomically."""
        with self.writing(path) as temporary:
            dump_json(temporary, value)

    def read_json(self, path: UPath) -> Any:
        """Reads JSON."""
        return json.loads(path.read_text("utf-8"))

    def read_jsons(self, paths: Sequence[UPath]) -> list[Any]:
        """Reads many JSON files together: an object store answers slowly, but many at a time."""
        if self.is_local or not paths:
            return [self.read_json(path) for path in paths]
        found = self.base.fs.cat([path.path for path in paths])
        return [json.loads(found[path.path]) for path in paths]

    @contextmanager
    def lock(self, name: str, timeout_s: float = 3600.0) -> Iterator[None]:
        """One holder at a time on this machine; a killed holder frees it.

        On several machines it spares double work at best: their `work` folders are apart, or the shared file
        system does not tell them of each other's locks. `parallel` gives a track to one worker at a time and
        Dagster to one run, so two meet only where a worker that was taken for dead is not. As every file is
        written aside and put in place whole, no half one comes of it. Of two writers the later stays, or fails
        and is tried again; in an object store a folder may come out mixed where machines round differently,
        which `melodygan doctor` finds by the hashes.

        Raises:
            TransientError: somebody else held it for all of `timeout_s`.
        """
        file = self.work("locks") / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.lock"
        try:
            with FileLock(file, timeout=timeout_s):
                yield
        except Timeout as error:
            raise TransientError(f"another run has held {name!r} for {timeout_s:.0f} s") from error

    # Immutable folders and the records that name the one in use.

    def get_or_build(
        self,
        name: str,
        folder: UPath,
        build: Callable[[Path], dict[str, Any]],
        *,
        config: dict[str, Any],
        inputs: dict[str, str],
    ) -> Artifact:
        """The artifact in `folder`, built now unless it is there already.

        Args:
            name: The asset's name.
            folder: Where it belongs; its last part is the version.
            build: Fills a temporary folder and returns the metrics.
            config: The stage's config, as plain JSON.
            inputs: Upstream name to version.
        """
        with self.lock(self.uri(folder)):
            if not (folder / ARTIFACT_FILE).exists():
                with self.writing_folder(folder) as temporary:
                    metrics = build(temporary)
                    paths = sorted(f for f in temporary.rglob("*") if f.is_file())
                    files = {f.relative_to(temporary).as_posix(): sha256_of(f) for f in paths}
                    artifact = Artifact(
                        name=name,
                        version=folder.name,
                        uri=self.uri(folder),
                        sha256=hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest(),
                        bytes=sum(f.stat().st_size for f in paths),
                        files=files,
                        config=config,
                        inputs=inputs,
                        metrics=metrics,
                    )
                    dump_json(temporary / ARTIFACT_FILE, asdict(artifact))
            return Artifact(**self.read_json(folder / ARTIFACT_FILE))

    def write_record(self, artifact: Artifact) -> None:
        """Names `artifact` as the one in use of its asset."""
        self.write_json(self.record_path(artifact.name), asdict(artifact))

    def record(self, name: str) -> Artifact | None:
        """The artifact in use of an asset, or None when there is none yet."""
        path = self.record_path(name)
        return Artifact(**self.read_json(path)) if path.exists() else None
