"""The releases of a store and what each can do, read from their JSON files without loading a model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from upath import UPath

from melodygan_core.config import GenerationConfig, from_dict, require
from melodygan_core.config.registry import prior_component, prior_names
from melodygan_core.errors import InputError, MelodyGANError
from melodygan_core.storage import Artifact, Store

_ASSET = "release"
# Larger files are no description of a release.
_MAX_BYTES = 32_000_000


@dataclass(frozen=True)
class ReleaseFacts:
    """A release in use and what it can be asked for.

    Attributes:
        artifact: Its record.
        pipeline: Name of its pipeline.
        capabilities: What its prior can do besides making new pieces: `continue`, `inpaint`, `loop`, `vary`.
        conditions: What its prior was conditioned on; empty for nothing.
        style_tags: Tags whose timbre `transfer` can take.
        is_flow: Whether its prior solves a differential equation, and so takes `guidance` and `steps`.
        generation: How it generates unless its user chooses otherwise.
    """

    artifact: Artifact
    pipeline: str
    capabilities: frozenset[str] = frozenset()
    conditions: tuple[str, ...] = ()
    style_tags: tuple[str, ...] = ()
    is_flow: bool = False
    generation: GenerationConfig = field(default_factory=GenerationConfig)

    @property
    def version(self) -> str:
        """Version of the release."""
        return self.artifact.version


def releases_in_use(store: Store) -> list[ReleaseFacts]:
    """The release in use of every pipeline of a store that has one, by name of the pipeline."""
    folder = store.record_path(f"x/{_ASSET}").parent
    suffix = f".{_ASSET}.json"
    names = sorted(path.name.removesuffix(suffix) for path in _files(folder) if path.name.endswith(suffix))
    found = (store.record(f"{name}/{_ASSET}") for name in names)
    return [release_facts(store, artifact) for artifact in found if artifact is not None]


def release_in_use(store: Store, pipeline: str) -> ReleaseFacts:
    """The release in use of a pipeline.

    Raises:
        InputError: the store has none.
    """
    known = {facts.pipeline: facts for facts in releases_in_use(store)}
    require(pipeline in known, "pipeline", pipeline, ", ".join(known) or "empty: the store has no release yet")
    return known[pipeline]


def release_facts(store: Store, artifact: Artifact) -> ReleaseFacts:
    """Reads what a release can do; what cannot be read is left to the loader, which reports it.

    Args:
        store: That the release is in.
        artifact: Record of the release.
    """
    folder = store.at(artifact.uri)
    manifest = _object(_read(folder / "manifest.json"))
    prior = _object(_object(manifest.get("components")).get("prior"))
    codec, _, name = str(prior.get("kind")).partition("/")
    known = (codec, name) in prior_names()
    capabilities = prior_component(codec, name).capabilities if known else frozenset[str]()
    styles = _object(_object(_read(folder / "styles.json")).get("styles"))
    return ReleaseFacts(
        artifact,
        artifact.group,
        capabilities,
        _conditions(folder, prior.get("path")),
        tuple(styles),
        # Only a flow makes latents without end from a part of them.
        "stream" in capabilities,
        _generation(manifest),
    )


def _conditions(folder: UPath, path: Any) -> tuple[str, ...]:
    # Only a folder directly in the release is read.
    if not isinstance(path, str) or path in ("", ".", "..") or "/" in path or "\\" in path:
        return ()
    conditions = _object(_read(folder / path / "config.json")).get("conditions")
    return tuple(map(str, conditions)) if isinstance(conditions, list) else ()


def _generation(manifest: dict[str, Any]) -> GenerationConfig:
    try:
        return from_dict(GenerationConfig, _object(manifest.get("generation")))
    except InputError:
        return GenerationConfig()


def _files(folder: UPath) -> Iterator[UPath]:
    yield from folder.iterdir() if folder.is_dir() else ()


def _read(path: UPath) -> Any:
    try:
        return json.loads(path.read_text("utf-8")) if path.stat().st_size <= _MAX_BYTES else None
    except (OSError, ValueError, RecursionError, MelodyGANError):
        return None


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
