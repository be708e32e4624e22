"""Trains the neural vocoder on the project's own sound, and reads one back."""

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
    to_dict,
    training_id,
)
from melodygan_core.dataset import Dataset
from melodygan_core.storage.store import Artifact, Store
from melodygan_core.training import MetricsCallback, fit, get_or_build, ignore, resolve_device, seed_everything
from melodygan_core.training.checkpoint import config_errors, load_config, load_weights, save_weights
from melodygan_core.vocoder.comparison import beside_griffin_lim
from melodygan_core.vocoder.neural import NeuralVocoder
from melodygan_core.vocoder.task import VocoderTask

NAME = "vocoder_checkpoint"


def load(folder: Path, device: str = "cpu") -> NeuralVocoder:
    """The vocoder of a checkpoint folder.

    Raises:
        InputError: missing or damaged.
    """
    stored = load_config(folder, "config", "feature")
    with config_errors(folder):
        config, feature = (
            from_dict(VocoderConfig, stored["config"]),
            from_dict(FeatureConfig, stored["feature"]),
        )
        with torch.device("meta"):
            model = NeuralVocoder(config, feature)
    load_weights(folder, {"model": model})
    return model.to(resolve_device(device)).eval()


def train(
    dataset: Artifact, store: Store, config: VocoderConfig, observe: MetricsCallback = ignore
) -> Artifact:
    """Trains on crops of the training tracks, resuming after a kill.

    Kept are those weights, after the critics joined, whose sound is as far from other music as the truth.

    Args:
        dataset: What `dataset.assemble` returned.
        store: Has the sound; the checkpoint goes there.
        config: The model and its training.
        observe: Called after every validation.

    Raises:
        InputError: the dataset has too little of the stems.
        MelodyGANError: training diverged.
    """
    version = config_id(training_id(config), dataset.version, VERSIONS["vocoder"])

    def build(work: Path, folder: Path) -> dict[str, Any]:
        return _run(Dataset(store, dataset), store, work, folder, config, observe)

    return get_or_build(
        NAME,
        store,
        store.model("vocoder", "vocoder", version),
        # Family and stage as of any training: what looks for killed ones, or for a track's sound, finds it.
        f"vocoder.vocoder.{version}",
        build,
        config=to_dict(config),
        inputs={"feature_table": dataset.version},
    )


def _run(
    dataset: Dataset, store: Store, work: Path, folder: Path, config: VocoderConfig, observe: MetricsCallback
) -> dict[str, Any]:
    device = resolve_device(config.optimizer.device)
    seed_everything(config.optimizer.seed)
    task = VocoderTask(dataset, store, config, device, work)
    fitted = fit("vocoder", task, config.optimizer, work, observe, task.betas)
    stored = {"config": to_dict(config), "feature": to_dict(dataset.feature), "step": fitted.best_step}
    save_weights(folder, {"model": task.model}, stored)
    return {
        **fitted.metrics,
        "parameters": sum(p.numel() for p in task.model.parameters()),
        **beside_griffin_lim(dataset, store, task.model.cpu().eval(), work),
    }
