"""Reads a release folder: its pipeline on a device, with styles and provenance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from melodygan_core import codec as codecs
from melodygan_core import prior as priors
from melodygan_core.config import FeatureConfig, GenerationConfig, GriffinLimConfig, from_dict, require
from melodygan_core.errors import InputError
from melodygan_core.pipeline import Pipeline
from melodygan_core.release import fit, legacy, manifest, styles
from melodygan_core.release.manifest import CARD, Manifest
from melodygan_core.release.styles import Style
from melodygan_core.storage import check_hashes
from melodygan_core.storage.start import RELEASES
from melodygan_core.training import resolve_device
from melodygan_core.training.checkpoint import CONFIG_FILE, config_errors, load_config
from melodygan_core.vocoder import BatchedVocoder, load_vocoder, neural_vocoder


@dataclass(frozen=True)
class Release:
    """A release folder, read.

    Attributes:
        pipeline: Makes sound.
        generation: How, unless its user chooses otherwise.
        manifest: Version, components, sources with their licences, figures.
        styles: Of the training tracks: `all`, each stem, each tag; none in a release that has none.
    """

    pipeline: Pipeline
    generation: GenerationConfig
    manifest: Manifest
    styles: dict[str, Style]

    @property
    def version(self) -> str:
        """The version of the release."""
        return self.manifest.version

    @property
    def provenance(self) -> dict[str, Any]:
        """What every sound that is made with the release carries."""
        begun = self.manifest.started_from
        return {
            "release": self.version,
            "pipeline": self.manifest.pipeline,
            "models": self.manifest.models,
            "sources": self.manifest.sources,
            **({RELEASES: begun} if begun else {}),
        }

    def style(self, tag: str) -> Style:
        """The style of a tag.

        Raises:
            InputError: unknown; the message lists the known ones.
        """
        known = ", ".join(self.styles) or "none: this release was published without styles; publish it again"
        require(tag in self.styles, "style_tag", tag, known)
        return self.styles[tag]


def load(folder: Path, vocoder: str = "", device: str = "auto") -> Release:
    """Reads a release folder of this version or of version 0.1.

    Args:
        folder: Of the release.
        vocoder: `neural`, `griffin_lim` or `flow`; the release's own when empty.
        device: `auto`, `cpu`, `cuda` or `mps`.

    Raises:
        InputError: no release, changed since it was published, or damaged.
    """
    old = legacy.is_legacy(folder)
    if not old and not (folder / manifest.FILE).is_file():
        raise InputError(f"release must be a folder with a {manifest.FILE}, got {str(folder)!r}")
    # The manifest has the hashes of its components, and version 0.1 had no manifest.
    check_hashes(folder, lambda name: name in (manifest.FILE, styles.FILE) or (old and name != CARD))
    described = legacy.read(folder) if old else manifest.read(folder)
    with config_errors(folder):
        generation = from_dict(GenerationConfig, described.generation)
        griffin_lim = from_dict(GriffinLimConfig, described.griffin_lim)
    where = resolve_device(device)
    paths = {name: folder / part.path for name, part in described.components.items()}
    _check_kinds(described, paths, old)
    kind, there = vocoder or described.components["vocoder"].kind, described.components["vocoder"].path
    if not old:
        fit.check_parts(paths, kind if there else "", generation)
    if old:
        codec, prior = legacy.load_codec(paths["codec"], where), legacy.load_prior(paths["prior"], where)
    else:
        refiner = paths["refiner"] if described.components["refiner"].path else None
        codec = codecs.load_refined(paths["codec"], refiner, where)
        prior = priors.load(paths["prior"], where)

    def sound(feature: FeatureConfig) -> BatchedVocoder:
        if kind == "neural" and old:
            return neural_vocoder(legacy.load_vocoder(paths["vocoder"], where), feature)
        return load_vocoder(kind, feature, paths["vocoder"] if there else None, griffin_lim, where)

    pipeline = Pipeline(described.pipeline, codec, prior, sound(codec.feature), where)
    known = styles.read(folder / styles.FILE, pipeline.feature)
    return Release(pipeline, generation, described, known)


def _check_kinds(described: Manifest, paths: dict[str, Path], old: bool) -> None:
    """Checks that codec and prior are what the manifest names, and that they fit each other."""
    kinds = {name: described.components[name].kind for name in ("codec", "prior")}
    fits = kinds["prior"].partition("/")[0] == kinds["codec"]
    require(fits, "prior", kinds["prior"], f"one over the latents of {kinds['codec']!r}")
    for name, kind in kinds.items():
        # Version 0.1 named both after the codec.
        keys = ["family"] if old else ["codec"] if name == "codec" else ["codec", "prior"]
        stored = load_config(paths[name], *keys)
        found = "/".join(str(stored[key]) for key in keys)
        found = f"{found}/gan" if old and name == "prior" else found
        require(found == kind, f"{name} of {paths[name] / CONFIG_FILE}", found, f"{kind!r}, as in the release")
