"""A codec and a prior that are registered from outside the package go through every stage unchanged."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from melodygan_core import (
    codec,
    evaluation,
    generation,
    latents,
    prior,
    release,
)
from melodygan_core.audio import read_wav
from melodygan_core.config import InterpolateConfig, ReconstructConfig, from_dict, registry
from melodygan_core.config import replace as changed
from melodygan_core.config.config import Config
from melodygan_core.gallery.render import render
from melodygan_core.gallery.sounds import GalleryEntry
from melodygan_core.pipeline import PipelineArtifacts
from melodygan_core.services.generate import generate
from melodygan_core.services.interpolate import interpolate
from melodygan_core.services.reconstruct import reconstruct
from melodygan_core.storage import Artifact
from tests.conftest import PRESET
from tests.core.made import EVALUATION, GENERATION, Trained
from tests.core.made_temporal import put, tone
from tests.core.toy import ToyCodecConfig, ToyPriorConfig
from tests.dagster.conftest import execute

ROOT = Path(__file__).parents[2]
REGISTER = """
from melodygan_core.config import registry
from tests.core.toy import ToyCodecConfig, ToyPriorConfig
registry.register_codec("toy", ToyCodecConfig, "tests.core.toy:CODEC")
registry.register_prior("toy", "gaussian", ToyPriorConfig, "tests.core.toy:PRIOR")
"""

SETTINGS = """
pipelines: {toy_gaussian: {codec: toy, prior: gaussian, vocoder: griffin_lim}}
train: [toy_gaussian]
generation: {count: 2, duration_s: 1.5}
evaluation: {windows_s: [0.7], neighbours: 3, bootstrap: 20, generated_count: 4}
griffin_lim: {iterations: 4}
"""
ASSETS = [
    "toy/autoencoder_checkpoint",
    "toy/gaussian_checkpoint",
    "toy/latent_table",
    "toy_gaussian/evaluation",
    "toy_gaussian/generated_samples",
    "toy_gaussian/release",
]


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registers the toy codec, and the toy prior over it and over the temporal codec, for one test."""
    for table in ("_CODECS", "_PRIORS"):
        monkeypatch.setattr(registry, table, dict(getattr(registry, table)))
    registry.register_codec("toy", ToyCodecConfig, "tests.core.toy:CODEC")
    registry.register_prior("toy", "gaussian", ToyPriorConfig, "tests.core.toy:PRIOR")
    registry.register_prior("temporal", "gaussian", ToyPriorConfig, "tests.core.toy:PRIOR")


def trained_toy(dense: Trained, codec_name: str, checkpoint: Artifact | None = None) -> Trained:
    """A pipeline of the toy prior over a codec, by way of every stage; Griffin-Lim makes its sound."""
    store = dense.store
    if checkpoint is None:
        checkpoint = codec.train(codec_name, dense.dataset, store, ToyCodecConfig())
    assert not codec.check_collapse(checkpoint, dense.dataset, store).collapsed
    table = latents.encode(checkpoint, dense.dataset, store)
    made = prior.train("gaussian", table, checkpoint, store, ToyPriorConfig())
    health = prior.check_collapse(made, table, checkpoint, store)
    assert health.finite and not health.collapsed
    artifacts = PipelineArtifacts(f"{codec_name}_gaussian", checkpoint, made, None, "griffin_lim")
    samples = generation.generate(artifacts, dense.dataset, store, GENERATION)
    figures = evaluation.evaluate(artifacts, dense.dataset, store, EVALUATION, GENERATION)
    return Trained(store, dense.dataset, table, samples, figures, artifacts)


@pytest.mark.usefixtures("toy")
@pytest.mark.slow
def test_a_toy_codec_and_prior_go_through_every_stage(own_dense: Trained, tmp_path: Path) -> None:
    made = trained_toy(own_dense, "toy")
    store = made.store
    assert made.codec.name == "toy/autoencoder_checkpoint"
    assert made.prior.name == "toy/gaussian_checkpoint"
    assert made.samples.name == "toy_gaussian/generated_samples"
    assert made.evaluation.metrics["embedding"] == own_dense.evaluation.metrics["embedding"]
    assert {"codec/pitch/160-640", "memorisation/ratio"} < made.evaluation.metrics.keys()
    assert not any(k.startswith("seams/") for k in made.evaluation.metrics)

    published = release.publish(
        made.artifacts, made.evaluation, made.dataset, store, GENERATION, current=None
    ).artifact
    folder = Path(str(store.at(published.uri)))
    opened = release.load(folder)
    assert opened.manifest.components["codec"].kind == "toy"
    assert opened.manifest.components["prior"].kind == "toy/gaussian"
    assert not (folder / "vocoder").exists(), "Griffin-Lim has no weights"

    result = generate(opened, changed(GENERATION, count=2, seed=3), tmp_path / "out")
    first, _ = (read_wav(tmp_path / "out" / s.file)[0] for s in result.sounds)
    assert len(result.sounds) == 2 and np.abs(first).max() > 0.01
    again = generate(opened, changed(GENERATION, count=1, seed=3), tmp_path / "again")
    assert np.array_equal(read_wav(tmp_path / "again" / again.sounds[0].file)[0], first)

    sounds = [str(put(tmp_path / f"{k}.wav", tone(2.0, [220 * k, 330 * k]))) for k in (1, 2)]
    (sound,) = reconstruct(opened, ReconstructConfig(sound=sounds[0]), tmp_path / "kept").sounds
    assert sound.figures["onset_correlation"] > 0.3
    request = InterpolateConfig(first=sounds[0], second=sounds[1], steps=3)
    assert len(interpolate(opened, request, tmp_path / "between").sounds) == 3

    entries = [
        GalleryEntry(own_dense.artifacts, own_dense.samples, own_dense.evaluation),
        GalleryEntry(made.artifacts, made.samples, made.evaluation),
    ]
    page = render(made.dataset, entries, store)
    text = (store.at(page.uri) / page.metrics["page"]).read_text("utf-8")
    assert "toy_gaussian" in text and "dense_gan" in text


@pytest.mark.usefixtures("toy")
@pytest.mark.slow
def test_a_toy_prior_over_the_temporal_codec_shares_its_checkpoint(own_temporal: Trained) -> None:
    made = trained_toy(own_temporal, "temporal", own_temporal.codec)
    assert made.prior.name == "temporal/gaussian_checkpoint"
    assert made.prior.inputs["temporal/autoencoder_checkpoint"] == own_temporal.codec.version
    assert made.latents == own_temporal.latents, "latents are encoded once for all priors"


@pytest.mark.usefixtures("toy")
def test_settings_of_a_toy_pipeline_are_read_like_any_other() -> None:
    config = from_dict(
        Config,
        {
            "codecs": {"toy": {"latent_dim": 3}},
            "pipelines": {"toy_gaussian": {"codec": "toy", "prior": "gaussian", "vocoder": "griffin_lim"}},
            "train": ["toy_gaussian"],
        },
    )
    assert config.codecs["toy"].latent_dim == 3
    assert config.priors["toy"]["gaussian"] == ToyPriorConfig()
    assert list(config.trained_pipelines()) == ["toy_gaussian"]


@pytest.mark.slow
def test_dagster_builds_the_assets_of_a_toy_pipeline(tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(SETTINGS, "utf-8")
    code = (
        f"{REGISTER}\nfrom melodygan_dagster.definitions import defs\n"
        "keys = defs().resolve_asset_graph().get_all_asset_keys()\n"
        "print(*sorted(k.to_user_string() for k in keys if len(k.path) > 1))"
    )
    variables = {"MELODYGAN_CONFIG": str(settings), "MELODYGAN_PRESET": "small", "PYTHONPATH": str(ROOT)}
    environment = {**os.environ, **variables, "DAGSTER_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ASSETS


@pytest.mark.usefixtures("toy")
def test_dagster_executes_the_assets_of_a_toy_pipeline(
    own_dense: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from melodygan_dagster.definitions import defs
    from melodygan_dagster.deployment import Deployment
    from melodygan_dagster.runner import failure_of

    monkeypatch.setattr(os, "environ", {k: v for k, v in os.environ.items() if k != "DAGSTER_HOME"})
    settings = tmp_path / "settings.yaml"
    settings.write_text(SETTINGS, "utf-8")
    store = own_dense.store
    store.write_record(own_dense.dataset)
    deployment = Deployment(str(store.root), tmp_path / "sources.yaml", PRESET, config=settings)
    with deployment.instance() as instance:
        result = execute(defs(), instance, "toy_gaussian_job")
        assert result.success, failure_of(result)
        made = {k.to_user_string() for k in instance.get_asset_keys()}
        checks = {e.check_name: e.passed for e in result.get_asset_check_evaluations()}
    assert made >= set(ASSETS)
    assert checks["no_collapse"] and checks["no_mode_collapse"] and checks["not_memorised"]
    records = {name: store.record(name) for name in ASSETS}
    assert all(records.values()), records
    codec_record, evaluated = records["toy/autoencoder_checkpoint"], records["toy_gaussian/evaluation"]
    assert codec_record is not None and evaluated is not None
    assert codec_record.inputs == {"feature_table": own_dense.dataset.version}
    assert evaluated.inputs["toy/autoencoder_checkpoint"] == codec_record.version
    published = records["toy_gaussian/release"]
    assert published is not None
    opened = release.load(Path(str(store.at(published.uri))), device="cpu")
    result_of = generate(opened, changed(GENERATION, count=1, duration_s=0.5), tmp_path / "out")
    assert np.abs(read_wav(tmp_path / "out" / result_of.sounds[0].file)[0]).max() > 0.01
