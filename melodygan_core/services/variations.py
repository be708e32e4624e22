"""Variations of a sound: its latents mixed with noise, and made anew from there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from melodygan_core.config import VariationsConfig
from melodygan_core.generation import sampling_of
from melodygan_core.pipeline import Pipeline
from melodygan_core.prior import Guide, Parts, Sampling, editing
from melodygan_core.progress import Progress
from melodygan_core.release import Release
from melodygan_core.services.content_similarity import content_similarity
from melodygan_core.services.editing import condition_of, parts_of, seed_of
from melodygan_core.services.output import ServiceResult
from melodygan_core.services.sound import (
    MadeSound,
    Samples,
    describe_input,
    encode_sound,
    load_sound,
    safe_name,
    vocode,
    write_sounds,
)


@torch.no_grad()
def varied_wav(
    pipeline: Pipeline,
    wav: Samples,
    strength: float,
    seed: int,
    condition: int | None = None,
    sampling: Sampling | None = None,
    parts: Parts | None = None,
    guides: Sequence[Guide] = (),
) -> Samples:
    """A variation (channels, samples) of a sound.

    Args:
        pipeline: Of a prior that can vary.
        wav: (channels, samples) at the pipeline's rate.
        strength: 0 to 1: share of noise; 0 is what codec and vocoder keep of the sound.
        seed: Of the noise.
        condition: Index of the condition that guides it, or None.
        sampling: See Sampling.
        parts: Called after each window of the prior.
        guides: Losses that are lowered meanwhile.
    """
    prior = editing(pipeline.prior, "vary")
    latents, frames = encode_sound(pipeline, wav)
    given, how = latents[0].to(prior.device), sampling or Sampling()
    made = prior.vary(given, strength, seed, condition, how, parts, guides=guides)
    return vocode(pipeline, pipeline.decode(made.cpu()[None]).frames(slice(frames)), wav.shape[1])


def variations(
    release: Release,
    config: VariationsConfig,
    out: Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ServiceResult:
    """Writes `<name>-variation-00.wav`, ..., with how much of melody and rhythm is left.

    Args:
        release: Of a pipeline that can vary.
        config: The sound, how many, and how far.
        out: A new or empty folder.
        overwrite: Replace a folder that holds something.
        progress: Called after every part.

    Raises:
        InputError: no sound, a pipeline that cannot, an unknown condition, or a folder that is not empty.
    """
    pipeline = release.pipeline
    editing(pipeline.prior, "vary")
    condition, path = condition_of(pipeline, config), Path(config.sound)
    wav = load_sound(path, pipeline.feature, "sound")
    facts = {
        "service": "variations",
        "inputs": [describe_input(path)],
        "settings": config.model_dump(mode="json", exclude={"sound"}),
    }

    def make() -> Iterator[MadeSound]:
        for index in range(config.count):
            seed = seed_of(config.seed, index)
            parts = parts_of("variations", index, config.count, progress)
            made = varied_wav(pipeline, wav, config.strength, seed, condition, sampling_of(config), parts)
            figures = content_similarity(wav, made, pipeline.feature)
            yield MadeSound(f"{safe_name(path)}-variation-{index:02d}", made, wav, figures)

    return write_sounds(release, make(), config.count, facts, out, overwrite=overwrite, progress=None)
