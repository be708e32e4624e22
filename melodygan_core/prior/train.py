"""Trains a registered prior on the latents of a codec, reads one back and checks it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from melodygan_core import codec as codecs
from melodygan_core import latents
from melodygan_core.config import VERSIONS, config_id, from_dict, require, to_dict, training_id
from melodygan_core.config.registry import prior_component
from melodygan_core.errors import InputError
from melodygan_core.plan.table import aligned
from melodygan_core.prior.base import Health, LatentSpace, Prior, StartablePriorTask
from melodygan_core.prior.conditions import compared
from melodygan_core.storage import Artifact, Store, check_hashes
from melodygan_core.storage.start import NAME
from melodygan_core.training import (
    MetricsCallback,
    Start,
    allow_tf32,
    fit,
    get_or_build,
    ignore,
    resolve_device,
    seed_everything,
    start,
)
from melodygan_core.training.checkpoint import config_errors, load_config, load_weights, save_weights

_KEYS = ("codec", "prior", "config", "conditions", "mean", "std")


def name_of(codec: str, prior: str) -> str:
    """The asset's name."""
    return f"{codec}/{prior}_checkpoint"


def load(folder: Path, device: str | torch.device = "cpu") -> Prior:
    """The prior of a checkpoint folder, in evaluation mode.

    Raises:
        InputError: missing, changed since it was written, or damaged, or of a prior that is not registered.
    """
    check_hashes(folder)
    return from_config(load_config(folder, *_KEYS), folder, device)


def from_config(stored: dict[str, Any], folder: Path, device: str | torch.device = "cpu") -> Prior:
    """The prior that a checkpoint's config describes, with the weights of a folder."""
    with config_errors(folder):
        component = prior_component(stored["codec"], stored["prior"])
        config = from_dict(component.config, stored["config"])
        space = _space(stored)
        with torch.device("meta"):
            model: Prior = component.load().model(config, space)
    load_weights(folder, {"": model})
    return model.to(resolve_device(device)).eval()


def _space(stored: dict[str, Any]) -> LatentSpace:
    mean, std = (torch.tensor(stored[k], dtype=torch.float32) for k in ("mean", "std"))
    return LatentSpace(mean, std, tuple(str(c) for c in stored["conditions"]))


def check_start(codec: str, name: str, config: Any, given: Start) -> None:
    """Checks that a prior can begin with given weights, whatever the conditions; reads no weight.

    Args:
        codec: Name of the codec of the latents.
        name: Of the registered prior.
        config: Of the prior that is trained.
        given: What it begins with.

    Raises:
        InputError: another prior, or a setting that makes other shapes; names it.
    """
    start.check_part(given, "prior")
    stored = load_config(given.folder, *_KEYS)
    with config_errors(given.folder):
        kind, wanted = f"{stored['codec']}/{stored['prior']}", f"{codec}/{name}"
        require(kind == wanted, f"prior of `{NAME}`", kind, f"{wanted!r}, which is trained")
        component = prior_component(codec, name)
        theirs, space = from_dict(component.config, stored["config"]), _space(stored)
    model = component.load().model
    start.check_settings(f"priors.{codec}.{name}", config, given, theirs, lambda own: model(own, space))


def train(
    name: str,
    latent_table: Artifact,
    checkpoint: Artifact,
    store: Store,
    config: Any,
    callback: MetricsCallback = ignore,
    given: Start | None = None,
    plan_table: Artifact | None = None,
) -> Artifact:
    """Trains a prior and keeps its best weights by validation; resumes after a kill.

    Args:
        name: Of the registered prior over the codec's latents, such as `gan`.
        latent_table: What `latents.encode` returned.
        checkpoint: The codec that made the latents; distances are measured on what it decodes.
        store: Where the checkpoint goes.
        config: The prior and its training, of the registered class.
        callback: Called after every validation.
        given: Weights that it begins with; random ones by default.
        plan_table: What `plan.tabulate` returned, for a prior that follows plans; others do not read it.

    Raises:
        InputError: too few latents, fewer than two conditions to tell apart, given weights that do not fit, a
            codec that did not begin with those of the same release, or no plans for a prior that follows them.
        MelodyGANError: training diverged.
    """
    if given is not None:
        check_start(checkpoint.group, name, config, given)
        start.check_codec(given, checkpoint)
    plans = _plans_for(checkpoint.group, name, plan_table)
    parts = (name, training_id(config), latent_table.version, checkpoint.version, VERSIONS["prior"])
    version = config_id(*parts, *start.identity(given), *(a.version for a in plans))

    def build(work: Path, folder: Path) -> dict[str, Any]:
        with store.reading(store.at(checkpoint.uri)) as local:
            codec = codecs.load(local, config.optimizer.device)
        table = _table(latent_table, plans, store)
        return _run(checkpoint.group, name, table, codec, work, folder, config, callback, given)

    return get_or_build(
        name_of(checkpoint.group, name),
        store,
        store.model(checkpoint.group, name, version),
        store.training_work(checkpoint.group, name, version),
        build,
        config=to_dict(config),
        inputs={a.name: a.version for a in (latent_table, checkpoint, *plans)} | start.inputs(given),
    )


def _plans_for(codec: str, name: str, plan_table: Artifact | None) -> list[Artifact]:
    """The table of plans that a prior is trained with, or nothing."""
    if "plan" not in prior_component(codec, name).capabilities:
        return []
    if plan_table is None:
        raise InputError(f"plan_table must be given for {codec}/{name}, which follows plans, got None")
    return [plan_table]


def _table(latent_table: Artifact, plans: list[Artifact], store: Store) -> latents.LatentTable:
    """The latents, with the plans beside them where there are."""
    table = latents.load(latent_table, store)
    return replace(table, plan=aligned(plans[0], table, store)) if plans else table


def _run(
    codec_name: str,
    name: str,
    table: latents.LatentTable,
    codec: codecs.Codec,
    work: Path,
    folder: Path,
    config: Any,
    callback: MetricsCallback,
    given: Start | None,
) -> dict[str, Any]:
    device = resolve_device(config.optimizer.device)
    seed_everything(config.optimizer.seed)
    task = prior_component(codec_name, name).load().task(table, codec, config, device)
    space = LatentSpace(torch.from_numpy(table.mean), torch.from_numpy(table.std), tuple(task.conditions))
    started: dict[str, str] = {}
    if given is not None:
        require(isinstance(task, StartablePriorTask), NAME, given.pipeline, f"empty for the prior {name}")
        pretrained = load(given.folder, device)
        task.start_from(pretrained, space)
        started = {"start/conditions": compared(space.conditions, pretrained.conditions)}
    result = fit(f"{codec_name} {name}", task, config.optimizer, work, callback, task.betas)
    prior = task.prior(space)
    stored = {
        "codec": codec_name,
        "prior": name,
        "config": to_dict(config),
        "conditions": list(space.conditions),
        "mean": table.mean.tolist(),
        "std": table.std.tolist(),
        "step": result.best_step,
        **start.record(given, folder),
    }
    save_weights(folder, {"": prior}, stored, f"prior/{codec_name}/{name}")
    return {
        **result.metrics,
        "finite": all(bool(p.isfinite().all()) for p in prior.parameters()),
        "parameters": sum(p.numel() for p in prior.parameters()),
        "conditions": list(space.conditions),
        **started,
        **task.report(),
    }


@torch.no_grad()
def check_collapse(
    prior_checkpoint: Artifact,
    latent_table: Artifact,
    checkpoint: Artifact,
    store: Store,
    device: str = "auto",
    plan_table: Artifact | None = None,
) -> Health:
    """Samples from a checkpoint of the store.

    Args:
        prior_checkpoint: What `train` returned.
        latent_table: That it was trained on.
        checkpoint: The codec of its latents.
        store: Of all three.
        device: Where it is checked, wherever it was trained.
        plan_table: As for `train`.

    Raises:
        InputError: a checkpoint is damaged or holds values that are not finite.
    """
    where = resolve_device(device)
    allow_tf32(where)
    with store.reading(store.at(checkpoint.uri)) as local:
        codec = codecs.load(local, where)
    with store.reading(store.at(prior_checkpoint.uri)) as local:
        check_hashes(local)
        stored = load_config(local, *_KEYS)
        prior = from_config(stored, local, where)
    kind = prior_component(stored["codec"], stored["prior"]).load()
    plans = _plans_for(stored["codec"], stored["prior"], plan_table)
    return kind.check(prior, _table(latent_table, plans, store), codec, where)
