"""Exported releases: the files, the same sound without torch, and what is refused."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from melodygan_core import generation, piece_files
from melodygan_core.config import GriffinLimConfig, replace
from melodygan_core.errors import InputError, MelodyGANError
from melodygan_core.export import manifest as manifests
from melodygan_core.export import onnx_files
from melodygan_core.export.graph import Graph
from melodygan_core.export.onnx_release import graphs_of
from melodygan_core.export.runtime.pipeline import ExportedPipeline
from melodygan_core.export.runtime.sessions import Session
from melodygan_core.release import Release
from melodygan_core.services.export import export_onnx
from melodygan_core.storage import sha256_of
from melodygan_core.vocoder import load_vocoder
from tests.core.made_export import CONDITIONS, GENERATION, HOSTILE_TITLE, SOURCES, release_of

pytestmark = pytest.mark.slow
PIPELINES = ("temporal_gan", "temporal_flow", "dense_gan")
NETWORKS = {
    "temporal_gan": ["generator", "decoder", "magnitude", "vocoder"],
    "temporal_flow": ["velocity", "guide", "latents", "decoder", "magnitude", "vocoder"],
    "dense_gan": ["generator", "decoder", "spectrum", "magnitude", "vocoder"],
}
# `generate` in a process that cannot import torch.
WITHOUT_TORCH = """
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchaudio", "safetensors"):
            raise ImportError(f"{name} must not be imported")

sys.meta_path.insert(0, NoTorch())
from melodygan_core.cli import main

main(sys.argv[1:], standalone_mode=False)
assert "torch" not in sys.modules
"""


@dataclass
class Exported:
    """A release and its export; nobody may change the folder."""

    release: Release
    folder: Path


Exports = Callable[[str], Exported]


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """Exports the release of a pipeline when a test first asks for it."""

    @functools.cache
    def export(name: str) -> Exported:
        release, folder = release_of(name), tmp_path_factory.mktemp("exports") / name
        export_onnx(release, folder)
        return Exported(release, folder)

    return export


@pytest.fixture
def exported(exports: Exports) -> Exported:
    return exports("temporal_gan")


@pytest.fixture
def copied(exported: Exported, tmp_path: Path) -> Path:
    """A copy of the folder that a test may change."""
    return Path(shutil.copytree(exported.folder, tmp_path / "copy"))


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """RMS of the difference, as a share of the RMS."""
    assert found.shape == expected.shape
    return float(np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2)))


def changed(folder: Path, **values: Any) -> None:
    """Replaces values of the manifest."""
    path = folder / manifests.FILE
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | values), "utf-8")


# The sound.


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("condition", ["", CONDITIONS[1]])
def test_the_same_seed_makes_the_same_piece_as_torch(exports: Exports, name: str, condition: str) -> None:
    made = exports(name)
    config = replace(GENERATION, condition=condition)
    expected = list(generation.pieces(made.release.pipeline, config))
    found = list(ExportedPipeline(made.folder, threads=1).pieces(config))
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.index, ours.condition) == (theirs.index, theirs.condition)
        np.testing.assert_allclose(ours.latents, theirs.latents, atol=1e-4)
        assert difference(ours.wav, theirs.wav) < 5e-3
        if theirs.vectors is not None:
            assert ours.vectors is not None
            np.testing.assert_allclose(ours.vectors, theirs.vectors, atol=1e-4)
    assert difference(found[0].wav, found[1].wav) > 0.1


def test_guidance_and_steps_of_a_flow_are_those_of_torch(exports: Exports) -> None:
    made = exports("temporal_flow")
    config = replace(GENERATION, count=1, condition="slow", steps=3, guidance=2.5, autoguidance=1.5)
    (expected,) = generation.pieces(made.release.pipeline, config)
    (found,) = ExportedPipeline(made.folder, threads=1).pieces(config)
    np.testing.assert_allclose(found.latents, expected.latents, atol=1e-4)
    (plain,) = ExportedPipeline(made.folder, threads=1).pieces(replace(config, guidance=1.0))
    assert np.abs(found.latents - plain.latents).max() > 0.01


@pytest.mark.parametrize("name", ["temporal_gan", "dense_gan"])
def test_griffin_lim_needs_no_network_of_its_own(exports: Exports, name: str) -> None:
    made = exports(name)
    pipeline = made.release.pipeline
    seconds = replace(GENERATION, count=1, duration_s=0.8)
    (ours,) = ExportedPipeline(made.folder, "griffin_lim", threads=1).pieces(seconds)
    sample = next(iter(generation.pieces(pipeline, seconds))).sample
    other = load_vocoder("griffin_lim", pipeline.feature, None, GriffinLimConfig(iterations=4))
    mono = other(sample.decoded.spectrum.transpose(1, 2), piece_files.piece_seed(7, 0) % 2**31)[0].numpy()
    assert difference(ours.wav.mean(axis=0), mono[: ours.wav.shape[1]]) < 5e-3


# The files.


@pytest.mark.parametrize("name", PIPELINES)
def test_every_network_is_as_torch_at_lengths_that_the_export_did_not_compare(
    exports: Exports, name: str
) -> None:
    made = exports(name)
    graphs, manifest = graphs_of(made.release), manifests.read(made.folder)
    assert [graph.name for graph in graphs] == NETWORKS[name] == list(manifest.by_name)
    for graph in graphs:
        session = Session(made.folder, manifest.by_name[graph.name], threads=1)
        for units in (graph.fewest + 1, graph.fewest + 8, graph.fewest + 40):
            assert onnx_files._error(graph, session, units) < onnx_files.MAX_ERROR
        assert manifest.by_name[graph.name].max_error < onnx_files.MAX_ERROR


def test_the_folder_is_what_the_manifest_says(exported: Exported) -> None:
    manifest = manifests.read(exported.folder)
    assert sorted(p.name for p in exported.folder.iterdir()) == [
        "decoder.onnx",
        manifests.FILE,
        "generator.onnx",
        "magnitude.onnx",
        "vocoder.onnx",
    ]
    for network in manifest.networks:
        model = onnx.load(exported.folder / network.file)
        assert [entry.version for entry in model.opset_import if entry.domain == ""] == [onnx_files.OPSET]
        assert sha256_of(exported.folder / network.file) == network.sha256
        lengths = [d.dim_param for value in model.graph.input for d in value.type.tensor_type.shape.dim]
        assert any(lengths), f"{network.file} has no dynamic length"
    assert manifest.sources.tracks[0].title == HOSTILE_TITLE
    assert manifest.provenance["sources"]["licences"] == SOURCES["licences"]
    assert manifest.codec.reach_tokens == 2 * 2 + 2 * 1 * 1
    assert manifest.generation == GENERATION


def test_a_network_that_differs_is_not_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Half(torch.nn.Module):
        """Not what was exported: another value at every call."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.rand_like(x)

    graph = Graph("half", Half(), {"x": (1, "tokens")}, {"y": (1, "tokens")})
    with pytest.raises(MelodyGANError, match=r"error of half.onnx must be at most 0.0001 beside torch, got"):
        onnx_files.write_network(graph, tmp_path)


# What is refused.


def test_a_changed_network_is_refused(copied: Path) -> None:
    network = copied / "decoder.onnx"
    network.write_bytes(network.read_bytes() + b"\0")
    with pytest.raises(InputError, match=r"SHA-256 of .*decoder.onnx must be [0-9a-f]{64}, as in export.json"):
        ExportedPipeline(copied)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format": 2}, "format of .* must be 1, got 2"),
        ({"networks": []}, "vocoder must be griffin_lim, got 'neural'"),
        ({"pipeline": 3}, "pipeline must be text"),
        ({"prior": {"kind": "temporal/gan", "config": {"width": -1}}}, "width must be"),
    ],
)
def test_a_damaged_manifest_is_refused(copied: Path, values: dict[str, Any], message: str) -> None:
    changed(copied, **values)
    with pytest.raises(InputError, match=message):
        list(ExportedPipeline(copied).pieces(GENERATION))


@pytest.mark.parametrize("name", ["../decoder.onnx", "/etc/passwd", "a\\b.onnx", ""])
def test_a_network_outside_the_folder_is_not_read(copied: Path, name: str) -> None:
    networks = json.loads((copied / manifests.FILE).read_text("utf-8"))["networks"]
    changed(copied, networks=[networks[0] | {"file": name}, *networks[1:]])
    with pytest.raises(InputError, match=r"file (of .*export.json )?must be"):
        ExportedPipeline(copied)


def test_a_file_that_is_no_network_is_refused(copied: Path) -> None:
    (copied / "generator.onnx").write_bytes(b"not a network")
    networks = json.loads((copied / manifests.FILE).read_text("utf-8"))["networks"]
    networks[0]["sha256"] = sha256_of(copied / "generator.onnx")
    changed(copied, networks=networks)
    with pytest.raises(InputError, match=r"generator.onnx must be an ONNX network"):
        list(ExportedPipeline(copied).pieces(GENERATION))


def test_settings_that_a_gan_does_not_have_are_refused(exported: Exported) -> None:
    with pytest.raises(
        InputError, match=r"guidance must be 1 with this release: it is a setting of temporal_flow"
    ):
        list(ExportedPipeline(exported.folder).pieces(replace(GENERATION, guidance=2.0)))
    with pytest.raises(InputError, match=r"vocoder must be neural or griffin_lim, got 'wavenet'"):
        ExportedPipeline(exported.folder, "wavenet")
    with pytest.raises(InputError, match="condition must be fast, slow"):
        list(ExportedPipeline(exported.folder).pieces(replace(GENERATION, condition="loud")))


# The command line.


def test_generate_needs_no_torch(exported: Exported, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["generate", str(exported.folder), "--count", "1", "--seconds", "1.5", "--seed", "7"]
    command = [sys.executable, "-c", WITHOUT_TORCH, *arguments, "--out", str(out)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Licences of the training tracks: CC0-1.0, unknown" in done.stdout
    facts = json.loads((out / "sample-000.json").read_text("utf-8"))
    assert facts["release"] == "untrained"
    assert facts["sources"]["tracks"][0]["title"] == HOSTILE_TITLE
    assert facts["duration_s"] == 1.5
    assert {p.name for p in out.iterdir()} == {"sample-000.wav", "sample-000.json", "latents.parquet"}
