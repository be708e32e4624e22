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
    catalogue,
    codec,
    dataset,
    download,
    evaluation,
    features,
    gallery,
    generation,
    latents,
    parallel,
    release,
    separation,
    vocoder,
)
from melodygan_core.config import (
    FAMILIES,
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
    TemporalAutoencoderConfig,
    TemporalConfig,
    TemporalGanConfig,
    VocoderConfig,
)
from melodygan_core.config.presets import PRESETS
from melodygan_core.prior import gan
from melodygan_core.storage.store import Artifact, Store
from melodygan_core.training import TrainState

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
    vocoder=VocoderConfig(
        width=24,
        blocks=1,
        crop_frames=16,
        disc_channels=2,
        optimizer=replace(_OPTIMIZER, max_steps=40, batch_size=4, learning_rate=2e-3, eval_every=16),
    ),
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
    temporal=TemporalConfig(
        TemporalAutoencoderConfig(
            width=48,
            blocks=1,
            latent_dim=16,
            crop_tokens=8,
            optimizer=replace(_OPTIMIZER, batch_size=8, learning_rate=3e-3),
        ),
        TemporalGanConfig(
            patch_tokens=8,
            style_dim=16,
            global_dim=16,
            width=16,
            ema_decay=0.95,
            optimizer=replace(_OPTIMIZER, weight_decay=0.0),
        ),
    ),
    # The other preset of the tests, `test`, takes the neural vocoder.
    generation=GenerationConfig(
        count=2, duration_s=1.5, vocoder="griffin_lim", griffin_lim=GriffinLimConfig(iterations=4)
    ),
    evaluation=EvaluationConfig(windows_s=(0.7,), neighbours=3, bootstrap=20, generated_count=4),
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


def _models(store: Store, family: str) -> tuple[Artifact, Artifact, Artifact]:
    """GAN, autoencoder, vocoder: what every later stage takes first."""
    return (
        _of(store, f"{family}/gan_checkpoint"),
        _of(store, f"{family}/autoencoder_checkpoint"),
        _of(store, "vocoder_checkpoint"),
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


def _generate(store: Store, family: str) -> Artifact:
    return generation.generate(*_models(store, family), _of(store, "feature_table"), store, SETTINGS.generation)


def _evaluate(store: Store, family: str) -> Artifact:
    return evaluation.evaluate(
        *_models(store, family),
        _of(store, "feature_table"),
        store,
        SETTINGS.evaluation,
        SETTINGS.generation,
    )


def _publish(store: Store, family: str) -> Artifact:
    return release.publish(
        *_models(store, family),
        _of(store, f"{family}/evaluation"),
        _of(store, "feature_table"),
        store,
        SETTINGS.generation,
        store.record(f"{family}/release"),
    ).artifact


def _shown(store: Store, family: str) -> gallery.Family:
    generator, model, sound = _models(store, family)
    made, figures = (_of(store, f"{family}/{name}") for name in ("generated_samples", "evaluation"))
    return gallery.Family(family, model, generator, sound, made, figures)


def _render(store: Store) -> Artifact:
    return gallery.render(_of(store, "feature_table"), [_shown(store, f) for f in FAMILIES], store)


def _of_family(family: str) -> dict[str, Callable[[Store], Artifact]]:
    config = getattr(SETTINGS, family)

    def encoder(store: Store) -> Artifact:
        return _of(store, f"{family}/autoencoder_checkpoint")

    return {
        "autoencoder": lambda s: codec.train(_of(s, "feature_table"), s, config.autoencoder),
        "latents": lambda s: latents.encode(encoder(s), _of(s, "feature_table"), s),
        "gan": lambda s: gan.train(_of(s, f"{family}/latent_table"), encoder(s), s, config.gan),
        "generation": lambda s: _generate(s, family),
        "evaluation": lambda s: _evaluate(s, family),
        "release": lambda s: _publish(s, family),
    }


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
    "vocoder": lambda s: vocoder.train(_of(s, "feature_table"), s, SETTINGS.vocoder),
    **_of_family("dense"),
    **{f"temporal_{name}": stage for name, stage in _of_family("temporal").items()},
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
    load = TrainState.load

    def noted(self: TrainState, *args: Any) -> int:
        step = load(self, *args)
        with (notes / "resumed").open("a") as file:
            file.write(f"{step}\n")
        return step

    watch, store = _Watch(root, kill_before), Store(root)
    sys.addaudithook(watch)
    with mock.patch.object(TrainState, "load", noted):
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
