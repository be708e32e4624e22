"""Writes the radio of a release: a static folder with its networks, a page and onnxruntime-web."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from melodygan_core import audio
from melodygan_core.config import GenerationConfig, replace, require
from melodygan_core.errors import InputError
from melodygan_core.export import manifest as manifests
from melodygan_core.export.manifest import ExportManifest
from melodygan_core.export.onnx_release import vocoder_of, write_onnx
from melodygan_core.export.runtime.pipeline import ExportedPipeline
from melodygan_core.export.web import ort
from melodygan_core.export.web.weights import halve
from melodygan_core.progress import Progress
from melodygan_core.release import Release
from melodygan_core.storage import dump_json

PAGE = "index.html"
MODELS = "models"
# Priors whose latents static/engine.js makes.
PRIORS = ("temporal/gan", "temporal/flow", "temporal/plan")
# Of each: from the piece of this length the level of all is set.
_LEVEL_S = 10.0
_HERE = Path(__file__).parent


def check_radio(release: Release) -> None:
    """Checks that a browser can make the sound of a release; writes nothing.

    Raises:
        InputError: it cannot.
    """
    kinds, feature = release.manifest.components, release.pipeline.feature
    require(kinds["prior"].kind in PRIORS, "prior", kinds["prior"].kind, f"{', '.join(PRIORS)} for --web")
    vocoder = vocoder_of(release).kind
    require(vocoder == "neural", "vocoder", vocoder, "neural for --web")
    for name, size in (("n_fft", feature.n_fft), ("hop_length", feature.hop_length)):
        require(size & (size - 1) == 0, name, size, "a power of two for --web")


def write_radio(
    release: Release, folder: Path, files: dict[str, Path], progress: Progress | None = None
) -> ExportManifest:
    """Writes the static folder.

    Args:
        release: On the CPU.
        folder: Exists and is empty.
        files: Of onnxruntime-web, by name; see `ort.files`.
        progress: Called after every network.

    Raises:
        InputError: a release whose sound a browser cannot make.
        MelodyGANError: onnxruntime makes something else of a network than torch, or noise or silence.
    """
    check_radio(release)
    models = folder / MODELS
    models.mkdir()
    manifest = _halved(write_onnx(release, models, progress), models)
    for source in sorted((_HERE / "static").iterdir()):
        shutil.copy(source, folder / source.name)
    (folder / "ort").mkdir()
    for name, path in files.items():
        shutil.copy(path, folder / "ort" / name)
    dump_json(folder / "radio.json", {"gain_db": round(_gain_db(models, manifest.generation), 2)})
    (folder / PAGE).write_text(_page(manifest, folder), "utf-8")
    return manifest


def _halved(manifest: ExportManifest, models: Path) -> ExportManifest:
    """The manifest with the hashes of the networks after their weights were halved."""
    networks = []
    for network in manifest.networks:
        halve(models / network.file)
        digest = hashlib.sha256((models / network.file).read_bytes()).hexdigest()
        networks.append(network.model_copy(update={"sha256": digest}))
    changed = manifest.model_copy(update={"networks": tuple(networks)})
    manifests.write(models, changed)
    return changed


def _gain_db(models: Path, generation: GenerationConfig) -> float:
    """The gain that brings a piece to the loudness that the release generates at."""
    exported = ExportedPipeline(models)
    (piece,) = exported.pieces(replace(generation, count=1, duration_s=_LEVEL_S))
    rate = exported.manifest.feature.sample_rate
    levels = [audio.loudness_lufs(piece.wav, rate)], [audio.peak_db(piece.wav)]
    (gain,) = audio.matched_gains(*levels, generation.loudness_lufs)
    if not np.isfinite(gain):
        raise InputError(f"gain of the radio must be finite, got {gain}")
    return gain


def _page(manifest: ExportManifest, folder: Path) -> str:
    """The page. Titles, licences and conditions come from strangers: all is escaped."""
    environment = Environment(loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined)
    megabytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    values: dict[str, Any] = {
        "manifest": manifest,
        "conditions": list(enumerate(manifest.prior.conditions)),
        "megabytes": round(megabytes),
        "ort_version": ort.VERSION,
    }
    return environment.get_template("page.html").render(values)
