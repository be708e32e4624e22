"""What a release folder can do with sounds of one's own, without Dagster."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from melodygan_core.config import RIGHTS, VOCODERS, AugmentConfig, GenerationConfig, require

if TYPE_CHECKING:
    from melodygan_core.release import Release

SOUND = click.Path(path_type=Path, dir_okay=False, exists=True)
FAILED_SHOWN = 20

_release = click.argument("release")
_vocoder = click.option(
    "--vocoder", type=click.Choice(VOCODERS), help="Instead of what the release was evaluated with."
)


def _out(default: str) -> Callable[[Any], Any]:
    kind = click.Path(path_type=Path, file_okay=False)
    return click.option("--out", type=kind, default=Path(default), help="Where to.")


@click.command()
@_release
@click.option("--count", default=GenerationConfig.count, help="Samples.")
@click.option("--seconds", default=GenerationConfig.duration_s, help="Length of each.")
@click.option("--seed", default=GenerationConfig.seed, help="Sample k of a seed is always the same.")
@click.option("--truncation", default=GenerationConfig.truncation, help="Limit of the noise; 0 for none.")
@click.option("--condition", default="", help="A stem or tag that the model was trained with.")
@_vocoder
@_out("samples")
def generate(
    release: str,
    count: int,
    seconds: float,
    seed: int,
    truncation: float,
    condition: str,
    vocoder: str | None,
    out: Path,
) -> None:
    """Makes new sound from a release folder; needs no Dagster.

    Warns when a track that it was trained on was forgotten since: only of a folder that lies in its store,
    because a copy elsewhere does not know.
    """
    from melodygan_core import services

    made = _load(release, vocoder)
    config = replace(
        made.generation,
        count=count,
        duration_s=seconds,
        seed=seed,
        truncation=truncation,
        condition=condition,
    )
    for sample in services.generate_files(made, config, out):
        click.echo(f"{out / sample['file']}  {sample['duration_s']} s  {sample['loudness_lufs']} LUFS")
    _say_licences(made)


@click.command()
@_release
@click.argument("sound", type=SOUND)
@_vocoder
@_out("reconstructed")
def reconstruct(release: str, sound: Path, vocoder: str | None, out: Path) -> None:
    """Puts SOUND through autoencoder and vocoder: what the models keep of it."""
    from melodygan_core import services

    made = _load(release, vocoder)
    _say(out, services.reconstruct_file(made, sound, out), made)


@click.command()
@_release
@click.argument("first", type=SOUND)
@click.argument("second", type=SOUND)
@click.option("--steps", default=5, help="Sounds, both ends included.")
@_vocoder
@_out("interpolated")
def interpolate(release: str, first: Path, second: Path, steps: int, vocoder: str | None, out: Path) -> None:
    """Makes sounds on the way from FIRST to SECOND, through the latents; as long as the shorter one."""
    from melodygan_core import services

    made = _load(release, vocoder)
    _say(out, services.interpolate_files(made, first, second, steps, out), made)


@click.command()
@_release
@click.argument("content", type=SOUND)
@click.option("--style", type=SOUND, help="A sound whose timbre is taken.")
@click.option("--style-tag", default="", help="Or a tag of the tracks that the release was trained on.")
@click.option("--strength", default=1.0, help="0 leaves the timbre, 1 takes the style's.")
@_out("transferred")
def transfer(
    release: str, content: Path, style: Path | None, style_tag: str, strength: float, out: Path
) -> None:
    """Gives CONTENT, its melody and rhythm kept, the timbre of a sound or of a tag."""
    from melodygan_core import services

    # Its own sound is filtered: no vocoder is heard, so that the one that needs no training will do.
    made = _load(release, "griffin_lim")
    _say(out, services.transfer_file(made, content, style, style_tag, strength, out), made)


@click.command()
@_release
@click.argument("dataset", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--copies", default=AugmentConfig.copies, help="Variations of each sound.")
@click.option("--strength", default=AugmentConfig.strength, help="How far they go, 0 to 1.")
@click.option(
    "--seed", default=AugmentConfig.seed, help="Variation k of a sound and a seed is always the same."
)
@click.option("--licence", default="", help="Of sounds for which the set names none.")
@click.option("--rights", type=click.Choice(RIGHTS), default=AugmentConfig.rights, help="Of the same.")
@_out("augmented")
def augment(
    release: str, dataset: Path, copies: int, strength: float, seed: int, licence: str, rights: str, out: Path
) -> None:
    """Makes variations of every sound of DATASET that keep its label, as a Hugging Face `audiofolder`.

    DATASET is a folder of sounds, with a `metadata.csv` or `metadata.jsonl` or a folder for each label, or the
    store of a MelodyGAN. Stopped and started again it goes on. The status is 1 when a sound could not be read.
    """
    from melodygan_core import services

    config = AugmentConfig(copies=copies, seed=seed, strength=strength, licence=licence, rights=rights)
    made = _load(release, "griffin_lim")
    result = services.augment(made, dataset, out, config)
    click.echo(f"{out / 'metadata.csv'}  {len(result.rows)} variations, {result.made} of them new")
    for name, reason in list(result.failed.items())[:FAILED_SHOWN]:
        click.echo(f"{name}: {reason}", err=True)
    _say_licences(made)
    if result.failed:
        sys.exit(1)


def _load(name: str, vocoder: str | None) -> Release:
    """The release in a folder, or in a store elsewhere.

    Raises:
        InputError: there is none.
    """
    from melodygan_core import release
    from melodygan_core.maintenance import erasure
    from melodygan_core.storage.store import ARTIFACT_FILE, Store

    if "://" not in name:
        folder = Path(name)
        require(folder.is_dir(), "release", name, "a release folder")
        _warn(erasure.in_release(folder))
        return release.load(folder, vocoder or "")
    root, _, uri = name.rstrip("/").rpartition("/releases/")
    allowed = "a folder, or STORE/releases/FAMILY/VERSION of a store"
    require("://" in root, "release", name, allowed)
    store = Store(root)
    place = store.at(f"releases/{uri}")
    require((place / ARTIFACT_FILE).exists(), "release", name, allowed)
    _warn(erasure.in_store(store, f"releases/{uri}"))
    with store.reading(place) as folder:
        return release.load(folder, vocoder or "")


def _warn(forgotten: Sequence[str]) -> None:
    if forgotten:
        click.echo(f"Warning: trained on {', '.join(forgotten)}, forgotten since: train again", err=True)


def _say(out: Path, rows: Sequence[dict[str, Any]], made: Release) -> None:
    hidden = ("file", "duration_s", "sample_rate", "peak_db")
    for row in rows:
        figures = "".join(f"  {k} {v:.3g}" for k, v in row.items() if k not in hidden)
        click.echo(f"{out / row['file']}  {row['duration_s']} s{figures}")
    _say_licences(made)


def _say_licences(made: Release) -> None:
    click.echo(f"Licences of what it was trained on: {', '.join(made.description['sources']['licences'])}")
