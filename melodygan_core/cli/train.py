"""`melodygan train`: one model, by as many processes as torchrun starts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from melodygan_core.cli import options
from melodygan_core.cli.terminal import echo

if TYPE_CHECKING:
    from melodygan_core.config import Config
    from melodygan_core.storage import Artifact, Store

VOCODER = "vocoder_checkpoint"
CODEC = "autoencoder_checkpoint"
REFINER = "refiner_checkpoint"


def asset_names() -> list[str]:
    """Names of the checkpoints that can be trained: of the vocoder, and of every registered codec and prior."""
    from melodygan_core.config.registry import codec_component, codec_names, prior_names

    codecs = [f"{codec}/{CODEC}" for codec in codec_names()]
    refiners = [f"{codec}/{REFINER}" for codec in codec_names() if codec_component(codec).refined]
    return [VOCODER, *codecs, *refiners, *(f"{codec}/{prior}_checkpoint" for codec, prior in prior_names())]


@click.command()
@click.argument("asset", type=options.Names(asset_names), metavar="ASSET")
@options.store
@options.preset
@options.config_file
def train(asset: str, store: str, preset: str, config: Path | None) -> None:
    """Trains one model on the dataset in use.

    ASSET is vocoder_checkpoint, CODEC/autoencoder_checkpoint, CODEC/refiner_checkpoint or
    CODEC/PRIOR_checkpoint, such as temporal/gan_checkpoint. `melodygan run` finds it and does not train it
    again. A refiner needs its codec, a prior its codec and the codec's latents: they are made first, if they
    are missing.

    Several processes, a GPU each, give the result of one:

    .venv/bin/torchrun --standalone --nproc-per-node 2 --no-python .venv/bin/melodygan train ASSET
    """
    from melodygan_core.config.presets import load
    from melodygan_core.errors import InputError
    from melodygan_core.storage import Store

    settings, opened = load(preset, config), Store(store)
    opened.require_exists()
    table = opened.record("feature_table")
    if table is None:
        raise InputError(f"store must have a feature_table, which `melodygan run` makes; got {store!r}")
    from melodygan_core.training import distributed

    with distributed.process_group():
        made = _train(asset, table, opened, settings)
        if distributed.is_main_process():
            echo(f"{made.name} {made.version}: {made.uri}")


def _train(asset: str, table: Artifact, store: Store, config: Config) -> Artifact:
    from melodygan_core import codec as codecs
    from melodygan_core import latents, vocoder
    from melodygan_core import prior as priors
    from melodygan_core.codec import refiner
    from melodygan_core.training import distributed

    if asset == VOCODER:
        return vocoder.train(table, store, config.vocoder)
    codec, _, checkpoint = asset.partition("/")
    codec_checkpoint = codecs.train(codec, table, store, config.codecs[codec])
    if checkpoint == CODEC:
        return codec_checkpoint
    if checkpoint == REFINER:
        return refiner.train(codec_checkpoint, table, store, config.refiner)
    with distributed.main_process_first():
        latent_table = latents.encode(codec_checkpoint, table, store)
    prior = checkpoint.removesuffix("_checkpoint")
    return priors.train(prior, latent_table, codec_checkpoint, store, config.priors[codec][prior])
