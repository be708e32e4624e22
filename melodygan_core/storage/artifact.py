"""The description of an immutable folder of the store."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


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
