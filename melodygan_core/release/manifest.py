"""What a release folder says of itself: its components with their hashes, and a format version."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from melodygan_core.config import require
from melodygan_core.errors import InputError
from melodygan_core.storage import sha256_of
from melodygan_core.training.checkpoint import load_config

FILE = "manifest.json"
# Raised when an older version could not read the folder any more.
FORMAT = 2
COMPONENTS = ("codec", "prior", "vocoder")
_KEYS = ("format", "pipeline", "version", "components", "models", "sources", "generation", "evaluation")


@dataclass(frozen=True)
class Component:
    """One part of a release.

    Attributes:
        kind: Name of the codec, of the prior (its codec's name, a slash, its own) or of the vocoder.
        path: Its folder in the release; empty for a vocoder without weights.
        sha256: Hash over the names and hashes of the folder's files.
    """

    kind: str
    path: str
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The content of `manifest.json`.

    Attributes:
        pipeline: Name of the pipeline.
        version: Of the release.
        components: `codec`, `prior` and `vocoder`.
        models: Asset name of each checkpoint to its version.
        sources: Training tracks with licences and rights.
        generation: How sound is made unless the user chooses otherwise, as plain JSON.
        evaluation: Figures.
        griffin_lim: Settings of the vocoder `griffin_lim`, as plain JSON.
    """

    pipeline: str
    version: str
    components: dict[str, Component]
    models: dict[str, str]
    sources: dict[str, Any]
    generation: dict[str, Any]
    evaluation: dict[str, Any]
    griffin_lim: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON, with the format version."""
        components = {name: dict(vars(part)) for name, part in self.components.items()}
        return {"format": FORMAT, **vars(self), "components": components}


def folder_sha256(folder: Path) -> str:
    """Hash over the relative names and hashes of all files of a folder."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    files = {p.relative_to(folder).as_posix(): sha256_of(p) for p in paths}
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def checked_sources(sources: Any) -> dict[str, Any]:
    """The training tracks of a manifest, as `generation.sources` describes them.

    Raises:
        TypeError: they are something else.
    """
    named = {"dataset": str, "stems": list, "tracks": list, "licences": list}
    for key, kind in named.items():
        if type(sources.get(key)) is not kind:
            raise TypeError(f"sources must have {', '.join(named)}, got {key} of {sources.get(key)!r:.100}")
    if not all(type(name) is str for key in ("stems", "licences") for name in sources[key]):
        raise TypeError("stems and licences of sources must be lists of names")
    return dict(sources)


def read(folder: Path) -> Manifest:
    """The manifest of a release folder; its components are as hashed.

    Raises:
        InputError: no release, another format, or a component that is missing or has changed.
    """
    stored = load_config(folder, *_KEYS, file=FILE)
    require(stored["format"] == FORMAT, f"format of {folder / FILE}", stored["format"], str(FORMAT))
    try:
        components = {name: Component(**stored["components"][name]) for name in COMPONENTS}
        manifest = Manifest(
            pipeline=str(stored["pipeline"]),
            version=str(stored["version"]),
            components=components,
            models={str(k): str(v) for k, v in stored["models"].items()},
            sources=checked_sources(stored["sources"]),
            generation=dict(stored["generation"]),
            evaluation=dict(stored["evaluation"]),
            griffin_lim=dict(stored.get("griffin_lim") or {}),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{folder / FILE} must be a release manifest: {error!r}") from error
    for name, part in components.items():
        _check(folder, name, part)
    return manifest


def _check(folder: Path, name: str, part: Component) -> None:
    for key, value in vars(part).items():
        require(isinstance(value, str), f"{key} of {name}", value, "text")
    if not part.path:
        require(name == "vocoder", f"path of {name}", part.path, "a folder of the release")
        return
    # The path comes from a stranger: it names a folder directly in the release.
    plain = part.path not in (".", "..") and "/" not in part.path
    require(
        plain and "\\" not in part.path, f"path of {name}", part.path, "the name of a folder of the release"
    )
    require((folder / part.path).is_dir(), f"path of {name}", part.path, "an existing folder of the release")
    found = folder_sha256(folder / part.path)
    require(found == part.sha256, f"SHA-256 of {folder / part.path}", found, f"{part.sha256}, as in {FILE}")
