"""Trains the flow vocoder over a neural one, and reads it back."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from melodygan_core.config import (
    VERSIONS,
    FlowVocoderConfig,
    config_id,
    from_dict,
    stored_features,
    to_dict,
    training_id,
)
from melodygan_core.dataset import Dataset
from melodygan_core.storage import Artifact, Store, check_hashes
from melodygan_core.storage.start import FILE as START
from melodygan_core.training import MetricsCallback, fit, get_or_build, ignore, resolve_device, seed_everything
from melodygan_core.training.checkpoint import config_errors, load_config, load_weights, save_weights
from melodygan_core.vocoder.comparison import compare
from melodygan_core.vocoder.flow.model import FlowVocoder, WaveformFlow
from melodygan_core.vocoder.flow.task import FlowVocoderTask
from melodygan_core.vocoder.griffin_lim import GriffinLim
from melodygan_core.vocoder.train import from_config
from melodygan_core.vocoder.train import load as load_neural

NAME = "flow_vocoder_checkpoint"
# What its config has besides that of the neural vocoder.
KEY = "flow"


def is_one(folder: Path) -> bool:
    """Whether a vocoder's checkpoint folder has a flow."""
    return KEY in load_config(folder)


def load(folder: Path, device: str | torch.device = "cpu") -> FlowVocoder:
    """The flow vocoder of a checkpoint folder, in evaluation mode.

    The folder holds the neural vocoder, too, as in a checkpoint of its own: `vocoder.load` reads that.

    Raises:
        InputError: missing, changed since it was written, or damaged.
    """
    check_hashes(folder)
    stored = load_config(folder, "config", "feature", KEY)
    neural = from_config(stored, folder, device)
    with config_errors(folder):
        config = from_dict(FlowVocoderConfig, stored[KEY])
        feature = stored_features(stored["feature"])
        with torch.device("meta"):
            flow = WaveformFlow(config, feature)
    load_weights(folder, {"flow": flow})
    return FlowVocoder(neural, flow).to(resolve_device(device)).eval()


def train(
    checkpoint: Artifact,
    dataset: Artifact,
    store: Store,
    config: FlowVocoderConfig,
    callback: MetricsCallback = ignore,
) -> Artifact:
    """Trains a flow and keeps its best weights by validation; resumes after a kill.

    Args:
        checkpoint: The neural vocoder, what `vocoder.train` returned.
        dataset: The dataset it was trained on, or a later one of the same features.
        store: Has the sound; the checkpoint is written there.
        config: The flow and its training.
        callback: Called after every validation.

    Raises:
        InputError: the dataset has too little of the stems.
        MelodyGANError: training diverged.
    """
    version = config_id(training_id(config), checkpoint.version, dataset.version, VERSIONS["flow_vocoder"])

    def build(work: Path, folder: Path) -> dict[str, Any]:
        return _run(checkpoint, Dataset(store, dataset), store, work, folder, config, callback)

    return get_or_build(
        NAME,
        store,
        store.model("vocoder", "flow", version),
        store.training_work("vocoder", "flow", version),
        build,
        config=to_dict(config),
        inputs={"feature_table": dataset.version, checkpoint.name: checkpoint.version},
    )


def _run(
    checkpoint: Artifact,
    dataset: Dataset,
    store: Store,
    work: Path,
    folder: Path,
    config: FlowVocoderConfig,
    callback: MetricsCallback,
) -> dict[str, Any]:
    device = resolve_device(config.optimizer.device)
    with store.reading(store.at(checkpoint.uri)) as local:
        neural = load_neural(local, device)
        if (local / START).is_file():
            # The neural vocoder is in this checkpoint, too, and so is what it began with.
            shutil.copyfile(local / START, folder / START)
    seed_everything(config.optimizer.seed)
    task = FlowVocoderTask(dataset, store, neural, config, device, work)
    result = fit("flow vocoder", task, config.optimizer, work, callback, task.betas)
    model = FlowVocoder(neural, task.eval_model).to(device).eval()
    stored = {
        "config": to_dict(neural.config),
        KEY: to_dict(config),
        "feature": to_dict(dataset.feature),
        "step": result.best_step,
    }
    save_weights(folder, {"model": neural, "flow": model.flow}, stored, "vocoder/flow")
    vocoders = {"flow": model, "neural": neural, "griffin_lim": GriffinLim(dataset.feature)}
    return {
        **result.metrics,
        "parameters": sum(p.numel() for p in model.flow.parameters()),
        **compare(dataset, store, neural.config.stems, vocoders, device, work),
    }
