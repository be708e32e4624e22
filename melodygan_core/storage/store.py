"""Atomic file and artifact writes, locks and scratch of a store."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from upath import UPath

from melodygan_core.errors import InputError, TransientError, damage_errors
from melodygan_core.storage import kinds
from melodygan_core.storage.artifact import Artifact, dump_json, sha256_of
from melodygan_core.storage.files import (
    make_folders,
    named_errors,
    own_folder,
    replacing,
    synced,
    temporary_beside,
)
from melodygan_core.storage.kinds import ARTIFACT_FILE, MARKERS, Kind
from melodygan_core.storage.layout import Layout


def _local(path: UPath) -> Path:
    return Path(path.path)


@dataclass(frozen=True)
class Store(Layout):
    """A layout with atomic writes, locks and scratch."""

    def require_exists(self) -> None:
        """Raises InputError unless there is something at the root."""
        if not self.base.exists():
            raise InputError(f"store must be an existing folder or URI of a store, got {self.root!r}")

    # Scratch: always on this machine.

    @property
    def work_base(self) -> Path:
        """The local folder for scratch: inside a local store, else a private folder of the user in TMPDIR.

        Raises:
            InputError: another user owns that folder.
        """
        if self.is_local:
            return _local(self.base) / "work"
        # The name is predictable, and on a shared machine anybody may create a folder that does not exist yet.
        return own_folder(Path(tempfile.gettempdir()) / f"melodygan-{os.geteuid()}-{self.name}")

    def work(self, name: str) -> Path:
        """A local folder for resumable state or scratch, created if missing."""
        path = self.work_base / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def drop_work(self, name: str) -> None:
        """Removes a folder of `work`."""
        shutil.rmtree(self.work_base / name, ignore_errors=True)

    @contextmanager
    def scratch(self, kind: Kind, **fields: str) -> Iterator[Path]:
        """Yields a new local folder of a kind of scratch and removes it afterwards.

        Its name holds the fields, so that the check finds its lock and the erasure its track after a kill.
        """
        folder, _, name = kind.uri(**fields, random="random").removeprefix("work/").rpartition("/")
        prefix = name.removesuffix("random")
        # A TemporaryDirectory that may not be removed tries again until Python's recursion limit.
        path = Path(tempfile.mkdtemp(dir=self.work(folder), prefix=prefix))
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def locate(self, uri: str) -> UPath:
        """Path of a URI; `work/...` is on this machine.

        Raises:
            InputError: the URI is not below the root.
        """
        path = self.at(uri)
        top, _, rest = uri.partition("/")
        return UPath(self.work_base / rest) if top == kinds.LOCK.top else path

    # Files and folders.

    @contextmanager
    def _copy(self, path: UPath) -> Iterator[Path]:
        with self.scratch(kinds.COPY, copied=self.uri(path)) as folder:
            yield folder / path.name

    @contextmanager
    def reading(self, path: UPath) -> Iterator[Path]:
        """Yields a local path with the content of a file or folder of the store."""
        if self.is_local:
            yield _local(path)
            return
        with self._copy(path) as local:
            path.fs.get(path.path, str(local), recursive=path.is_dir())
            yield local

    @contextmanager
    def writing(self, path: UPath) -> Iterator[Path]:
        """Yields a local temporary path; the file replaces `path` atomically when the block succeeds."""
        if self.is_local:
            with replacing(_local(path)) as temporary:
                yield temporary
            return
        with self._copy(path) as temporary:
            yield temporary
            path.fs.put_file(str(temporary), path.path)

    @contextmanager
    def writing_folder(self, path: UPath) -> Iterator[Path]:
        """Yields a local temporary folder; it replaces `path` atomically when the block succeeds.

        Object stores cannot rename: there the marker (`artifact.json`, `stems.json`, `use.json`) is uploaded
        last, and a folder without it is incomplete.
        """
        if not self.is_local:
            with self._copy(path) as temporary:
                temporary.mkdir()
                yield temporary
                self._put_folder(temporary, path)
            return
        target = _local(path)
        make_folders(target.parent)
        temporary = temporary_beside(target)
        temporary.mkdir()
        try:
            with named_errors(target):
                yield temporary
                for path_inside in (*temporary.rglob("*"), temporary):
                    synced(path_inside)
                # An incomplete folder, or one that another writer has just finished.
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
            # Together: an object store is slow to answer, not to transfer.
            path.fs.put([str(f) for f in part], [(path / f.relative_to(folder).as_posix()).path for f in part])

    def remove(self, path: UPath) -> bool:
        """Removes a file or folder, its marker first; returns whether it existed."""
        existed = path.exists()
        if existed and not path.is_dir():
            path.unlink(missing_ok=True)
        elif existed:
            for marker in MARKERS:
                (path / marker).unlink(missing_ok=True)
            # Another run may remove it as well.
            with contextlib.suppress(FileNotFoundError):
                path.fs.rm(path.path, recursive=True)
        return existed

    def write_json(self, path: UPath, value: object) -> None:
        """Writes JSON atomically."""
        with self.writing(path) as temporary:
            dump_json(temporary, value)

    def read_json(self, path: UPath) -> Any:
        """Reads JSON.

        Raises:
            DamagedError: the file holds something else.
        """
        with damage_errors(path):
            return json.loads(path.read_text("utf-8"))

    def read_jsons(self, paths: Sequence[UPath]) -> list[Any]:
        """Reads many JSON files, from an object store concurrently.

        Raises:
            DamagedError: one of them holds something else.
        """
        if self.is_local or not paths:
            return [self.read_json(path) for path in paths]
        found = self.base.fs.cat([path.path for path in paths])
        values = []
        for path in paths:
            with damage_errors(path):
                values.append(json.loads(found[path.path]))
        return values

    # Locks.

    @contextmanager
    def lock(self, name: str, timeout_s: float = 3600.0) -> Iterator[None]:
        """Holds a lock of this machine, which the death of its holder releases.

        Between machines it only saves duplicate work at best: their `work` folders are separate, or the shared
        file system does not share locks. `parallel` gives each track to one worker and Dagster to one run, so
        two writers only meet after a worker was wrongly taken for dead. Because every write is atomic, neither
        leaves an incomplete file: the later writer wins, or fails and is retried. In an object store a folder
        may then mix files of both, where machines round differently; `melodygan doctor` finds it by the hashes.

        Args:
            name: As `kinds.lock_name` returns it; see `lock_for`.
            timeout_s: How long to wait.

        Raises:
            TransientError: another process held it for all of `timeout_s`.
        """
        file = self.work("locks") / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.lock"
        try:
            with FileLock(file, timeout=timeout_s):
                yield
        except Timeout as error:
            raise TransientError(f"another run has held {name!r} for {timeout_s:.0f} s") from error

    def lock_for(self, path: UPath, timeout_s: float = 3600.0) -> contextlib.AbstractContextManager[None]:
        """Holds the lock that protects a path; writers, check and erasure all use it.

        Raises:
            TransientError: another process held it for all of `timeout_s`.
        """
        return self.lock(kinds.lock_name(self.uri(path)), timeout_s)

    @contextmanager
    def try_locks(self, names: Sequence[str], timeout_s: float = 0.0) -> Iterator[bool]:
        """Holds several locks and yields True, or yields False where another process holds one of them."""
        with ExitStack() as stack:
            try:
                for name in sorted(set(names)):
                    stack.enter_context(self.lock(name, timeout_s))
                free = True
            except TransientError:
                free = False
            except OSError as error:
                # Where no lock can be written, nothing else is being written either.
                if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                    raise
                free = True
            yield free

    # Immutable folders, and the records that name the one in use.

    def get_or_build(
        self,
        name: str,
        folder: UPath,
        build: Callable[[Path], dict[str, Any]],
        *,
        config: dict[str, Any],
        inputs: dict[str, str],
    ) -> Artifact:
        """Returns the artifact in `folder`, built now unless it exists.

        Args:
            name: The asset's name.
            folder: Where it belongs; its last part is the version.
            build: Fills a temporary folder and returns the metrics.
            config: The stage's config, as plain JSON.
            inputs: Upstream name to version.
        """
        with self.lock_for(folder):
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
            return self._artifact(folder / ARTIFACT_FILE)

    def _artifact(self, path: UPath) -> Artifact:
        with damage_errors(path):
            return Artifact.from_json(self.read_json(path))

    def write_record(self, artifact: Artifact) -> None:
        """Records `artifact` as the one in use of its asset."""
        self.write_json(self.record_path(artifact.name), asdict(artifact))

    def record(self, name: str) -> Artifact | None:
        """The artifact in use of an asset, or None when there is none yet.

        Raises:
            DamagedError: the record cannot be read.
        """
        path = self.record_path(name)
        return self._artifact(path) if path.exists() else None

    def artifact(self, folder: UPath) -> Artifact | None:
        """The artifact in a folder, or None when it is not there or incomplete.

        Raises:
            DamagedError: its description cannot be read.
        """
        path = folder / ARTIFACT_FILE
        return self._artifact(path) if path.exists() else None
