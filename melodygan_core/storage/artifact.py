"""The description of an immutable folder of the store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from melodygan_core.errors import InputError
from melodygan_core.storage.kinds import ARTIFACT_FILE

# Larger files describe no artifact: one of a million files has some 100 MB.
_MAX_BYTES = 200_000_000


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

    @classmethod
    def from_json(cls, value: Any) -> Artifact:
        """The artifact that a JSON object describes.

        Raises:
            TypeError: a field is missing, unknown, or of another type.
        """
        made = cls(**value)
        if not all(isinstance(fields, dict) for fields in (made.files, made.config, made.inputs, made.metrics)):
            raise TypeError("files, config, inputs and metrics must be objects")
        texts = (made.name, made.version, made.uri, made.sha256, *made.files.values(), *made.inputs.values())
        if not all(isinstance(text, str) for text in texts) or type(made.bytes) is not int:
            raise TypeError("names, versions and hashes must be text, and bytes a whole number")
        return made

    @property
    def group(self) -> str:
        """The part of its name before the slash: a codec or a pipeline."""
        group, slash, _ = self.name.partition("/")
        assert slash, f"{self.name} has no group"
        return group


def sha256_of(path: Path) -> str:
    """SHA-256 of a local file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def dump_json(path: Path, value: object) -> None:
    """Writes JSON to a local file that nobody reads yet: the write is not atomic."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", "utf-8")


def load_object(path: Path, max_bytes: int) -> dict[str, Any]:
    """The JSON object of a local file, which may come from strangers.

    Args:
        path: Of an existing file.
        max_bytes: Largest size that is read.

    Raises:
        InputError: the file is larger, or no JSON object.
    """
    size = path.stat().st_size
    if size > max_bytes:
        raise InputError(f"{path} must have at most {max_bytes} bytes, got {size}")
    try:
        value = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} must be JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} must be a JSON object, got {type(value).__name__}")
    return value


def check_hashes(folder: Path, reads: Callable[[str], bool] = lambda name: True) -> None:
    """Compares files of a local folder with the hashes in its `artifact.json`; nothing where there is none.

    Args:
        folder: Of an artifact, or a copy of one.
        reads: Whether a file, named relative to the folder with slashes, is compared.

    Raises:
        InputError: a file is missing or has changed, or `artifact.json` is damaged.
    """
    path = folder / ARTIFACT_FILE
    if not path.is_file():
        return
    for name, expected in _hashes(path).items():
        if not reads(name):
            continue
        # The names may come from a stranger.
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise InputError(f"files of {path} must be names in its folder, got {name[:200]!r}")
        found = sha256_of(folder / name) if (folder / name).is_file() else "no such file"
        if found != expected:
            raise InputError(
                f"SHA-256 of {folder / name} must be {expected[:64]}, as in {ARTIFACT_FILE}, got {found}:"
                " the file has changed; copy the folder again, or make it again"
            )


def _hashes(path: Path) -> dict[str, str]:
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise InputError(f"{path} must have at most {_MAX_BYTES} bytes, got {size}")
    try:
        files = json.loads(path.read_text("utf-8"))["files"]
        good = isinstance(files, dict) and all(isinstance(v, str) for v in files.values())
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise InputError(f"{path} must be the description of an artifact: {error!r:.200}") from error
    if not good:
        raise InputError(f"files of {path} must be names with their SHA-256, got {files!r:.200}")
    return files
