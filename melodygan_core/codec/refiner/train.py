"""Trains the refiner of a codec, and reads one back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from melodygan_core.codec.base import Codec
from melodygan_core.codec.refiner.model import Refiner
from melodygan_core.codec.refiner.task import RefinerTask
from melodygan_core.codec.train import load as load_codec
from melodygan_core.config import VERSIONS, RefinerConfig, config_id, from_dict, require, to_dict, training_id
from melodygan_core.dataset import Dataset
from melodygan_core.storage import Artifact, Store
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


def name_of(codec: str) -> str:
    """The asset's name."""
    return f"{codec}/refiner_checkpoint"


def load(folder: Path, device: str | torch.device = "cpu") -> Refiner:
    """The refiner of a checkpoint folder, in evaluation mode.

    Raises:
        InputError: missing or damaged.
    """
    stored = load_config(folder, "config", "values", "latent_dim")
    with config_errors(folder):
        config = from_dict(RefinerConfig, stored["config"])
        with torch.device("meta"):
            model = Refiner(config, int(stored["values"]), int(stored["latent_dim"]))
    load_weights(folder, {"model": model})
    return model.to(resolve_device(device)).eval()


def load_refined(folder: Path, refiner: Path | None, device: str | torch.device = "cpu") -> Codec:
    """The codec of a checkpoint folder, in evaluation mode, with its refiner.

    Args:
        folder: Of the codec's checkpoint.
        refiner: Of the refiner's checkpoint; None for a codec without one.
        device: Where both compute.

    Raises:
        InputError: missing or damaged, or they do not fit one another.
    """
    codec = load_codec(folder, device)
    if refiner is None:
        return codec
    found = load(refiner, device)
    with torch.no_grad():
        values = codec.decode_targets(torch.zeros(1, 1, codec.latent_dim, device=found.noise_std.device)).shape[
            2
        ]
    for name, own, wanted in (
        ("latent_dim", found.latent_dim, codec.latent_dim),
        ("values", found.values, values),
    ):
        require(own == wanted, f"{name} of {refiner}", own, f"{wanted}, the codec's")
    codec.refiner = found
    return codec


def check_start(config: RefinerConfig, given: Start) -> None:
    """Checks that a refiner can begin with given weights; reads no weight.

    Raises:
        InputError: a setting makes other shapes; names it.
    """
    start.check_part(given, "refiner")
    stored = load_config(given.folder, "config", "values", "latent_dim")
    with config_errors(given.folder):
        theirs = from_dict(RefinerConfig, stored["config"])
        values, latent_dim = int(stored["values"]), int(stored["latent_dim"])
    start.check_settings("refiner", config, given, theirs, lambda own: Refiner(own, values, latent_dim))


def train(
    checkpoint: Artifact,
    dataset: Artifact,
    store: Store,
    config: RefinerConfig,
    callback: MetricsCallback = ignore,
    given: Start | None = None,
) -> Artifact:
    """Trains a refiner and keeps its best weights by validation; resumes after a kill.

    Args:
        checkpoint: The codec, what `codec.train` returned.
        dataset: The dataset it was trained on, or a later one of the same features.
        store: Where the checkpoint goes.
        config: The refiner and its training.
        callback: Called after every validation.
        given: Weights that it begins with; random ones by default.

    Raises:
        InputError: the given weights do not fit, or the codec did not begin with those of the same release.
        MelodyGANError: training diverged.
    """
    if given is not None:
        check_start(config, given)
        start.check_codec(given, checkpoint)
    version = config_id(
        training_id(config), checkpoint.version, dataset.version, VERSIONS["refiner"], *start.identity(given)
    )

    def build(work: Path, folder: Path) -> dict[str, Any]:
        return _run(checkpoint, Dataset(store, dataset), store, work, folder, config, callback, given)

    return get_or_build(
        name_of(checkpoint.group),
        store,
        store.model(checkpoint.group, "refiner", version),
        store.training_work(checkpoint.group, "refiner", version),
        build,
        config=to_dict(config),
        inputs={
            "feature_table": dataset.version,
            checkpoint.name: checkpoint.version,
            **start.inputs(given),
        },
    )


def _run(
    checkpoint: Artifact,
    dataset: Dataset,
    store: Store,
    work: Path,
    folder: Path,
    config: RefinerConfig,
    callback: MetricsCallback,
    given: Start | None,
) -> dict[str, Any]:
    device = resolve_device(config.optimizer.device)
    seed_everything(config.optimizer.seed)
    with store.reading(store.at(checkpoint.uri)) as local:
        codec = load_codec(local, device)
    task = RefinerTask(dataset, codec, config, device)
    if given is not None:
        task.start_from(load(given.folder, device))
    result = fit(f"{checkpoint.group} refiner", task, config.optimizer, work, callback, task.betas)
    stored = {
        "config": to_dict(config),
        "values": len(task.model.noise_std),
        "latent_dim": codec.latent_dim,
        "step": result.best_step,
        **start.record(given, folder),
    }
    save_weights(folder, {"model": task.eval_model}, stored, "refiner/flow")
    return {**result.metrics, **task.report(), "parameters": sum(p.numel() for p in task.model.parameters())}
