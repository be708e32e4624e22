"""A sound that goes on, and a sound of which a part is made anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from melodygan_core.config import ContinueConfig, EditConfig, InpaintConfig, require
from melodygan_core.generation import sampling_of
from melodygan_core.pipeline import Pipeline
from melodygan_core.prior import Parts, editing
from melodygan_core.progress import Progress
from melodygan_core.release import Release
from melodygan_core.services.editing import condition_of, context_of, insert, parts_of, seed_of
from melodygan_core.services.output import ServiceResult
from melodygan_core.services.sound import (
    MadeSound,
    Samples,
    describe_input,
    load_sound,
    safe_name,
    write_sounds,
)


def filled_wav(
    pipeline: Pipeline,
    wav: Samples,
    start: int,
    stop: int,
    config: EditConfig,
    index: int = 0,
    parts: Parts | None = None,
) -> tuple[Samples, float]:
    """A sound with a part made anew, so that it goes with what is before and after it.

    Args:
        pipeline: Of a prior that can inpaint.
        wav: (channels, samples) at the pipeline's rate.
        start: First sample of the part.
        stop: Sample after its last one; beyond the sound to go on.
        config: Seed, condition and sampling.
        index: Which sound of the seed.
        parts: Called after each window of the prior.

    Returns:
        (channels, samples), and the gain of the part in dB.
    """
    prior = editing(pipeline.prior, "inpaint")
    context = context_of(pipeline, wav, start, stop, prior.context_tokens)
    latents = prior.fill(
        context.latents.to(prior.device),
        context.known.to(prior.device),
        seed_of(config.seed, index),
        condition_of(pipeline, config),
        sampling_of(config),
        parts,
    )
    return insert(pipeline, wav, context, latents.cpu())


@torch.no_grad()
def continue_sound(
    release: Release,
    config: ContinueConfig,
    out: Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ServiceResult:
    """Writes `<name>-continued-00.wav`: the sound, and what it goes on with.

    Args:
        release: Of a pipeline that can continue.
        config: The sound, and for how long.
        out: A new or empty folder.
        overwrite: Replace a folder that holds something.
        progress: Called after every part.

    Raises:
        InputError: no sound, a pipeline that cannot, an unknown condition, or a folder that is not empty.
    """
    editing(release.pipeline.prior, "continue")
    rate, path = release.pipeline.feature.sample_rate, Path(config.sound)
    wav = load_sound(path, release.pipeline.feature, "sound")
    stop = wav.shape[1] + max(1, round(config.duration_s * rate))
    return _write(release, config, path, wav, (wav.shape[1], stop), "continue", out, overwrite, progress)


@torch.no_grad()
def inpaint(
    release: Release,
    config: InpaintConfig,
    out: Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ServiceResult:
    """Writes `<name>-inpainted-00.wav`: the sound, a part of which is made anew.

    Args:
        release: Of a pipeline that can inpaint.
        config: The sound and the part.
        out: A new or empty folder.
        overwrite: Replace a folder that holds something.
        progress: Called after every part.

    Raises:
        InputError: no sound, a part that is not in it or is all of it, a pipeline that cannot, an unknown
            condition, or a folder that is not empty.
    """
    editing(release.pipeline.prior, "inpaint")
    rate, path = release.pipeline.feature.sample_rate, Path(config.sound)
    wav = load_sound(path, release.pipeline.feature, "sound")
    length_s = wav.shape[1] / rate
    require(config.end_s <= length_s, "end_s", config.end_s, f"at most {length_s:.2f}, the length of the sound")
    part = round(config.start_s * rate), min(wav.shape[1], round(config.end_s * rate))
    return _write(release, config, path, wav, part, "inpaint", out, overwrite, progress)


def _write(
    release: Release,
    config: ContinueConfig | InpaintConfig,
    path: Path,
    wav: Samples,
    part: tuple[int, int],
    service: str,
    out: Path,
    overwrite: bool,
    progress: Progress | None,
) -> ServiceResult:
    condition_of(release.pipeline, config)
    rate = release.pipeline.feature.sample_rate
    token = release.pipeline.codec.token_frames * release.pipeline.feature.hop_length
    beside = max(part[0], wav.shape[1] - part[1])
    require(
        beside >= token, "the sound beside the part", f"{beside / rate:.2f} s", f"{token / rate:.2f} s or more"
    )
    facts = {
        "service": service,
        "inputs": [describe_input(path)],
        "settings": config.model_dump(mode="json", exclude={"sound"}),
        "made_from_s": part[0] / rate,
        "made_to_s": part[1] / rate,
    }
    name = {"continue": "continued", "inpaint": "inpainted"}[service]

    def make() -> Iterator[MadeSound]:
        for index in range(config.count):
            parts = parts_of(service, index, config.count, progress)
            made, gain_db = filled_wav(release.pipeline, wav, *part, config, index, parts)
            # As it is: the level of the sound is not changed.
            yield MadeSound(f"{safe_name(path)}-{name}-{index:02d}", made, None, {"gain_db": gain_db})

    return write_sounds(release, make(), config.count, facts, out, overwrite=overwrite, progress=None)
