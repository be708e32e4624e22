"""What a release folder says of itself: its components with their hashes, and a format version."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from melodygan_core.config import from_dict, require, to_dict
from melodygan_core.config.provenance import Provenance, is_line
from melodygan_core.errors import InputError
from melodygan_core.storage import sha256_of
from melodygan_core.storage.start import RELEASES
from melodygan_core.training.checkpoint import load_config

FILE = "manifest.json"
# Written for people; who passes a release on may edit it.
CARD = "MODEL_CARD.md"
# Raised when an older version could not read the folder any more.
FORMAT = 3
COMPONENTS = ("codec", "refiner", "prior", "vocoder")
# Components that may have no weights.
_OPTIONAL = ("refiner", "vocoder")
# Releases of format 2 have no refiner.
_FORMATS = (2, FORMAT)
# A release of 100,000 tracks has a manifest of some 30 MB.
MAX_BYTES = 64_000_000
_NAMED = 5
_KEYS = ("format", "pipeline", "version", "components", "models", "sources", "generation", "evaluation")


def _are_figures(values: object) -> bool:
    if not isinstance(values, dict):
        return False
    return all(is_line(k) and (isinstance(v, int | float) or is_line(v)) for k, v in values.items())


@dataclass(frozen=True)
class Component:
    """One part of a release.

    Attributes:
        kind: Name of the codec, of the prior (its codec's name, a slash, its own) or of the vocoder; `flow` or
            `none` for the refiner.
        path: Its folder in the release; empty for a vocoder without weights, and for no refiner.
        sha256: Hash over the names and hashes of the folder's files.
    """

    kind: str
    path: str
    sha256: str


NO_REFINER = Component("none", "", "")


@dataclass(frozen=True)
class Manifest:
    """The content of `manifest.json`.

    Attributes:
        pipeline: Name of the pipeline.
        version: Of the release.
        components: `codec`, `refiner`, `prior` and `vocoder`.
        models: Asset name of each checkpoint to its version.
        sources: Training tracks with licences and rights.
        generation: How sound is made unless the user chooses otherwise, as plain JSON.
        evaluation: Figures.
        griffin_lim: Settings of the vocoder `griffin_lim`, as plain JSON.
        started_from: Releases that trainings began with: `pipeline`, `version` and `parts`, as plain JSON.
    """

    pipeline: str
    version: str
    components: dict[str, Component]
    models: dict[str, str]
    sources: dict[str, Any]
    generation: dict[str, Any]
    evaluation: dict[str, Any]
    griffin_lim: dict[str, Any]
    started_from: list[dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON, with the format version."""
        components = {name: dict(vars(part)) for name, part in self.components.items()}
        values = {"format": FORMAT, **vars(self), "components": components}
        return values if self.started_from else {k: v for k, v in values.items() if k != RELEASES}


def folder_sha256(folder: Path) -> str:
    """Hash over the relative names and hashes of all files of a folder."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    files = {p.relative_to(folder).as_posix(): sha256_of(p) for p in paths}
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def checked_provenance(path: Path, stored: Mapping[str, Any]) -> Provenance:
    """The provenance among the values of a manifest.

    Args:
        path: Of the manifest, for errors.
        stored: Values by name; others than those of Provenance are ignored.

    Raises:
        InputError: a value is missing, of another type or too long.
    """
    try:
        return from_dict(Provenance, {k: stored[k] for k in Provenance.model_fields if k in stored})
    except InputError as error:
        # A damaged list may have thousands of wrong items.
        problems = [str(problem) for problem in error.args]
        more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        raise InputError(f"{path}: {'; '.join(problems[:_NAMED])}{more}") from error


def read(folder: Path) -> Manifest:
    """The manifest of a release folder; its components are as hashed.

    Raises:
        InputError: no release, another format, a value of a wrong type, or a component that is missing or has
            changed.
    """
    stored = load_config(folder, *_KEYS, file=FILE, max_bytes=MAX_BYTES)
    require(stored["format"] in _FORMATS, f"format of {folder / FILE}", stored["format"], "2 or 3")
    provenance = checked_provenance(folder / FILE, stored)
    require(
        _are_figures(stored["evaluation"]),
        f"evaluation of {folder / FILE}",
        stored["evaluation"],
        "names with their figures, each a number or text",
    )
    try:
        described = (
            {"refiner": vars(NO_REFINER), **stored["components"]}
            if stored["format"] == 2
            else stored["components"]
        )
        components = {name: Component(**described[name]) for name in COMPONENTS}
        manifest = Manifest(
            pipeline=provenance.pipeline,
            version=provenance.version,
            components=components,
            models=dict(provenance.models),
            sources=to_dict(provenance.sources),
            generation=dict(stored["generation"]),
            evaluation=dict(stored["evaluation"]),
            griffin_lim=dict(stored.get("griffin_lim") or {}),
            started_from=[to_dict(row) for row in provenance.started_from],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{folder / FILE} must be a release manifest: {error!r:.200}") from error
    for name, part in components.items():
        _check(folder, name, part)
    return manifest


def _check(folder: Path, name: str, part: Component) -> None:
    for key, value in vars(part).items():
        require(isinstance(value, str), f"{key} of {name}", value, "text")
    if not part.path:
        require(name in _OPTIONAL, f"path of {name}", part.path, "a folder of the release")
        return
    # The path comes from a stranger: it names a folder directly in the release.
    plain = part.path not in (".", "..") and "/" not in part.path
    require(
        plain and "\\" not in part.path, f"path of {name}", part.path, "the name of a folder of the release"
    )
    require((folder / part.path).is_dir(), f"path of {name}", part.path, "an existing folder of the release")
    found = folder_sha256(folder / part.path)
    require(found == part.sha256, f"SHA-256 of {folder / part.path}", found, f"{part.sha256}, as in {FILE}")
