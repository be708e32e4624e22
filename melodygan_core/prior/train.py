"""Trains a registered prior on the latents of a codec, reads one back and checks it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from melodygan_core import codec as codecs
from melodygan_core import latents
from melodygan_core.config import VERSIONS, config_id, from_dict, to_dict, training_id
from melodygan_core.config.registry import prior_component
from melodygan_core.prior.base import Health, LatentSpace, Prior
from melodygan_core.storage import Artifact, Store, check_hashes
from melodygan_core.training import (
    MetricsCallback,
    allow_tf32,
    fit,
    get_or_build,
    ignore,
    resolve_device,
    seed_everything,
)
from melodygan_core.training.checkpoint import config_errors, load_config, load_weights, save_weights


def name_of(codec: str, prior: str) -> str:
    """The asset's name."""
    return f"{codec}/{prior}_checkpoint"


def load(folder: Path, device: str | torch.device = "cpu") -> Prior:
    """The prior of a checkpoint folder, in evaluation mode.

    Raises:
        InputError: missing, changed since it was written, or damaged, or of a prior that is not registered.
    """
    check_hashes(folder)
    stored = load_config(folder, "codec", "prior", "config", "conditions", "mean", "std")
    return from_config(stored, folder, device)


def from_config(stored: dict[str, Any], folder: Path, device: str | torch.device = "cpu") -> Prior:
    """The prior that a checkpoint's config describes, with the weights of a folder."""
    with config_errors(folder):
        component = prior_component(stored["codec"], stored["prior"])
        config = from_dict(component.config, stored["config"])
        mean, std = (torch.tensor(stored[k], dtype=torch.float32) for k in ("mean", "std"))
        space = LatentSpace(mean, std, tuple(str(c) for c in stored["conditions"]))
        with torch.device("meta"):
            model: Prior = component.load().model(config, space)
    load_weights(folder, {"": model})
    return model.to(resolve_device(device)).eval()


def train(
    name: str,
    latent_table: Artifact,
    checkpoint: Artifact,
    store: Store,
    config: Any,
    callback: MetricsCallback = ignore,
) -> Artifact:
    """Trains a prior and keeps its best weights by validation; resumes after a kill.

    Args:
        name: Of the registered prior over the codec's latents, such as `gan`.
        latent_table: What `latents.encode` returned.
        checkpoint: The codec that made the latents; distances are measured on what it decodes.
        store: Where the checkpoint goes.
        config: The prior and its training, of the registered class.
        callback: Called after every validation.

    Raises:
        InputError: too few latents, or fewer than two conditions to tell apart.
        MelodyGANError: training diverged.
    """
    version = config_id(name, training_id(config), latent_table.version, checkpoint.version, VERSIONS["prior"])

    def build(work: Path, folder: Path) -> dict[str, Any]:
        with store.reading(store.at(checkpoint.uri)) as local:
            codec = codecs.load(local, config.optimizer.device)
        table = latents.load(latent_table, store)
        return _run(checkpoint.group, name, table, codec, work, folder, config, callback)

    return get_or_build(
        name_of(checkpoint.group, name),
        store,
        store.model(checkpoint.group, name, version),
        store.training_work(checkpoint.group, name, version),
        build,
        config=to_dict(config),
        inputs={latent_table.name: latent_table.version, checkpoint.name: checkpoint.version},
    )


def _run(
    codec_name: str,
    name: str,
    table: latents.LatentTable,
    codec: codecs.Codec,
    work: Path,
    folder: Path,
    config: Any,
    callback: MetricsCallback,
) -> dict[str, Any]:
    device = resolve_device(config.optimizer.device)
    seed_everything(config.optimizer.seed)
    task = prior_component(codec_name, name).load().task(table, codec, config, device)
    result = fit(f"{codec_name} {name}", task, config.optimizer, work, callback, task.betas)
    space = LatentSpace(torch.from_numpy(table.mean), torch.from_numpy(table.std), tuple(task.conditions))
    prior = task.prior(space)
    stored = {
        "codec": codec_name,
        "prior": name,
        "config": to_dict(config),
        "conditions": list(space.conditions),
        "mean": table.mean.tolist(),
        "std": table.std.tolist(),
        "step": result.best_step,
    }
    save_weights(folder, {"": prior}, stored)
    return {
        **result.metrics,
        "finite": all(bool(p.isfinite().all()) for p in prior.parameters()),
        "parameters": sum(p.numel() for p in prior.parameters()),
        "conditions": list(space.conditions),
        **task.report(),
    }


@torch.no_grad()
def check_collapse(
    prior_checkpoint: Artifact,
    latent_table: Artifact,
    checkpoint: Artifact,
    store: Store,
    device: str = "auto",
) -> Health:
    """Samples from a checkpoint of the store.

    Args:
        prior_checkpoint: What `train` returned.
        latent_table: That it was trained on.
        checkpoint: The codec of its latents.
        store: Of all three.
        device: Where it is checked, wherever it was trained.

    Raises:
        InputError: a checkpoint is damaged or holds values that are not finite.
    """
    where = resolve_device(device)
    allow_tf32(where)
    with store.reading(store.at(checkpoint.uri)) as local:
        codec = codecs.load(local, where)
    with store.reading(store.at(prior_checkpoint.uri)) as local:
        check_hashes(local)
        stored = load_config(local, "codec", "prior", "config", "conditions", "mean", "std")
        prior = from_config(stored, local, where)
    kind = prior_component(stored["codec"], stored["prior"]).load()
    return kind.check(prior, latents.load(latent_table, store), codec, where)
