"""Which assets of a pipeline are missing or stale, and why: read from records, without a model or Dagster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from melodygan_core.config import Config, to_dict
from melodygan_core.config.registry import prior_component
from melodygan_core.storage import Artifact, Store
from melodygan_core.storage.kinds import TRAINING_STATE

_DATASET = "feature_table"
# Settings that change where and how often a training is saved, not what comes out of it.
_MACHINE = ("device", "checkpoint_every_s")
_NAMED = 4


@dataclass(frozen=True)
class PlannedAsset:
    """An asset between the dataset and the release of a pipeline.

    Attributes:
        name: Of the asset, such as `temporal/gan_checkpoint`.
        title: For people.
        config: Its settings in this deployment, as plain JSON; empty where it has none.
        inputs: Names of the assets that it is made from.
        max_steps: Most steps of its training; 0 where it is no training.
        work: Group and stage of its resumable state; empty where there is none.
    """

    name: str
    title: str
    config: Mapping[str, Any]
    inputs: tuple[str, ...]
    max_steps: int = 0
    work: tuple[str, str] | None = None

    @property
    def is_training(self) -> bool:
        """Whether a model is trained."""
        return self.max_steps > 0


@dataclass(frozen=True)
class AssetState:
    """Whether an asset is there and up to date.

    Attributes:
        asset: Which.
        made: The artifact in use; None where there is none.
        reasons: Why it should be made or made anew, one sentence each; empty for an asset that is up to date.
        is_resumable: Whether an interrupted training left its state.
    """

    asset: PlannedAsset
    made: Artifact | None
    reasons: tuple[str, ...]
    is_resumable: bool = False

    @property
    def status(self) -> str:
        """`made`, `missing` or `stale`."""
        if self.made is None:
            return "missing"
        return "stale" if self.reasons else "made"


def planned_assets(config: Config, pipeline: str) -> list[PlannedAsset]:
    """The assets of a pipeline in the order in which they are made."""
    row = config.pipelines[pipeline]
    codec, prior = row.codec, config.priors[row.codec][row.prior]
    encoder, table = f"{codec}/autoencoder_checkpoint", f"{codec}/latent_table"
    follows_plans = "plan" in prior_component(codec, row.prior).capabilities
    planned = []
    if row.vocoder in ("neural", "flow"):
        work = ("vocoder", "vocoder")
        planned.append(_training("vocoder_checkpoint", "Vocoder", config.vocoder, (_DATASET,), work))
    if row.vocoder == "flow":
        inputs = (_DATASET, "vocoder_checkpoint")
        work = ("vocoder", "flow")
        planned.append(_training("flow_vocoder_checkpoint", "Flow vocoder", config.flow_vocoder, inputs, work))
    planned.append(_training(encoder, "Codec", config.codecs[codec], (_DATASET,), (codec, "autoencoder")))
    if row.refined:
        work = (codec, "refiner")
        planned.append(
            _training(f"{codec}/refiner_checkpoint", "Refiner", config.refiner, (_DATASET, encoder), work)
        )
    planned.append(PlannedAsset(table, "Latents", {}, (_DATASET, encoder)))
    of_prior = [table, encoder]
    if follows_plans:
        planned.append(PlannedAsset(f"{codec}/plan_table", "Plans", {}, (_DATASET,)))
        of_prior.append(f"{codec}/plan_table")
    name = f"{codec}/{row.prior}_checkpoint"
    planned.append(_training(name, "Prior", prior, tuple(of_prior), (codec, row.prior)))
    return [*planned, *_results(config, pipeline, [p.name for p in planned if p.is_training])]


def _training(
    name: str, title: str, config: Any, inputs: tuple[str, ...], work: tuple[str, str]
) -> PlannedAsset:
    values = to_dict(config)
    return PlannedAsset(name, title, values, inputs, values["optimizer"]["max_steps"], work)


def _results(config: Config, pipeline: str, checkpoints: list[str]) -> Iterator[PlannedAsset]:
    # The flow vocoder holds the one that it refines.
    used = [n for n in checkpoints if n != "vocoder_checkpoint" or "flow_vocoder_checkpoint" not in checkpoints]
    inputs = (_DATASET, *used)
    yield PlannedAsset(f"{pipeline}/generated_samples", "Samples", to_dict(config.generation), inputs)
    yield PlannedAsset(f"{pipeline}/evaluation", "Evaluation", to_dict(config.evaluation), inputs)
    yield PlannedAsset(f"{pipeline}/release", "Release", {}, (f"{pipeline}/evaluation", *inputs))


def pipeline_states(store: Store, config: Config, pipeline: str) -> list[AssetState]:
    """The state of every asset of a pipeline, in the order in which they are made.

    Raises:
        StorageError: the store cannot be read.
    """
    planned = planned_assets(config, pipeline)
    names = [_DATASET, *(asset.name for asset in planned)]
    records = {name: store.record(name) for name in names}
    titles = {_DATASET: "dataset"} | {asset.name: _lower(asset.title) for asset in planned}
    states: dict[str, AssetState] = {}
    for asset in planned:
        made = records[asset.name]
        is_resumable = asset.work is not None and _left_behind(store, *asset.work)
        reasons = tuple(_reasons(asset, made, records, titles, states))
        states[asset.name] = AssetState(asset, made, reasons, is_resumable)
    return list(states.values())


def _lower(title: str) -> str:
    return title[:1].lower() + title[1:]


def _reasons(
    asset: PlannedAsset,
    made: Artifact | None,
    records: Mapping[str, Artifact | None],
    titles: Mapping[str, str],
    states: Mapping[str, AssetState],
) -> Iterator[str]:
    if made is None:
        yield "It was never made."
        return
    if differing := changed_settings(made.config, asset.config):
        more = f" and {len(differing) - _NAMED} more" if len(differing) > _NAMED else ""
        named = ", ".join(differing[:_NAMED]) + more
        yield f"It was made with other settings than those of this deployment: {named}."
    for name in asset.inputs:
        record, used = records.get(name), made.inputs.get(name)
        if record is not None and used is not None and used != record.version:
            newer = "newer dataset" if name == _DATASET else f"newer {titles[name]}"
            yield f"There is a {newer} than the one that it was made from."
    waiting = [titles[n] for n in asset.inputs if n in states and states[n].status != "made"]
    if waiting:
        verb = "is" if len(waiting) == 1 else "are"
        yield f"It is made anew after {' and '.join(waiting)}, which {verb} not up to date."


def changed_settings(made: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Names of the settings of a deployment that an artifact was made with other values of.

    Settings that one side lacks are not compared: a later version may have more, and their defaults
    leave what is made as it was.

    Args:
        made: Config of the artifact.
        wanted: Config of the deployment.
        prefix: Of the names.
    """
    found = []
    for name in wanted:
        if name not in made or name in _MACHINE:
            continue
        old, new = made[name], wanted[name]
        if isinstance(old, dict) and isinstance(new, Mapping):
            found += changed_settings(old, new, f"{prefix}{name}.")
        elif _plain(old) != _plain(new):
            found.append(prefix + name)
    return found


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _left_behind(store: Store, group: str, stage: str) -> bool:
    """Whether a training of this machine left a state that the next one resumes from."""
    folder = Path(store.locate(TRAINING_STATE.uri(group=group, stage=stage, version="x")).path).parent
    return folder.is_dir() and any(folder.glob("*/state.pt"))
