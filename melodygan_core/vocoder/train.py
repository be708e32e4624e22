"""Trains the neural vocoder on the dataset's sound, and loads a trained one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from melodygan_core.config import (
    VERSIONS,
    FeatureConfig,
    VocoderConfig,
    config_id,
    from_dict,
    stored_features,
    to_dict,
    training_id,
)
from melodygan_core.dataset import Dataset
from melodygan_core.storage import Artifact, Store, check_hashes
from melodygan_core.training import (
    MetricsCallback,
    Start,
    fit,
    get_or_build,
    ignore,
    resolve_device,
    seed_everything,
    start,
)
from melodygan_core.training.checkpoint import config_errors, load_config, load_weights, save_weights
from melodygan_core.vocoder.comparison import compare
from melodygan_core.vocoder.griffin_lim import GriffinLim
from melodygan_core.vocoder.neural import NeuralVocoder
from melodygan_core.vocoder.task import VocoderTask

NAME = "vocoder_checkpoint"


def load(folder: Path, device: str | torch.device = "cpu") -> NeuralVocoder:
    """The vocoder of a checkpoint folder, in evaluation mode.

    Raises:
        InputError: missing, changed since it was written, or damaged.
    """
    check_hashes(folder)
    return from_config(load_config(folder, "config", "feature"), folder, device)


def from_config(stored: dict[str, Any], folder: Path, device: str | torch.device = "cpu") -> NeuralVocoder:
    """The vocoder that a checkpoint's config describes, with the weights of a folder."""
    with config_errors(folder):
        config = from_dict(VocoderConfig, stored["config"])
        feature = stored_features(stored["feature"])
        with torch.device("meta"):
            model = NeuralVocoder(config, feature)
    load_weights(folder, {"model": model})
    return model.to(resolve_device(device)).eval()


def check_start(config: VocoderConfig, feature: FeatureConfig, given: Start) -> None:
    """Checks that a vocoder can begin with given weights; reads no weight.

    Args:
        config: Of the vocoder that is trained.
        feature: How the features are made that it is trained on.
        given: What it begins with.

    Raises:
        InputError: other features, or a setting that makes other shapes; names it.
    """
    start.check_part(given, "vocoder")
    stored = load_config(given.folder, "config", "feature")
    with config_errors(given.folder):
        theirs, theirs_feature = from_dict(VocoderConfig, stored["config"]), stored_features(stored["feature"])
    start.check_features(feature, given, theirs_feature)
    start.check_settings("vocoder", config, given, theirs, lambda own: NeuralVocoder(own, feature))


def train(
    dataset: Artifact,
    store: Store,
    config: VocoderConfig,
    callback: MetricsCallback = ignore,
    given: Start | None = None,
) -> Artifact:
    """Trains on crops of the training tracks, resuming after a kill.

    Of the weights after the discriminators started, those are kept whose sound is as far from other music as
    the real sound is.

    Args:
        dataset: What `dataset.assemble` returned.
        store: Has the sound; the checkpoint is written there.
        config: The model and its training.
        callback: Called after every validation.
        given: Weights that it begins with; random ones by default.

    Raises:
        InputError: the dataset has too little of the stems, or the given weights do not fit.
        MelodyGANError: training diverged.
    """
    version = config_id(training_id(config), dataset.version, VERSIONS["vocoder"], *start.identity(given))

    def build(work: Path, folder: Path) -> dict[str, Any]:
        return _run(Dataset(store, dataset), store, work, folder, config, callback, given)

    return get_or_build(
        NAME,
        store,
        store.model("vocoder", "vocoder", version),
        store.training_work("vocoder", "vocoder", version),
        build,
        config=to_dict(config),
        inputs={"feature_table": dataset.version, **start.inputs(given)},
    )


def _run(
    dataset: Dataset,
    store: Store,
    work: Path,
    folder: Path,
    config: VocoderConfig,
    callback: MetricsCallback,
    given: Start | None,
) -> dict[str, Any]:
    device = resolve_device(config.optimizer.device)
    if given is not None:
        check_start(config, dataset.feature, given)
    seed_everything(config.optimizer.seed)
    task = VocoderTask(dataset, store, config, device, work)
    if given is not None:
        task.model.load_state_dict(load(given.folder, device).state_dict())
    result = fit("vocoder", task, config.optimizer, work, callback, task.betas)
    stored = {
        "config": to_dict(config),
        "feature": to_dict(dataset.feature),
        "step": result.best_step,
        **start.record(given, folder),
    }
    save_weights(folder, {"model": task.model}, stored, "vocoder/neural")
    vocoders = {"neural": task.model.eval(), "griffin_lim": GriffinLim(dataset.feature)}
    return {
        **result.metrics,
        "parameters": sum(p.numel() for p in task.model.parameters()),
        **compare(dataset, store, config.stems, vocoders, device, work),
    }
