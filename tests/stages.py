"""The stages of the graph without Dagster, at sizes that take a second, each in a process that can be killed.

A server process that has imported everything forks them, because starting one with torch takes seconds.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
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
    generation,
    latents,
    parallel,
    prior,
    release,
    separation,
    vocoder,
)
from melodygan_core.codec import refiner
from melodygan_core.config import (
    DatasetConfig,
    DenseCodecConfig,
    DenseGanConfig,
    EvaluationConfig,
    FeatureConfig,
    GenerationConfig,
    GriffinLimConfig,
    OptimizerConfig,
    PipelineConfig,
    RefinerConfig,
    SeparationConfig,
    TemporalCodecConfig,
    TemporalGanConfig,
    VocoderConfig,
    replace,
)
from melodygan_core.config.presets import PRESETS
from melodygan_core.gallery.render import render
from melodygan_core.gallery.sounds import GalleryEntry
from melodygan_core.pipeline import PipelineArtifacts
from melodygan_core.storage import Artifact, Store
from melodygan_core.training import TrainState

PRESET = "kills"
STEPS = 60
# The training state is saved after every step, and validations are apart: most kills fall between two.
_OPTIMIZER = OptimizerConfig(
    max_steps=STEPS, batch_size=16, learning_rate=1e-3, warmup_steps=5, eval_every=20, checkpoint_every_s=0.0
)
SETTINGS = PRESETS[PRESET] = replace(
    PRESETS["demo"],
    features=FeatureConfig(
        sample_rate=22_050,
        n_fft=1024,
        hop_length=256,
        bands_up_to_hz=700,
        upper_bands=20,
        n_mels=40,
        n_mfcc=10,
        segment_frames=32,
    ),
    dataset=DatasetConfig(shard_tracks=2),
    vocoder=VocoderConfig(
        width=24,
        blocks=1,
        crop_frames=16,
        disc_channels=2,
        optimizer=replace(_OPTIMIZER, max_steps=40, batch_size=4, learning_rate=2e-3, eval_every=16),
    ),
    codecs={
        "dense": DenseCodecConfig(time_bins=4, hidden_sizes=(32, 8), optimizer=_OPTIMIZER),
        "temporal": TemporalCodecConfig(
            width=48,
            blocks=1,
            latent_dim=16,
            crop_tokens=8,
            optimizer=replace(_OPTIMIZER, batch_size=8, learning_rate=3e-3),
        ),
    },
    refiner=RefinerConfig(width=24, blocks=1, optimizer=replace(_OPTIMIZER, batch_size=8)),
    priors={
        "dense": {
            # As long as it takes to be diverse enough for `melodygan run`, which stops at a check otherwise.
            "gan": DenseGanConfig(
                noise_dim=32,
                hidden_size=64,
                layers=2,
                optimizer=replace(_OPTIMIZER, max_steps=100, weight_decay=0.0),
            )
        },
        "temporal": {
            "gan": TemporalGanConfig(
                patch_tokens=8,
                style_dim=16,
                global_dim=16,
                width=16,
                ema_decay=0.95,
                optimizer=replace(_OPTIMIZER, weight_decay=0.0),
            )
        },
    },
    # One pipeline with each vocoder.
    pipelines={"dense_gan": PipelineConfig(codec="dense", prior="gan", vocoder="griffin_lim")},
    train=("dense_gan", "temporal_gan"),
    griffin_lim=GriffinLimConfig(iterations=4),
    generation=GenerationConfig(count=2, duration_s=1.5),
    evaluation=EvaluationConfig(windows_s=(0.7,), neighbours=3, bootstrap=20, generated_count=4, music_s=1.0),
)
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"}
_FORK = multiprocessing.get_context("forkserver")
ROOT = Path(__file__).parents[1]


# The stages: what the assets do, without Dagster.


class TracksFailedError(Exception):
    """A stage has failed for some tracks or sources; its arguments are their reasons."""


def _require_success(report: parallel.Report) -> None:
    if report.failed:
        raise TracksFailedError(*(outcome.error for outcome in report.failed))


def _tracks(store: Store) -> list[str]:
    return [t.track_id for t in catalogue.load(store)]


def _record(store: Store, name: str) -> Artifact:
    record = store.record(name)
    assert record is not None, name
    return record


def _artifacts(store: Store, name: str) -> PipelineArtifacts:
    """The checkpoints of a pipeline, which every later stage takes first."""
    row = SETTINGS.pipelines[name]
    return PipelineArtifacts(
        name,
        _record(store, codec.name_of(row.codec)),
        _record(store, prior.name_of(row.codec, row.prior)),
        _record(store, "vocoder_checkpoint") if row.vocoder == "neural" else None,
        row.vocoder,
        SETTINGS.griffin_lim,
        refiner=_record(store, refiner.name_of(row.codec)) if row.refined else None,
    )


def _expand(store: Store, sources: Path) -> None:
    report = catalogue.expand(sources, store, SETTINGS.catalogue)
    if report.failed_sources:
        raise TracksFailedError(*report.failed_sources.values())


def _separation(sources: Path) -> SeparationConfig:
    return replace(SETTINGS.separation, model_dir=str(sources.parent / "models"))


def _assemble(store: Store) -> Artifact:
    made = dataset.assemble(store, SETTINGS.dataset, SETTINGS.features, SETTINGS.separation)
    dataset.describe(store, made)
    return made


def _train_prior(store: Store, codec_name: str, name: str) -> Artifact:
    table, checkpoint = (_record(store, n) for n in (latents.name_of(codec_name), codec.name_of(codec_name)))
    return prior.train(name, table, checkpoint, store, SETTINGS.priors[codec_name][name])


def _generate(store: Store, name: str) -> Artifact:
    table = _record(store, "feature_table")
    return generation.generate(_artifacts(store, name), table, store, SETTINGS.generation)


def _evaluate(store: Store, name: str) -> Artifact:
    table = _record(store, "feature_table")
    return evaluation.evaluate(_artifacts(store, name), table, store, SETTINGS.evaluation, SETTINGS.generation)


def _publish(store: Store, name: str) -> Artifact:
    return release.publish(
        _artifacts(store, name),
        _record(store, f"{name}/evaluation"),
        _record(store, "feature_table"),
        store,
        SETTINGS.generation,
        store.record(f"{name}/release"),
    ).artifact


def _render(store: Store) -> Artifact:
    entries = [
        GalleryEntry(
            _artifacts(store, name),
            _record(store, f"{name}/generated_samples"),
            _record(store, f"{name}/evaluation"),
        )
        for name in SETTINGS.train
    ]
    return render(_record(store, "feature_table"), entries, store)


def _pipeline_stages(name: str) -> dict[str, Callable[[Store], Artifact]]:
    """The stages from the dataset to the release of a pipeline, in order."""
    row = SETTINGS.pipelines[name]
    config = SETTINGS.codecs[row.codec]

    def table(store: Store) -> Artifact:
        return _record(store, "feature_table")

    refiners: dict[str, Callable[[Store], Artifact]] = {
        f"{row.codec}_refiner": lambda s: refiner.train(
            _record(s, codec.name_of(row.codec)), table(s), s, SETTINGS.refiner
        )
    }
    return {
        f"{row.codec}_codec": lambda s: codec.train(row.codec, table(s), s, config),
        **(refiners if row.refined else {}),
        f"{row.codec}_latents": lambda s: latents.encode(_record(s, codec.name_of(row.codec)), table(s), s),
        f"{row.codec}_{row.prior}": lambda s: _train_prior(s, row.codec, row.prior),
        f"{name}_generation": lambda s: _generate(s, name),
        f"{name}_evaluation": lambda s: _evaluate(s, name),
        f"{name}_release": lambda s: _publish(s, name),
    }


_BY_TRACK: dict[str, Callable[[Store, Path], None]] = {
    "catalogue": _expand,
    "download": lambda store, _: _require_success(download.fetch(_tracks(store), store, SETTINGS.download)),
    "separation": lambda store, sources: _require_success(
        separation.separate(_tracks(store), store, _separation(sources))
    ),
    "features": lambda store, sources: _require_success(
        features.extract(_tracks(store), store, SETTINGS.features, _separation(sources))
    ),
}
_ARTIFACTS: dict[str, Callable[[Store], Artifact]] = {
    "dataset": _assemble,
    "vocoder": lambda s: vocoder.train(_record(s, "feature_table"), s, SETTINGS.vocoder),
    **{stage: make for name in SETTINGS.train for stage, make in _pipeline_stages(name).items()},
    "gallery": _render,
}
STAGES = (*_BY_TRACK, *_ARTIFACTS)
# Stage to the config of its training.
TRAININGS: dict[str, Any] = {
    "vocoder": SETTINGS.vocoder,
    **{f"{name}_codec": config for name, config in SETTINGS.codecs.items()},
    "temporal_refiner": SETTINGS.refiner,
    **{
        f"{row.codec}_{row.prior}": SETTINGS.priors[row.codec][row.prior]
        for row in SETTINGS.trained_pipelines().values()
    },
}


def run(name: str, store: Store, sources: Path) -> None:
    """Runs a stage in this process.

    Raises:
        TracksFailedError: it failed for some tracks or sources.
    """
    if name in _BY_TRACK:
        _BY_TRACK[name](store, sources)
    else:
        store.write_record(_ARTIFACTS[name](store))


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


def start_in(folder: Path) -> None:
    """Prepares a forked process: a session of its own, one thread, and a log in a folder."""
    os.setsid()
    torch.set_num_threads(1)
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)


def _run(name: str, root: str, sources: Path, folder: Path, kill_before: int) -> None:
    start_in(folder)
    load = TrainState.load

    def recording_load(self: TrainState, *args: Any) -> int:
        step = load(self, *args)
        with (folder / "resumed").open("a") as file:
            file.write(f"{step}\n")
        return step

    watch, store = _Watch(root, kill_before), Store(root)
    sys.addaudithook(watch)
    with mock.patch.object(TrainState, "load", recording_load):
        run(name, store, sources)
    (folder / "changes").write_text(str(watch.count))


def start_server(**environment: str) -> None:
    """Starts the process that forks all others, with everything imported and one thread.

    Args:
        environment: More environment variables of it.
    """
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
    if environment:
        # One that other tests of this process started has another environment. Python's own tests stop it so.
        forkserver._forkserver._stop()  # type: ignore[attr-defined]
    _FORK.set_forkserver_preload(["__main__", "tests.stages", *lazy])
    with mock.patch.dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT), **environment):
        forkserver.ensure_running()


def process(stage: str, root: Path, sources: Path, kill_before: int = 0) -> ForkServerProcess:
    """Starts a process that runs a stage; it writes its log and its count of changes beside the store.

    Args:
        stage: One of STAGES.
        root: Of the store.
        sources: The sources file; separation models are kept beside it.
        kill_before: It kills itself before this change of a file of the store, counted from 1; 0 for never.
    """
    return fork(_run, stage, str(root), sources, root.parent, kill_before)


def fork(function: Callable[..., None], *arguments: object) -> ForkServerProcess:
    """Starts a process that calls a function of a module, forked from one that has imported everything."""
    made = _FORK.Process(target=function, args=arguments, daemon=False)
    made.start()
    return made


def log_of(root: Path) -> str:
    """The end of what the stages of a store have printed."""
    return (root.parent / "log").read_text("utf-8", "replace")[-3000:]
