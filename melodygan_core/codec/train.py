"""Trains a registered codec on the dataset, and reads one back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from melodygan_core.codec.base import Codec, StartableCodecTask
from melodygan_core.config import (
    VERSIONS,
    FeatureConfig,
    config_id,
    from_dict,
    require,
    stored_features,
    to_dict,
    training_id,
)
from melodygan_core.config.registry import codec_component
from melodygan_core.dataset import Dataset
from melodygan_core.storage import Artifact, Store, check_hashes
from melodygan_core.storage.start import NAME
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
    return f"{codec}/autoencoder_checkpoint"


def load(folder: Path, device: str | torch.device = "cpu") -> Codec:
    """The codec of a checkpoint folder, in evaluation mode.

    Raises:
        InputError: missing, changed since it was written, or damaged, or of a codec that is not registered.
    """
    check_hashes(folder)
    return from_config(load_config(folder, "codec", "config", "feature"), folder, device)


def from_config(stored: dict[str, Any], folder: Path, device: str | torch.device = "cpu") -> Codec:
    """The codec that a checkpoint's config describes, with the weights of a folder."""
    with config_errors(folder):
        component = codec_component(stored["codec"])
        config = from_dict(component.config, stored["config"])
        feature = stored_features(stored["feature"])
        with torch.device("meta"):
            model: Codec = component.load().model(config, feature)
    load_weights(folder, {"model": model})
    return model.to(resolve_device(device)).eval()


def check_start(name: str, config: Any, feature: FeatureConfig, given: Start) -> None:
    """Checks that a codec can begin with given weights; reads no weight.

    Args:
        name: Of the registered codec.
        config: Of the codec that is trained.
        feature: How the features are made that it is trained on.
        given: What it begins with.

    Raises:
        InputError: other features, another codec, or a setting that makes other shapes; names it.
    """
    start.check_part(given, "codec")
    stored = load_config(given.folder, "codec", "config", "feature")
    with config_errors(given.folder):
        require(stored["codec"] == name, f"codec of `{NAME}`", stored["codec"], f"{name!r}, which is trained")
        component = codec_component(name)
        theirs = from_dict(component.config, stored["config"])
        theirs_feature = stored_features(stored["feature"])
    start.check_features(feature, given, theirs_feature)
    model = component.load().model
    start.check_settings(f"codecs.{name}", config, given, theirs, lambda values: model(values, feature))


def train(
    name: str,
    dataset: Artifact,
    store: Store,
    config: Any,
    callback: MetricsCallback = ignore,
    given: Start | None = None,
) -> Artifact:
    """Trains a codec and keeps its best weights by validation; resumes after a kill.

    Args:
        name: Of the registered codec.
        dataset: What `dataset.assemble` returned.
        store: Where the checkpoint goes.
        config: The codec and its training, of the registered class.
        callback: Called after every validation.
        given: Weights that it begins with; random ones by default.

    Raises:
        InputError: the dataset has none of the stems, the latent is not smaller than what it stands for, or the
            given weights do not fit.
        MelodyGANError: training diverged.
    """
    version = config_id(name, training_id(config), dataset.version, VERSIONS["codec"], *start.identity(given))

    def build(work: Path, folder: Path) -> dict[str, Any]:
        return _run(name, Dataset(store, dataset), work, folder, config, callback, given)

    return get_or_build(
        name_of(name),
        store,
        store.model(name, "autoencoder", version),
        store.training_work(name, "autoencoder", version),
        build,
        config=to_dict(config),
        inputs={"feature_table": dataset.version, **start.inputs(given)},
    )


def _run(
    name: str,
    dataset: Dataset,
    work: Path,
    folder: Path,
    config: Any,
    callback: MetricsCallback,
    given: Start | None,
) -> dict[str, Any]:
    device = resolve_device(config.optimizer.device)
    if given is not None:
        check_start(name, config, dataset.feature, given)
    seed_everything(config.optimizer.seed)
    task = codec_component(name).load().task(dataset, config, device)
    if given is not None:
        require(isinstance(task, StartableCodecTask), NAME, given.pipeline, f"empty for the codec {name}")
        task.start_from(load(given.folder, device))
    result = fit(f"{name} codec", task, config.optimizer, work, callback, task.betas)
    stored = {
        "codec": name,
        "config": to_dict(config),
        "feature": to_dict(dataset.feature),
        "step": result.best_step,
        **start.record(given, folder),
    }
    save_weights(folder, {"model": task.model}, stored, f"codec/{name}")
    parameters = sum(p.numel() for p in task.model.parameters())
    return {**result.metrics, **task.report(), "parameters": parameters}
