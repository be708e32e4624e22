"""What services share that edit a sound by its latents: seeds, progress, contexts and seams."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from melodygan_core.audio import peak_db
from melodygan_core.config import EditConfig
from melodygan_core.pipeline import Pipeline
from melodygan_core.prior import Parts, condition_index
from melodygan_core.progress import Progress, ProgressEvent
from melodygan_core.services.sound import Samples, encode_sound, vocode

# At a seam, what was generated fades into the sound over this long, shifted by at most this much to fit.
FADE_S, SHIFT_S = 0.03, 0.008
# The level of what was generated is that of the sound over this long beside a seam, within these bounds.
LEVEL_S, MOST_GAIN_DB = 3.0, 12.0
# Tokens that are encoded and decoded beyond those that the prior looks at.
_MARGIN = 16
_FULL_SCALE_DB = -0.1


def seed_of(seed: int, index: int) -> int:
    """The seed of sound `index` of a request."""
    return int(np.random.SeedSequence((seed, index)).generate_state(1, np.uint64)[0] >> 1)


def condition_of(pipeline: Pipeline, config: EditConfig) -> int | None:
    """The condition of a request; None for none.

    Raises:
        InputError: an unknown condition.
    """
    return condition_index(pipeline.conditions, config.condition) if config.condition else None


def parts_of(stage: str, index: int, count: int, progress: Progress | None) -> Parts | None:
    """A callback for the parts of sound `index` of `count` that take equally many."""
    if progress is None:
        return None

    def report(done: int, total: int) -> None:
        progress(ProgressEvent(stage, index * total + done, count * total))

    return report


@dataclass(frozen=True)
class Context:
    """The latents on both sides of a part of a sound that is made, and where it lies.

    Attributes:
        latents: (tokens, latent_dim); those of the part are zero.
        known: (tokens,) boolean.
        start: First sample of the part.
        stop: Sample after its last one.
        anchor: Sample of the decoded latents that is the sound's sample `start`.
    """

    latents: Tensor
    known: Tensor
    start: int
    stop: int
    anchor: int


def context_of(pipeline: Pipeline, wav: Samples, start: int, stop: int, most: int) -> Context:
    """Encodes what lies beside a part of a sound, without looking into the part.

    The grid of tokens is laid so that the tokens before the part end where it begins. Those behind it begin
    less than two tokens after its end.

    Args:
        pipeline: On its device.
        wav: (channels, samples) at its rate.
        start: First sample of the part.
        stop: Sample after its last one; beyond the sound for a part that is added.
        most: Tokens on each side that the prior looks at.
    """
    hop, size, samples = pipeline.feature.hop_length, pipeline.codec.token_frames, wav.shape[1]
    most += _MARGIN
    before = _usable(min(most, (start // hop + 1) // size), size)
    first = start - (before * size - 1) * hop
    # A hop more than the part, because what is added to the end may be shifted.
    gap = -(-(stop - start + hop) // (hop * size))
    # Frames are centred on samples a hop apart; without tokens before it the part's first frame is the sound's.
    resumed = start + (gap * size + (1 if before else 0)) * hop
    behind = _usable(min(most, ((samples - resumed) // hop + 1) // size), size) if resumed < samples else 0
    sides = [
        _tokens(pipeline, wav[:, first:start], before) if before else None,
        _tokens(pipeline, wav[:, resumed : resumed + (behind * size - 1) * hop], behind) if behind else None,
    ]
    dim = pipeline.codec.latent_dim
    left, right = (torch.zeros(0, dim) if side is None else side for side in sides)
    latents = torch.cat([left, torch.zeros(gap, dim), right])
    known = torch.ones(len(latents), dtype=torch.bool)
    known[before : before + gap] = False
    return Context(latents, known, start, stop, (before * size - 1) * hop if before else 0)


def _usable(tokens: int, size: int) -> int:
    """So many tokens of `size` frames, or none where they are a single frame: that has no length."""
    return tokens if tokens * size > 1 else 0


def _tokens(pipeline: Pipeline, wav: Samples, tokens: int) -> Tensor:
    """(channels, samples of so many whole tokens) -> (tokens, latent_dim); the end is reflected, not silent."""
    padded = np.pad(wav, ((0, 0), (0, pipeline.feature.hop_length - 1)), mode="reflect")
    return encode_sound(pipeline, padded)[0][0, :tokens]


def insert(pipeline: Pipeline, wav: Samples, context: Context, latents: Tensor) -> tuple[Samples, float]:
    """Puts what latents sound like into a sound, at its level.

    Outside the part and its cross-fades, the sound keeps every sample.

    Args:
        pipeline: On its device.
        wav: (channels, samples).
        context: Of the part.
        latents: (tokens, latent_dim), those of the context with the part filled.

    Returns:
        (channels, samples), longer where the part is added to the end; and the gain of the part in dB.
    """
    rate, hop = pipeline.feature.sample_rate, pipeline.feature.hop_length
    frames = pipeline.decode(latents[None])
    decoded = vocode(pipeline, frames, (frames.spectrum.shape[1] - 1) * hop)
    samples, start, stop, anchor = wav.shape[1], context.start, context.stop, context.anchor
    fade = min(round(FADE_S * rate), start, anchor)
    if stop >= samples:
        # One seam only: what was made may begin a little earlier or later, where it fits best.
        anchor += _best_shift(wav[:, start - fade : start], decoded, anchor - fade, round(SHIFT_S * rate))
    gain = _gain(wav, decoded, context, round(LEVEL_S * rate))
    length = stop - start
    fade_out = min(round(FADE_S * rate), max(0, samples - stop), max(0, decoded.shape[1] - anchor - length))
    made = np.zeros((len(wav), fade + length + fade_out), np.float32)
    part = decoded[:, anchor - fade : anchor + length + fade_out]
    made[:, : part.shape[1]] = part
    gain = min(gain, 10 ** ((_FULL_SCALE_DB - peak_db(made)) / 20))
    made *= np.float32(gain)
    out = np.concatenate([wav, np.zeros((len(wav), max(0, stop - samples)), np.float32)], axis=1)
    made[:, :fade] = crossfade(wav[:, start - fade : start], made[:, :fade])
    if fade_out:
        made[:, -fade_out:] = crossfade(made[:, -fade_out:], wav[:, stop : stop + fade_out])
    out[:, start - fade : stop + fade_out] = made
    return out, 20 * float(np.log10(gain))


def crossfade(first: Samples, second: Samples) -> Samples:
    """Fades from one sound (channels, samples) into another of the same length, at constant power."""
    if not first.size:
        return first
    share = (np.arange(first.shape[1], dtype=np.float32) + 0.5) / first.shape[1]
    out, into = np.cos(share * np.pi / 2), np.sin(share * np.pi / 2)
    norm = float(np.linalg.norm(first)) * float(np.linalg.norm(second))
    # Of two sounds that are alike, the sum is louder than each.
    alike = max(-0.5, float(np.vdot(first, second)) / norm) if norm > 0 else 0.0
    return ((out * first + into * second) / np.sqrt(1 + 2 * out * into * alike)).astype(np.float32)


def _best_shift(before: Samples, decoded: Samples, at: int, most: int) -> int:
    """Samples by which `decoded`, shifted, is most like `before` at a position."""
    length = before.shape[1]
    shifts = [s for s in range(-most, most + 1) if 0 <= at + s <= decoded.shape[1] - length]
    if not length or not shifts:
        return 0
    scores = []
    for shift in shifts:
        here = decoded[:, at + shift : at + shift + length]
        scores.append(float(np.vdot(before, here)) / max(float(np.linalg.norm(here)), 1e-6))
    return shifts[int(np.argmax(scores))]


def _gain(wav: Samples, decoded: Samples, context: Context, reach: int) -> float:
    """Factor that makes the decoded context as loud as the sound's, within MOST_GAIN_DB."""
    offset = context.anchor - context.start
    low, high = max(0, context.start - reach, -offset), context.start
    pieces = [(low, high)]
    resumed, end = context.stop, min(context.stop + reach, wav.shape[1], decoded.shape[1] - offset)
    pieces.append((resumed, max(resumed, end)))
    powers = [
        sum(float(np.square(sound[:, a + o : b + o], dtype=np.float64).sum()) for a, b in pieces)
        for sound, o in ((wav, 0), (decoded, offset))
    ]
    if min(powers) <= 0:
        return 1.0
    bound = 10 ** (MOST_GAIN_DB / 20)
    return float(np.clip(np.sqrt(powers[0] / powers[1]), 1 / bound, bound))
