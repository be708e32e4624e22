"""`melodygan train`: one model, by as many processes as torchrun starts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from melodygan_core.config import FAMILIES
from melodygan_core.config.presets import PRESETS

if TYPE_CHECKING:
    from melodygan_core.storage.store import Artifact, Store

VOCODER = "vocoder_checkpoint"
AUTOENCODER, GAN = "autoencoder_checkpoint", "gan_checkpoint"
ASSETS = (*(f"{family}/{part}" for family in FAMILIES for part in (AUTOENCODER, GAN)), VOCODER)


@click.command()
@click.argument("asset", type=click.Choice(ASSETS))
@click.option("--store", envvar="MELODYGAN_STORE", default="data", help="Root of the store.")
@click.option(
    "--preset", envvar="MELODYGAN_PRESET", type=click.Choice(list(PRESETS)), default="small", help="Of models."
)
@click.option(
    "--config",
    envvar="MELODYGAN_CONFIG",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="YAML of settings that differ from the preset's.",
)
def train(asset: str, store: str, preset: str, config: Path | None) -> None:
    """Trains a model on the dataset in use, where a run of the graph finds it and trains nothing again.

    What a GAN needs is made before it: its autoencoder, in the same way, and the latents.

    By several processes, a GPU each, with the result of one:
    torchrun --standalone --nproc-per-node 2 --no-python melodygan train vocoder_checkpoint
    """
    from melodygan_core.storage.store import Store
    from melodygan_core.training import distributed

    with distributed.process_group():
        made = _trained(asset, Store(store), preset, config)
        if distributed.is_main_process():
            click.echo(f"{made.name} {made.version}: {made.uri}")


def _trained(asset: str, store: Store, preset: str, config: Path | None) -> Artifact:
    from melodygan_core import codec, latents, vocoder
    from melodygan_core.config.presets import configured
    from melodygan_core.dataset.assemble import NAME
    from melodygan_core.prior import gan
    from melodygan_core.training import distributed

    wanted = configured(preset, config)
    table = store.record(NAME)
    if table is None:
        raise click.ClickException(f"{store.root} has no {NAME} yet: make it by `melodygan run`")
    if asset == VOCODER:
        return vocoder.train(table, store, wanted.vocoder)
    family, _, part = asset.partition("/")
    configs = getattr(wanted, family)
    checkpoint = codec.train(table, store, configs.autoencoder)
    if part == AUTOENCODER:
        return checkpoint
    with distributed.main_process_first():
        latent_table = latents.encode(checkpoint, table, store)
    return gan.train(latent_table, checkpoint, store, configs.gan)
