"""Fixtures of the code location: a deployment in a temporary folder, its definitions, and their names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
import yaml

from melodygan_core.audio import write_wav
from melodygan_dagster.deployment import Deployment
from tests.conftest import PRESET, Site

SAMPLE_RATE = 44_100
VARIABLES = (
    "STORE",
    "SOURCES",
    "PRESET",
    "ALLOW_PRIVATE",
    "TRAIN_ON_UNKNOWN",
    "SEPARATION_MODEL",
    "RAY",
    "PIPELINES",
    "CONFIG",
    "ALLOW_ROOTS",
    "MODEL_DIR",
    "RETRAIN_AFTER",
    "TICK_S",
)
CODECS = ("dense", "temporal")
PIPELINES = ("dense_gan", "temporal_gan")


def checkpoints_of(codec: str) -> tuple[str, ...]:
    """Keys of the trained assets of a codec: itself, its refiner if it has one, and its prior."""
    refiner = ("temporal/refiner_checkpoint",) if codec == "temporal" else ()
    return f"{codec}/autoencoder_checkpoint", *refiner, f"{codec}/gan_checkpoint"


def models_of(pipeline: str) -> tuple[str, ...]:
    """Keys of all assets between the dataset and the release of a pipeline."""
    codec = pipeline.removesuffix("_gan")
    made = ("generated_samples", "evaluation", "release")
    parts = ("vocoder_checkpoint", *checkpoints_of(codec), f"{codec}/latent_table")
    return (*parts, *(f"{pipeline}/{name}" for name in made))


# All of the pipelines, the vocoder that they share once.
MODELS = tuple(dict.fromkeys(name for pipeline in PIPELINES for name in models_of(pipeline)))


def add_feed(site: Site, urls: list[str]) -> str:
    """Serves a feed and returns its URL. Items are opened only by the download: a dead one is a track."""
    items = "".join(
        f'<item><title>{url[-8:-4]}</title><enclosure url="{url}" length="1" type="audio/wav"/></item>'
        for url in urls
    )
    body = f'<?xml version="1.0"?><rss version="2.0"><channel><title>Songs</title>{items}</channel></rss>'
    return site.add("/feed.xml", body.encode(), content_type="application/rss+xml")


def write_sources(path: Path, urls: list[str], rights: str = "own") -> None:
    sources = [{"url": url, "licence": "CC0-1.0", "rights": rights} for url in urls]
    path.write_text(yaml.safe_dump({"sources": sources}), "utf-8")


def execute(
    definitions: dg.Definitions, instance: dg.DagsterInstance, job: str, tags: dict[str, str] | None = None
) -> dg.ExecuteInProcessResult:
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    return definitions.resolve_job_def(job).execute_in_process(
        run_config=quiet, instance=instance, raise_on_error=False, tags=tags
    )


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment without a deployment; what a deployment sets is undone when the test ends."""
    for name in ("DAGSTER_HOME", *(f"MELODYGAN_{v}" for v in VARIABLES)):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("MELODYGAN_PRESET", PRESET)


@pytest.fixture
def deployment(tmp_path: Path, environment: None) -> Iterator[Deployment]:
    made = Deployment(str(tmp_path / "store"), tmp_path / "sources.yaml", PRESET, allow_private=True)
    made.activate()
    yield made
    assert os.environ["DAGSTER_HOME"] == str(made.home.absolute())


@pytest.fixture
def instance(deployment: Deployment) -> Iterator[dg.DagsterInstance]:
    with deployment.instance() as made:
        yield made


@pytest.fixture
def definitions(deployment: Deployment) -> dg.Definitions:
    from melodygan_dagster.definitions import defs

    return defs()


@pytest.fixture
def stereo_tones(tmp_path: Path, site: Site) -> list[str]:
    """URLs of three sounds of two seconds: a voice in the middle, an instrument on one side."""
    time_s = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    urls = []
    for k in range(3):
        middle = 0.3 * np.sin(2 * np.pi * 220 * (k + 1) * time_s)
        left = 0.2 * np.sin(2 * np.pi * 330 * (k + 1) * time_s)
        path = tmp_path / f"tone-{k}.wav"
        write_wav(path, np.stack([middle + left, middle]).astype(np.float32), SAMPLE_RATE)
        urls.append(site.add(f"/tone-{k}.wav", path.read_bytes()))
    return urls
