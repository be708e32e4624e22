"""The stages of the graph without Dagster, at sizes that take a second, each in a process made to be killed.

A server process that has imported everything forks them, because starting one with torch takes seconds.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from melodygan_core import (
    autoencoder,
    catalogue,
    dataset,
    download,
    evaluation,
    features,
    gallery,
    gan,
    generation,
    latents,
    parallel,
    release,
    separation,
)
from melodygan_core.config import (
    DatasetConfig,
    DenseAutoencoderConfig,
    DenseConfig,
    DenseGanConfig,
    EvaluationConfig,
    FeatureConfig,
    GenerationConfig,
    GriffinLimConfig,
    OptimizerConfig,
    SeparationConfig,
)
from melodygan_core.presets import PRESETS
from melodygan_core.store import Artifact, Store
from melodygan_core.training import Resumable

PRESET = "kills"
STEPS = 60
# The training state is saved after every step, and validations are apart: most kills fall between two.
_OPTIMIZER = OptimizerConfig(
    max_steps=STEPS, batch_size=16, learning_rate=1e-3, warmup_steps=5, eval_every=20, checkpoint_every_s=0.0
)
SETTINGS = PRESETS[PRESET] = replace(
    PRESETS["demo"],
    features=FeatureConfig(n_mels=40, n_mfcc=10, segment_frames=32),
    dataset=DatasetConfig(shard_tracks=2),
    dense=DenseConfig(
        DenseAutoencoderConfig(time_bins=4, hidden_sizes=(32, 8), optimizer=_OPTIMIZER),
        # As long as it takes to be diverse enough for `melodygan run`, which stops at a check otherwise.
        DenseGanConfig(
            noise_dim=32,
            hidden_size=64,
            layers=2,
            optimizer=replace(_OPTIMIZER, max_steps=100, weight_decay=0.0),
        ),
    ),
    generation=GenerationConfig(count=2, duration_s=1.5, griffin_lim=GriffinLimConfig(iterations=4)),
    evaluation=EvaluationConfig(window_s=0.7, neighbours=3, bootstrap=20, generated_count=4),
)
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"}
_FORK = multiprocessing.get_context("forkserver")
ROOT = Path(__file__).parents[1]


# The stages: what the assets do, without Dagster.


def _good(report: parallel.Report) -> None:
    assert not report.failed, report.failed


def _tracks(store: Store) -> list[str]:
    return [t.track_id for t in catalogue.load(store)]


def _of(store: Store, name: str) -> Artifact:
    record = store.record(name)
    assert record is not None, name
    return record


def _models(store: Store) -> tuple[Artifact, Artifact, Artifact]:
    """GAN, autoencoder, dataset: what every later stage takes."""
    return (
        _of(store, "dense/gan_checkpoint"),
        _of(store, "dense/autoencoder_checkpoint"),
        _of(store, "feature_table"),
    )


def _expand(store: Store, sources: Path) -> None:
    report = catalogue.expand(sources, store, SETTINGS.catalogue)
    assert not report.failed_sources, report.failed_sources


def _separation(sources: Path) -> SeparationConfig:
    return replace(SETTINGS.separation, model_dir=str(sources.parent / "models"))


def _assemble(store: Store) -> Artifact:
    made = dataset.assemble(store, SETTINGS.dataset, SETTINGS.features, SETTINGS.separation)
    dataset.describe(store, made)
    return made


def _publish(store: Store) -> Artifact:
    models, current = _models(store), store.record("dense/release")
    return release.publish(*models[:2], _of(store, "dense/evaluation"), models[2], store, current).artifact


def _render(store: Store) -> Artifact:
    generator, model, data = _models(store)
    family = gallery.Family(
        "dense", model, generator, _of(store, "dense/generated_samples"), _of(store, "dense/evaluation")
    )
    return gallery.render(data, [family], store)


_DENSE, _MADE = SETTINGS.dense, SETTINGS.generation
_BY_TRACK: dict[str, Callable[[Store, Path], None]] = {
    "catalogue": _expand,
    "download": lambda store, _: _good(download.fetch(_tracks(store), store, SETTINGS.download)),
    "separation": lambda store, at: _good(separation.separate(_tracks(store), store, _separation(at))),
    "features": lambda store, at: _good(
        features.extract(_tracks(store), store, SETTINGS.features, _separation(at))
    ),
}
_ARTIFACTS: dict[str, Callable[[Store], Artifact]] = {
    "dataset": _assemble,
    "autoencoder": lambda s: autoencoder.train(_of(s, "feature_table"), s, _DENSE.autoencoder),
    "latents": lambda s: latents.encode(_of(s, "dense/autoencoder_checkpoint"), _of(s, "feature_table"), s),
    "gan": lambda s: gan.train(
        _of(s, "dense/latent_table"), _of(s, "dense/autoencoder_checkpoint"), s, _DENSE.gan
    ),
    "generation": lambda s: generation.generate(*_models(s), s, _MADE),
    "evaluation": lambda s: evaluation.evaluate(*_models(s), s, SETTINGS.evaluation, _MADE),
    "release": _publish,
    "gallery": _render,
}
STAGES = (*_BY_TRACK, *_ARTIFACTS)


# The process that is killed.


class _Watch:
    """Counts the changes of files below a folder, and kills this process just before one of them."""

    def __init__(self, root: str, kill_before: int) -> None:
        self.root, self.kill_before, self.count = root, kill_before, 0

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            if not args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
        elif event not in CHANGES:
            return
        if isinstance(args[0], int):
            return
        # Relative to a directory's descriptor only where a folder is removed: the store's, or scratch.
        path = os.fsdecode(args[0])
        if not path.startswith(self.root) and path.startswith("/"):
            return
        self.count += 1
        if self.count == self.kill_before:
            os.kill(os.getpid(), signal.SIGKILL)


def _stage(name: str, root: str, sources: Path, notes: Path, kill_before: int) -> None:
    os.setsid()
    torch.set_num_threads(1)
    log = os.open(notes / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    load = Resumable.load

    def noted(self: Resumable, *args: Any) -> int:
        step = load(self, *args)
        with (notes / "resumed").open("a") as file:
            file.write(f"{step}\n")
        return step

    watch, store = _Watch(root, kill_before), Store(root)
    sys.addaudithook(watch)
    with mock.patch.object(Resumable, "load", noted):
        if name in _BY_TRACK:
            _BY_TRACK[name](store, sources)
        else:
            store.write_record(_ARTIFACTS[name](store))
    (notes / "events").write_text(str(watch.count))


def start_server() -> None:
    """Starts the process that forks all others, with everything imported and one thread."""
    # What the stages import on first use; before anything has started a thread, so that forking is safe.
    lazy = (
        "audio_separator.separator.architectures.mdx_separator",
        "audio_separator.separator.separator",
        "librosa.core.audio",
        "librosa.core.spectrum",
        "librosa.util.utils",
        "matplotlib.backends.backend_agg",
        "matplotlib.pyplot",
        "pyarrow.dataset",
        "torch._dynamo",
    )
    _FORK.set_forkserver_preload(["__main__", "tests.stages", *lazy])
    with mock.patch.dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT)):
        forkserver.ensure_running()


def process(stage: str, root: Path, sources: Path, kill_before: int = 0) -> ForkServerProcess:
    """A process that has begun with a stage; it writes its log and what it counts beside the store.

    Args:
        stage: One of STAGES.
        root: Of the store.
        sources: The sources file; separation models are kept beside it.
        kill_before: It kills itself before this change of a file of the store, counted from 1; 0 for never.
    """
    made = _FORK.Process(
        target=_stage, args=(stage, str(root), sources, root.parent, kill_before), daemon=False
    )
    made.start()
    return made
