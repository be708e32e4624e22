"""Trains an autoencoder of any family on the dataset, and reads one back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from melodygan_core.codec.dense.model import DenseAutoencoder
from melodygan_core.codec.dense.task import DenseTask
from melodygan_core.codec.temporal.model import TemporalAutoencoder
from melodygan_core.codec.temporal.task import TemporalTask
from melodygan_core.config import (
    VERSIONS,
    DenseAutoencoderConfig,
    FeatureConfig,
    TemporalAutoencoderConfig,
    config_id,
    from_dict,
    require,
    to_dict,
    training_id,
)
from melodygan_core.dataset import Dataset
from melodygan_core.storage.store import Artifact, Store
from melodygan_core.training import MetricsCallback, fit, get_or_build, ignore, resolve_device, seed_everything
from melodygan_core.training.checkpoint import config_errors, load_config, load_weights, save_weights

Autoencoder = DenseAutoencoder | TemporalAutoencoder
AutoencoderConfig = DenseAutoencoderConfig | TemporalAutoencoderConfig

_CONFIGS = {c.family: c for c in (DenseAutoencoderConfig, TemporalAutoencoderConfig)}


def name_of(family: str) -> str:
    """The asset's name."""
    return f"{family}/autoencoder_checkpoint"


def _build(config: AutoencoderConfig, feature: FeatureConfig) -> Autoencoder:
    if isinstance(config, DenseAutoencoderConfig):
        return DenseAutoencoder(config, feature)
    return TemporalAutoencoder(config, feature)


def load(folder: Path, device: str = "cpu") -> Autoencoder:
    """The autoencoder of a checkpoint folder.

    Raises:
        InputError: missing or damaged, or of a family that this version does not know.
    """
    stored = load_config(folder, "family", "config", "feature")
    with config_errors(folder), torch.device("meta"):
        require(stored["family"] in _CONFIGS, "family", stored["family"], ", ".join(_CONFIGS))
        config = from_dict(_CONFIGS[stored["family"]], stored["config"])
        model = _build(config, from_dict(FeatureConfig, stored["feature"]))
    load_weights(folder, {"model": model})
    return model.to(resolve_device(device)).eval()


def train(
    dataset: Artifact, store: Store, config: AutoencoderConfig, observe: MetricsCallback = ignore
) -> Artifact:
    """Trains and keeps the best weights, by error or, where there is a critic, by KAD; resumes after a kill.

    Args:
        dataset: What `dataset.assemble` returned.
        store: Where the checkpoint goes.
        config: The model and its training; its family is the checkpoint's.
        observe: Called after every validation.

    Raises:
        InputError: the dataset has none of the stems, or the latent is not smaller than what it stands for.
        MelodyGANError: training diverged.
    """
    version = config_id(training_id(config), dataset.version, VERSIONS["autoencoder"])

    def build(work: Path, folder: Path) -> dict[str, Any]:
        return _run(Dataset(store, dataset), work, folder, config, observe)

    return get_or_build(
        name_of(config.family),
        store,
        store.model(config.family, "autoencoder", version),
        f"{config.family}.autoencoder.{version}",
        build,
        config=to_dict(config),
        inputs={"feature_table": dataset.version},
    )


def _run(
    dataset: Dataset, work: Path, folder: Path, config: AutoencoderConfig, observe: MetricsCallback
) -> dict[str, Any]:
    device = resolve_device(config.optimizer.device)
    seed_everything(config.optimizer.seed)
    if isinstance(config, DenseAutoencoderConfig):
        task = DenseTask(dataset, config, device)
    else:
        task = TemporalTask(dataset, config, device)
    fitted = fit(f"{config.family} autoencoder", task, config.optimizer, work, observe, task.betas)
    stored = {
        "family": config.family,
        "config": to_dict(config),
        "feature": to_dict(dataset.feature),
        "step": fitted.best_step,
    }
    save_weights(folder, {"model": task.model}, stored)
    parameters = sum(p.numel() for p in task.model.parameters())
    return {**fitted.metrics, **task.report(), "parameters": parameters}
