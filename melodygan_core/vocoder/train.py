"""Trains the neural vocoder on the dataset's sound, and loads a trained one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from melodygan_core.config import (
    VERSIONS,
    VocoderConfig,
    config_id,
    from_dict,
    stored_features,
    to_dict,
    training_id,
)
from melodygan_core.dataset import Dataset
from melodygan_core.storage import Artifact, Store, check_hashes
from melodygan_core.training import MetricsCallback, fit, get_or_build, ignore, resolve_device, seed_everything
from melodygan_core.training.checkpoint import config_errors, load_config, load_weights, save_weights
from melodygan_core.vocoder.comparison import compare_with_griffin_lim
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


def train(
    dataset: Artifact, store: Store, config: VocoderConfig, callback: MetricsCallback = ignore
) -> Artifact:
    """Trains on crops of the training tracks, resuming after a kill.

    Of the weights after the discriminators started, those are kept whose sound is as far from other music as
    the real sound is.

    Args:
        dataset: What `dataset.assemble` returned.
        store: Has the sound; the checkpoint is written there.
        config: The model and its training.
        callback: Called after every validation.

    Raises:
        InputError: the dataset has too little of the stems.
        MelodyGANError: training diverged.
    """
    version = config_id(training_id(config), dataset.version, VERSIONS["vocoder"])

    def build(work: Path, folder: Path) -> dict[str, Any]:
        return _run(Dataset(store, dataset), store, work, folder, config, callback)

    return get_or_build(
        NAME,
        store,
        store.model("vocoder", "vocoder", version),
        store.training_work("vocoder", "vocoder", version),
        build,
        config=to_dict(config),
        inputs={"feature_table": dataset.version},
    )


def _run(
    dataset: Dataset, store: Store, work: Path, folder: Path, config: VocoderConfig, callback: MetricsCallback
) -> dict[str, Any]:
    device = resolve_device(config.optimizer.device)
    seed_everything(config.optimizer.seed)
    task = VocoderTask(dataset, store, config, device, work)
    result = fit("vocoder", task, config.optimizer, work, callback, task.betas)
    stored = {"config": to_dict(config), "feature": to_dict(dataset.feature), "step": result.best_step}
    save_weights(folder, {"model": task.model}, stored)
    return {
        **result.metrics,
        "parameters": sum(p.numel() for p in task.model.parameters()),
        **compare_with_griffin_lim(dataset, store, task.model.eval(), work),
    }
