"""`melodygan push` and `pack`: a release, and sounds, for others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from melodygan_core.cli.terminal import echo
from melodygan_core.cli.with_release import release_argument

if TYPE_CHECKING:
    from melodygan_core.services.pack import Kind


@click.command()
@release_argument
@click.argument("repo")
@click.option("--public", is_flag=True, help="Let everybody read a repository that is created.")
def push(release: str, repo: str, public: bool) -> None:
    """Pushes a release to the Hugging Face hub.

    REPO is OWNER/NAME; it is created if it does not exist, for yourself alone without --public. Needs the extra
    hub, and a token: `hf auth login`, or HF_TOKEN. The model card gets the licence of the training tracks, tags
    and their URLs. Push what you have the right to publish: the licences of the sources hold for the weights.
    """
    from melodygan_core.services.push import push as service

    echo(service(Path(release), repo, public=public))


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="New or empty folder to write to.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["webdataset", "audiofolder"]),
    default="webdataset",
    help="Tar shards of a sound and its JSON each, or a set that Hugging Face's `datasets` loads.",
)
@click.option("--shard-sounds", type=click.IntRange(1), default=1000, help="Most sounds of a tar shard.")
def pack(folder: Path, out: Path, kind: Kind, shard_sounds: int) -> None:
    """Packs sounds in the formats of others.

    FOLDER is what `generate` or another command wrote, or a set that `augment` made. The same folder gives the
    same bytes.
    """
    from melodygan_core.services.pack import pack as service

    names = service(folder, out, kind, shard_sounds)
    for name in names if kind == "webdataset" else ["metadata.csv"]:
        echo(str(out / name))
