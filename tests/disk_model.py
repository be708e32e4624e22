"""A model of a disk that loses power: what was written, and what of that is sure to be there afterwards."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Literal

from tests.syscalls import Call

# What a power loss leaves of the calls so far.
#   ordered: all of them, as after a kill.
#   torn:    all names (files, folders, renames, removals), but only the synced content of files. What was not
#            synced is empty, cut off or zeros, as on a file system that writes content after names.
#   synced:  a name only if its folder was synced after it was made, and only synced content.
Loss = Literal["ordered", "torn", "synced"]
LOSSES: tuple[Loss, ...] = ("ordered", "torn", "synced")


@dataclass(eq=False)
class File:
    """A file's content, and what of it was synced; None before the first time.

    Attributes:
        data: The content.
        synced: The content at its last sync.
        version: Number of changes of the content.
        origin: A real file with the content of version 0.
    """

    data: bytearray = field(default_factory=bytearray)
    synced: bytes | None = None
    version: int = 0
    origin: Path | None = None
    _digests: dict[int, str] = field(default_factory=dict)

    def after(self, loss: Loss, rng: Random) -> bytes:
        """The content after a power loss."""
        data, synced = bytes(self.data), self.synced
        if loss == "ordered" or data == synced:
            return data
        return rng.choice((synced or b"", data[: len(data) // 2], bytes(len(data))))

    def digest(self, loss: Loss) -> str:
        """Hash of the content after a power loss; one that depends on chance says so."""
        if loss != "ordered" and bytes(self.data) != self.synced:
            return f"unsynced {self.version}"
        if self.version not in self._digests:
            self._digests = {self.version: hashlib.sha256(self.data).hexdigest()}
        return self._digests[self.version]


@dataclass(eq=False)
class Folder:
    """A folder's names, and those at its last sync."""

    names: dict[str, File | Folder] = field(default_factory=dict)
    synced: dict[str, File | Folder] = field(default_factory=dict)

    def after(self, loss: Loss) -> dict[str, File | Folder]:
        """The names after a power loss."""
        return self.synced if loss == "synced" else self.names


class Disk:
    """The files below one folder, to which calls are applied one by one.

    Args:
        root: The folder in the calls.
        start: A real folder with the content before the first call, all of it synced.
    """

    def __init__(self, root: Path, start: Path) -> None:
        self.root, self.top = str(root), _loaded(start)
        # Position of each open file. By descriptor and file: which process has it open does not matter.
        self._positions: dict[tuple[int, int], int] = {}

    def apply(self, call: Call) -> bool:
        """Applies a call; returns whether it can change what a power loss leaves."""
        path = call.path
        match call.name:
            case "open":
                return self._open(call)
            case "write":
                self._write(call)
            case "sendfile":
                source = self.find(call.target)
                content = source.data if isinstance(source, File) else Path(call.target).read_bytes()
                end = call.position + len(call.data)
                self._write(replace(call, data=bytes(content[call.position : end]), position=-1))
            case "lseek":
                file = self.find(path)
                self._positions[call.fd, id(file)] = call.position
                return False
            case "truncate" | "fallocate":
                file = self._file(path)
                if call.name == "truncate":
                    del file.data[call.position :]
                file.data.extend(bytes(max(0, call.position - len(file.data))))
                file.version += 1
            case "fsync":
                return self._sync(self.find(path))
            case "mkdir":
                self._parent(path)[0].names[Path(path).name] = Folder()
            case "unlink" | "rmdir":
                folder, name = self._parent(path)
                folder.names.pop(name, None)
            case "rename" | "link":
                self._move(call)
            case "gone":
                return False
            case name:
                raise RuntimeError(f"call must be one that the model knows, got {name}")
        return True

    def find(self, path: str) -> File | Folder | None:
        """The file or folder of a path, or None."""
        node: File | Folder | None = self.top
        for name in self._parts(path) if self._inside(path) else ("",):
            node = node.names.get(name) if isinstance(node, Folder) else None
        return node

    def files(self, loss: Loss) -> dict[str, File]:
        """The files after a power loss, by their path relative to the root."""
        found: dict[str, File] = {}
        _collect(self.top, "", loss, found)
        return found

    def write(self, loss: Loss, rng: Random, root: Path) -> None:
        """Writes what a power loss leaves into a new real folder."""
        root.mkdir(parents=True)
        _restore(self.top, loss, rng, root)

    def _parts(self, path: str) -> list[str]:
        return path[len(self.root) :].strip("/").split("/") if path != self.root else []

    def _inside(self, path: str) -> bool:
        return path == self.root or path.startswith(self.root + "/")

    def _parent(self, path: str) -> tuple[Folder, str]:
        *parents, name = self._parts(path)
        node = self.top
        for parent in parents:
            # Folders for scratch existed before the first call, and are no part of the start.
            found = node.names.setdefault(parent, Folder())
            assert isinstance(found, Folder), path
            node = found
        return node, name

    def _file(self, path: str) -> File:
        found = self.find(path)
        assert isinstance(found, File), path
        return found

    def _open(self, call: Call) -> bool:
        changed = False
        file = self.find(call.path)
        if file is None and "O_CREAT" in call.flags:
            folder, name = self._parent(call.path)
            file = folder.names[name] = File()
            changed = True
        if isinstance(file, File):
            if "O_TRUNC" in call.flags and file.data:
                file.data.clear()
                file.version += 1
                changed = True
            self._positions[call.fd, id(file)] = -1 if "O_APPEND" in call.flags else 0
        return changed

    def _write(self, call: Call) -> None:
        file = self._file(call.path)
        key = call.fd, id(file)
        position = call.position if call.position >= 0 else self._positions.get(key, -1)
        start = position if position >= 0 else len(file.data)
        file.data.extend(bytes(max(0, start - len(file.data))))
        file.data[start : start + len(call.data)] = call.data
        file.version += 1
        if call.position < 0 and position >= 0:
            self._positions[key] = start + len(call.data)

    def _move(self, call: Call) -> None:
        old = self.find(call.path) if self._inside(call.path) else None
        if call.name == "rename" and old is not None:
            folder, name = self._parent(call.path)
            del folder.names[name]
        if self._inside(call.target):
            assert old is not None, f"{call.path} must be in the model"
            folder, name = self._parent(call.target)
            folder.names[name] = old

    def _sync(self, node: File | Folder | None) -> bool:
        if isinstance(node, Folder):
            changed = node.synced != node.names
            node.synced = dict(node.names)
            return changed
        if isinstance(node, File):
            changed = node.synced != bytes(node.data)
            node.synced = bytes(node.data)
            return changed
        return False


def _loaded(folder: Path) -> Folder:
    made = Folder()
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            made.names[entry.name] = _loaded(entry)
        else:
            content = entry.read_bytes()
            made.names[entry.name] = File(bytearray(content), content, origin=entry)
    made.synced = dict(made.names)
    return made


def _collect(folder: Folder, prefix: str, loss: Loss, found: dict[str, File]) -> None:
    for name, node in folder.after(loss).items():
        if isinstance(node, Folder):
            _collect(node, f"{prefix}{name}/", loss, found)
        else:
            found[prefix + name] = node


def _restore(folder: Folder, loss: Loss, rng: Random, root: Path) -> None:
    for name, node in folder.after(loss).items():
        if isinstance(node, Folder):
            (root / name).mkdir()
            _restore(node, loss, rng, root / name)
        elif node.origin is not None and node.version == 0:
            # Nothing is changed in place.
            os.link(node.origin, root / name)
        else:
            (root / name).write_bytes(node.after(loss, rng))
