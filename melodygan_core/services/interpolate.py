"""Sounds between two sounds, through the latents."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from melodygan_core.codec import Decoded
from melodygan_core.config import InterpolateConfig
from melodygan_core.pipeline import Pipeline
from melodygan_core.progress import Progress
from melodygan_core.release import Release
from melodygan_core.services.output import ServiceResult
from melodygan_core.services.sound import (
    MadeSound,
    Samples,
    describe_input,
    encode_sound,
    load_sound,
    vocode,
    write_sounds,
)


def interpolate_wavs(pipeline: Pipeline, first: Samples, second: Samples, steps: int) -> Iterator[Samples]:
    """Yields sounds from one to another, linear in the latents.

    A latent between two others is nearer to the mean, and its sound is softer: the level is set so that it goes
    evenly, in dB, from one to the other.

    Args:
        pipeline: On its device.
        first: (channels, samples) at the pipeline's rate.
        second: (channels, samples); the longer one is cut.
        steps: Number of sounds, at least 2; the first and the last are the reconstructions of the two.
    """
    samples = min(first.shape[1], second.shape[1])
    (a, frames), (b, _) = (encode_sound(pipeline, wav[:, :samples]) for wav in (first, second))

    def between(share: float) -> Decoded:
        return pipeline.decode(torch.lerp(a, b, share)).frames(slice(frames))

    level, last_level = (_level(between(share).spectrum) for share in (0.0, 1.0))

    def one(k: int) -> Samples:
        share = k / (steps - 1)
        made = between(share)
        gain = torch.lerp(level, last_level, share) - _level(made.spectrum)
        return vocode(pipeline, made._replace(spectrum=made.spectrum + gain), samples)

    return (one(k) for k in range(steps))


def _level(spectrum: Tensor) -> Tensor:
    """Half the log of the mean power of (1, frames, n_bands), natural log of magnitude."""
    return 0.5 * (torch.logsumexp(2 * spectrum.flatten(), 0) - math.log(spectrum.numel()))


def interpolate(
    release: Release,
    config: InterpolateConfig,
    out: Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ServiceResult:
    """Writes `interpolation-00.wav` (the first, reconstructed) to the second, as long as the shorter one.

    Args:
        release: Release whose codec and vocoder are used.
        config: The two sounds, and the number of steps.
        out: A new or empty folder.
        overwrite: Replace a folder that holds something.
        progress: Called at the start and after every sound.

    Raises:
        InputError: no sound, or a folder that is not empty.
    """
    steps, paths = config.steps, [Path(config.first), Path(config.second)]
    wavs = [
        load_sound(path, release.pipeline.feature, name)
        for path, name in zip(paths, ("first", "second"), strict=True)
    ]
    samples = min(wav.shape[1] for wav in wavs)

    def make() -> Iterator[MadeSound]:
        for k, wav in enumerate(interpolate_wavs(release.pipeline, wavs[0], wavs[1], steps)):
            share = k / (steps - 1)
            # As loud as the end that it is nearer to.
            like = (wavs[0] if share < 0.5 else wavs[1])[:, :samples]
            yield MadeSound(f"interpolation-{k:02d}", wav, like, {"share_of_second": share})

    facts = {"service": "interpolate", "inputs": [describe_input(path) for path in paths]}
    return write_sounds(release, make(), steps, facts, out, overwrite=overwrite, progress=progress)
