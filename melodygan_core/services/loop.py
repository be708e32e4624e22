"""New sounds whose end goes over into their beginning."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from scipy.signal import resample
from torch import Tensor

from melodygan_core import audio
from melodygan_core.codec import Decoded
from melodygan_core.config import LoopConfig
from melodygan_core.generation import sampling_of
from melodygan_core.pipeline import Pipeline
from melodygan_core.prior import editing
from melodygan_core.progress import Progress
from melodygan_core.release import Release
from melodygan_core.services.editing import condition_of, crossfade, seed_of
from melodygan_core.services.output import ServiceResult
from melodygan_core.services.sound import MadeSound, Samples, write_sounds

# What is decoded and vocoded of the neighbouring turns, and over how long two turns are faded.
_MARGIN_TOKENS, _MARGIN_FRAMES, _FADE_FRAMES = 32, 64, 8


def decode_loop(pipeline: Pipeline, latents: Tensor) -> Decoded:
    """Latents (tokens, latent_dim) of a loop -> the frames (1, frames, ...) of one turn.

    Latents that are rotated give the frames rotated, but for a refiner's noise: there is no first token.
    """
    around = torch.arange(-_MARGIN_TOKENS, len(latents) + _MARGIN_TOKENS) % len(latents)
    margin = _MARGIN_TOKENS * pipeline.codec.token_frames
    return pipeline.decode(latents[around][None]).frames(slice(margin, -margin))


def stretched(decoded: Decoded, frames: int) -> Decoded:
    """One turn of frames (1, n, ...) in another number of them: slower or faster, at the same pitch."""

    def at(values: Tensor) -> Tensor:
        count = values.shape[1]
        position = torch.arange(frames, dtype=torch.float64) * (count / frames)
        left = position.long()
        share = (position - left).to(values.dtype)[:, None]
        return torch.lerp(values[:, left % count], values[:, (left + 1) % count], share)

    return Decoded(at(decoded.spectrum), None if decoded.stereo is None else at(decoded.stereo))


def vocode_loop(pipeline: Pipeline, decoded: Decoded, samples: int) -> Samples:
    """One turn (1, frames, ...) -> (channels, samples), of which the end goes over into the beginning.

    A vocoder's phases depend on all that came before, so that two turns differ: the beginning is faded in from
    the turn that follows.
    """
    hop, frames = pipeline.feature.hop_length, decoded.spectrum.shape[1]
    around = torch.arange(-_MARGIN_FRAMES, frames + _MARGIN_FRAMES + 1) % frames
    wav = pipeline.sound(decoded.frames(around))[0].numpy()
    first, turn, fade = _MARGIN_FRAMES * hop, frames * hop, _FADE_FRAMES * hop
    loop = wav[:, first : first + turn].copy()
    fade = min(fade, turn)
    loop[:, :fade] = crossfade(wav[:, first + turn : first + turn + fade], loop[:, :fade])
    # By the Fourier series of the turn, so that it stays periodic; less than a hop is missing or too much.
    return np.asarray(loop if turn == samples else resample(loop, samples, axis=1), np.float32)


def loop_wav(pipeline: Pipeline, config: LoopConfig, index: int = 0) -> Samples:
    """A loop (channels, samples) of exactly the duration that is asked for.

    Args:
        pipeline: Of a prior that can loop.
        config: Duration, seed, condition and sampling.
        index: Which loop of the seed.
    """
    prior, feature = editing(pipeline.prior, "loop"), pipeline.feature
    samples = round(config.length_s * feature.sample_rate)
    unit = prior.loop_tokens * pipeline.codec.token_frames * feature.hop_length
    tokens = prior.loop_tokens * max(1, round(samples / unit))
    latents = prior.loop(
        tokens, seed_of(config.seed, index), condition_of(pipeline, config), sampling_of(config)
    )
    decoded = stretched(decode_loop(pipeline, latents.cpu()), max(1, round(samples / feature.hop_length)))
    return vocode_loop(pipeline, decoded, samples)


@torch.no_grad()
def loop(
    release: Release,
    config: LoopConfig,
    out: Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ServiceResult:
    """Writes `loop-00.wav`, ...

    Args:
        release: Of a pipeline that can loop.
        config: How many, how long.
        out: A new or empty folder.
        overwrite: Replace a folder that holds something.
        progress: Called at the start and after every loop.

    Raises:
        InputError: a pipeline that cannot, an unknown condition, or a folder that is not empty.
    """
    pipeline = release.pipeline
    editing(pipeline.prior, "loop")
    condition_of(pipeline, config)
    facts = {"service": "loop", "inputs": [], "settings": config.model_dump(mode="json")}

    def make() -> Iterator[MadeSound]:
        rate = pipeline.feature.sample_rate
        for index in range(config.count):
            wav = loop_wav(pipeline, config, index)
            wav = audio.normalise_loudness(wav, rate, release.generation.loudness_lufs)
            yield MadeSound(f"loop-{index:02d}", wav, None, {})

    return write_sounds(release, make(), config.count, facts, out, overwrite=overwrite, progress=progress)
