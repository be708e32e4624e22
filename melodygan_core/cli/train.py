"""`melodygan train`: one model, by as many processes as torchrun starts."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from melodygan_core.cli import options
from melodygan_core.cli.terminal import echo

if TYPE_CHECKING:
    from melodygan_core.config import Config
    from melodygan_core.release.starting import StartingRelease
    from melodygan_core.storage import Artifact, Store
    from melodygan_core.training import MetricsCallback, Start

VOCODER = "vocoder_checkpoint"
FLOW_VOCODER = "flow_vocoder_checkpoint"
CODEC = "autoencoder_checkpoint"
REFINER = "refiner_checkpoint"


def asset_names() -> list[str]:
    """Names of the checkpoints that can be trained: of vocoders, and of every registered codec and prior."""
    from melodygan_core.config.registry import codec_component, codec_names, prior_names

    codecs = [f"{codec}/{CODEC}" for codec in codec_names()]
    refiners = [f"{codec}/{REFINER}" for codec in codec_names() if codec_component(codec).refined]
    priors = [f"{codec}/{prior}_checkpoint" for codec, prior in prior_names()]
    return [VOCODER, FLOW_VOCODER, *codecs, *refiners, *priors]


@click.command()
@click.argument("asset", type=options.Names(asset_names), metavar="ASSET")
@options.store
@options.preset
@options.config_file
@options.start_from
@options.start_parts
@options.tensorboard
def train(
    asset: str,
    store: str,
    preset: str,
    config: Path | None,
    start_from: str,
    start_parts: tuple[str, ...],
    tensorboard: str,
) -> None:
    """Trains one model on the dataset in use.

    ASSET is vocoder_checkpoint, flow_vocoder_checkpoint, CODEC/autoencoder_checkpoint,
    CODEC/refiner_checkpoint or CODEC/PRIOR_checkpoint, such as temporal/gan_checkpoint. `melodygan run` finds
    it and does not train it again. A flow vocoder needs the vocoder, a refiner its codec, a prior its codec and
    the codec's latents: they are made first, if they are missing.

    With --from, the model and what it needs begin with the weights of a release.

    Several processes, a GPU each, give the result of one:

    .venv/bin/torchrun --standalone --nproc-per-node 2 --no-python .venv/bin/melodygan train ASSET
    """
    from melodygan_core.config import replace
    from melodygan_core.config.presets import load
    from melodygan_core.errors import InputError
    from melodygan_core.services.tensorboard import check_installed
    from melodygan_core.storage import Store

    check_installed(tensorboard)
    settings, opened = load(preset, config), Store(store)
    begun = {"start_from": start_from, "start_parts": start_parts}
    settings = replace(settings, **{name: value for name, value in begun.items() if value})
    opened.require_exists()
    table = opened.record("feature_table")
    if table is None:
        raise InputError(f"store must have a feature_table, which `melodygan run` makes; got {store!r}")
    from melodygan_core.services.starting import open_start
    from melodygan_core.training import distributed

    begun_with = open_start(settings.start_from) if settings.start_from else nullcontext()
    with distributed.process_group(), begun_with as release:
        made = _train(asset, table, opened, settings, release, tensorboard)
        if distributed.is_main_process():
            if release is not None:
                echo(f"started from {release.sentence}")
            if conditions := made.metrics.get("start/conditions"):
                echo(f"conditions: {conditions}")
            echo(f"{made.name} {made.version}: {made.uri}")


def _train(
    asset: str, table: Artifact, store: Store, config: Config, release: StartingRelease | None, tensorboard: str
) -> Artifact:
    from melodygan_core import codec as codecs
    from melodygan_core import latents, vocoder
    from melodygan_core import prior as priors
    from melodygan_core.codec import refiner
    from melodygan_core.release import starting
    from melodygan_core.services.tensorboard import TensorBoard
    from melodygan_core.training import distributed, ignore

    codec, _, checkpoint = asset.partition("/")
    prior = checkpoint.removesuffix("_checkpoint")
    if release is not None:
        # What does not fit is known before the codec is trained.
        part = {"": "vocoder", CODEC: "codec", REFINER: "refiner"}.get(checkpoint, "prior")
        needed = [(part, codec, prior), *([("codec", codec, "")] if checkpoint else [])]
        starting.check(release, config, needed)

    def callback(name: str) -> MetricsCallback:
        return TensorBoard(tensorboard, name) if tensorboard and distributed.is_main_process() else ignore

    def given(part: str) -> Start | None:
        return None if release is None or part not in config.start_parts else release.part(part)

    if asset in (VOCODER, FLOW_VOCODER):
        neural = vocoder.train(table, store, config.vocoder, callback(VOCODER), given("vocoder"))
        if asset == VOCODER:
            return neural
        return vocoder.flow.train(neural, table, store, config.flow_vocoder, callback(FLOW_VOCODER))
    settings, heard = config.codecs[codec], callback(codecs.name_of(codec))
    codec_checkpoint = codecs.train(codec, table, store, settings, heard, given("codec"))
    if checkpoint == CODEC:
        return codec_checkpoint
    if checkpoint == REFINER:
        return refiner.train(codec_checkpoint, table, store, config.refiner, callback(asset), given("refiner"))
    with distributed.main_process_first():
        latent_table = latents.encode(codec_checkpoint, table, store)
    settings = config.priors[codec][prior]
    return priors.train(prior, latent_table, codec_checkpoint, store, settings, callback(asset), given("prior"))
