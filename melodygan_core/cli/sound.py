"""What every release can do: generate, reconstruct, interpolate, transfer and augment."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from melodygan_core.cli import options
from melodygan_core.cli.terminal import echo
from melodygan_core.cli.with_release import (
    drawn_late,
    open_release,
    prepare,
    release_argument,
    report_licences,
    run,
)

FAILED_SHOWN = 20


@click.command()
@release_argument
@options.field("GenerationConfig", "count")
@options.field("GenerationConfig", "duration_s", "--seconds")
@options.field("GenerationConfig", "seed")
@options.field("GenerationConfig", "truncation")
@options.field("GenerationConfig", "condition")
@options.planning
@options.sampling
@options.vocoder
@options.device
@options.output("samples")
def generate(
    release: str,
    count: int,
    duration_s: float,
    seed: int,
    truncation: float,
    condition: str,
    steps: int,
    guidance: float,
    autoguidance: float,
    vocoder: str | None,
    device: str,
    out: Path | None,
    overwrite: bool,
    **planning: Any,
) -> None:
    """Generates new pieces with a release.

    --plan, --melody, --chords, --key, --form, --tempo and --beats say what the pieces play; they need a release
    whose prior follows plans, such as temporal_plan. The plan is saved beside each piece, and as MIDI.

    RELEASE is a folder, or STORE/releases/PIPELINE/VERSION of a remote store, or a folder that `melodygan
    export --onnx` wrote. Prints the file, length and loudness of each piece. Warns if a track that the release
    was trained on was forgotten since; only a release in its store knows that, a copy elsewhere does not.
    """
    from melodygan_core.config import GenerateConfig, from_dict, replace, to_dict
    from melodygan_core.services.releases import check_capability, check_condition, check_unplanned, is_export

    planning |= {name: str(planning[name] or "") for name in ("plan", "melody")}
    planned = from_dict(GenerateConfig, planning).planned
    exported = is_export(release)
    folder = prepare(release, out, overwrite, "samples", exported=exported)
    settings = {"count": count, "duration_s": duration_s, "seed": seed, "truncation": truncation}
    sampling = {"steps": steps, "guidance": guidance, "autoguidance": autoguidance}
    wanted = {**settings, **sampling, "condition": condition}
    if exported:
        from melodygan_core.services import exported as without_torch

        check_unplanned(planned)
        pipeline = without_torch.open_export(Path(release), vocoder or "", device)
        config = replace(pipeline.manifest.generation, **wanted)
        run(folder, without_torch.generate, pipeline, config, overwrite)
        return
    if condition:
        check_condition(release, condition)
    if planned:
        check_capability(release, "plan")
    opened = open_release(release, vocoder, device)
    from melodygan_core.services.generate import generate as service

    given = from_dict(GenerateConfig, {**to_dict(opened.generation), **wanted, **planning})
    run(folder, service, opened, given, overwrite)


@click.command()
@release_argument
@click.argument("sound", type=options.SOUND)
@options.vocoder
@options.device
@options.output("reconstructed")
def reconstruct(
    release: str, sound: Path, vocoder: str | None, device: str, out: Path | None, overwrite: bool
) -> None:
    """Encodes and decodes a sound.

    Writes what codec and vocoder keep of SOUND, and prints how much of its melody and rhythm is left.
    """
    from melodygan_core.config import ReconstructConfig

    config = ReconstructConfig(sound=str(sound))
    folder = prepare(release, out, overwrite, "reconstructed")
    opened = open_release(release, vocoder, device)
    from melodygan_core.services.reconstruct import reconstruct as service

    run(folder, service, opened, config, overwrite)


@click.command()
@release_argument
@click.argument("first", type=options.SOUND)
@click.argument("second", type=options.SOUND)
@options.field("InterpolateConfig", "steps")
@options.vocoder
@options.device
@options.output("interpolated")
def interpolate(
    release: str,
    first: Path,
    second: Path,
    steps: int,
    vocoder: str | None,
    device: str,
    out: Path | None,
    overwrite: bool,
) -> None:
    """Makes sounds between two sounds.

    The way from FIRST to SECOND is a straight line through the latents. The sounds are as long as the shorter
    one.
    """
    from melodygan_core.config import InterpolateConfig

    config = InterpolateConfig(first=str(first), second=str(second), steps=steps)
    folder = prepare(release, out, overwrite, "interpolated")
    opened = open_release(release, vocoder, device)
    from melodygan_core.services.interpolate import interpolate as service

    run(folder, service, opened, config, overwrite)


@click.command()
@release_argument
@click.argument("content", type=options.SOUND)
@click.option("--style", type=options.SOUND, help="Sound whose timbre is taken.")
@options.field("TransferConfig", "style_tag")
@options.field("TransferConfig", "strength")
@options.field("TransferConfig", "method")
@options.field("TransferConfig", "style_weight")
@options.field("TransferConfig", "keep_melody")
@options.field("TransferConfig", "seed")
@options.sampling
@options.vocoder
@options.device
@options.output("transferred")
def transfer(
    release: str,
    content: Path,
    style: Path | None,
    style_tag: str,
    strength: float,
    method: str,
    style_weight: float,
    keep_melody: float,
    seed: int,
    steps: int,
    guidance: float,
    autoguidance: float,
    vocoder: str | None,
    device: str,
    out: Path | None,
    overwrite: bool,
) -> None:
    """Gives a sound the timbre of another one.

    CONTENT keeps its melody and rhythm, and gets the timbre of --style, a sound, or of --style-tag, a tag of
    the training tracks. --method eq filters the sound. --method flow makes it anew, guided to the style and
    the pitch classes of CONTENT; it is what auto does for a tag that the release's prior was trained with.
    """
    from melodygan_core.config import TransferConfig, from_dict
    from melodygan_core.services.releases import check_style_tag

    taken = "" if style is None else str(style)
    settings = {"style": taken, "style_tag": style_tag, "strength": strength, "method": method, "seed": seed}
    settings |= {"style_weight": style_weight, "keep_melody": keep_melody}
    sampling = {"steps": steps, "guidance": guidance, "autoguidance": autoguidance}
    config = from_dict(TransferConfig, {"content": str(content), **settings, **sampling})
    folder = prepare(release, out, overwrite, "transferred")
    if style_tag:
        check_style_tag(release, style_tag)
    # Where the content's own sound is filtered no vocoder is heard: the one without weights will do.
    opened = open_release(release, "griffin_lim" if method == "eq" else vocoder, device)
    from melodygan_core.services.transfer import transfer as service

    run(folder, service, opened, config, overwrite)


@click.command()
@release_argument
@click.argument("dataset", type=click.Path(path_type=Path, file_okay=False, exists=True))
@options.field("AugmentConfig", "copies")
@options.field("AugmentConfig", "strength")
@options.field("AugmentConfig", "method")
@options.field("AugmentConfig", "seed")
@options.field("AugmentConfig", "licence")
@options.field("AugmentConfig", "rights")
@options.vocoder
@options.device
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("augmented"),
    help="New or empty folder to write to, or one that the same command started to fill.",
)
def augment(
    release: str,
    dataset: Path,
    copies: int,
    strength: float,
    method: str,
    seed: int,
    licence: str,
    rights: str,
    vocoder: str | None,
    device: str,
    out: Path,
) -> None:
    """Makes variations of a labelled set of sounds.

    Every variation keeps the label of its sound. The result is a Hugging Face `audiofolder`.

    DATASET is a folder of sounds, with a `metadata.csv` or `metadata.jsonl` or a folder per label; or the store
    of a MelodyGAN. --method eq filters each sound; --method flow makes it anew, and is what auto does where the
    release's prior is a flow.

    The same command continues where it was stopped. Sounds that cannot be read are named, the rest continue,
    and the exit status is 1.
    """
    from melodygan_core.config import AugmentConfig, from_dict
    from melodygan_core.services.labelled import check_labelled
    from melodygan_core.services.output import check_resumable
    from melodygan_core.services.releases import check_release

    settings = {"copies": copies, "seed": seed, "strength": strength, "method": method}
    settings |= {"licence": licence, "rights": rights}
    config = from_dict(AugmentConfig, settings)
    check_release(release)
    check_resumable(out)
    check_labelled(dataset, out)
    opened = open_release(release, "griffin_lim" if method == "eq" else vocoder, device)
    from melodygan_core.services.augment import augment as service

    with drawn_late() as progress:
        result = service(opened, dataset, out, config, progress=progress)
    echo(f"{out / 'metadata.csv'}  {len(result.rows)} variations, {result.made} of them new")
    for name, reason in list(result.failed.items())[:FAILED_SHOWN]:
        echo(f"{name}: {reason}", err=True)
    if len(result.failed) > FAILED_SHOWN:
        echo(f"and {len(result.failed) - FAILED_SHOWN} more", err=True)
    report_licences(opened.manifest.sources["licences"])
    if result.failed:
        sys.exit(1)


COMMANDS = (generate, reconstruct, interpolate, transfer, augment)
