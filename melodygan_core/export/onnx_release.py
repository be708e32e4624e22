"""Writes a release as a folder of ONNX networks that makes the same sound without torch."""

from __future__ import annotations

from pathlib import Path

from melodygan_core.config import GriffinLimConfig, from_dict
from melodygan_core.config.provenance import Sources
from melodygan_core.export import manifest as manifests
from melodygan_core.export.codecs import codec_graphs, codec_shape
from melodygan_core.export.graph import Graph
from melodygan_core.export.manifest import ExportManifest
from melodygan_core.export.onnx_files import write_network
from melodygan_core.export.priors import prior_graphs, prior_shape
from melodygan_core.export.vocoders import vocoder_graphs, vocoder_shape
from melodygan_core.progress import Progress, tracked
from melodygan_core.release import Release
from melodygan_core.vocoder import BatchedVocoder


def graphs_of(release: Release) -> list[Graph]:
    """The networks of a release.

    Raises:
        InputError: the release has a codec or prior that cannot be exported.
    """
    pipeline, kinds = release.pipeline, release.manifest.components
    return [
        *prior_graphs(kinds["prior"].kind, pipeline.prior),
        *codec_graphs(kinds["codec"].kind, pipeline.codec),
        *vocoder_graphs(pipeline.feature, vocoder_of(release)),
    ]


def write_onnx(release: Release, folder: Path, progress: Progress | None = None) -> ExportManifest:
    """Writes the networks of a release and their manifest.

    Args:
        release: On the CPU.
        folder: Exists and is empty.
        progress: Called after every network.

    Raises:
        InputError: the release has a codec or prior that cannot be exported.
        MelodyGANError: onnxruntime makes something else of a network than torch.
    """
    pipeline, described = release.pipeline, release.manifest
    graphs, kinds = graphs_of(release), described.components
    networks = tuple(write_network(graph, folder) for graph in tracked(graphs, len(graphs), "export", progress))
    manifest = ExportManifest(
        pipeline=pipeline.name,
        version=release.version,
        networks=networks,
        feature=pipeline.feature,
        codec=codec_shape(kinds["codec"].kind, pipeline.codec),
        prior=prior_shape(kinds["prior"].kind, pipeline.prior),
        vocoder=vocoder_shape(vocoder_of(release), from_dict(GriffinLimConfig, described.griffin_lim)),
        generation=release.generation,
        models=described.models,
        sources=from_dict(Sources, described.sources),
        evaluation=described.evaluation,
    )
    manifests.write(folder, manifest)
    return manifest


def vocoder_of(release: Release) -> BatchedVocoder:
    """The vocoder that a release was opened with."""
    vocoder = release.pipeline.vocoder
    assert isinstance(vocoder, BatchedVocoder), "as every release is loaded"
    return vocoder
