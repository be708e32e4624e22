"""One variation of a sound of a labelled set: by a filter, or made anew by the flow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from melodygan_core import audio
from melodygan_core.config.requests import MOST_NOISE
from melodygan_core.features import mels_of_spectrum
from melodygan_core.pipeline import Pipeline
from melodygan_core.release import styles
from melodygan_core.services.sound import Samples, encode_sound, filtered, log_mel_of
from melodygan_core.services.transfer import gain_towards
from melodygan_core.services.variations import varied_wav

# At strength 1: standard deviation of the noise on the latents, in those of each latent; tokens between two of
# its points; largest gain of a band that it causes; standard deviation of the level.
_NOISE, _NOISE_TOKENS, _NOISE_DB, _LEVEL_DB = 1.0, 16, 6.0, 3.0
_FULL_SCALE_DB = -0.1


def flow_variation(pipeline: Pipeline, wav: Samples, strength: float, rng: np.random.Generator) -> Samples:
    """A sound made anew from a mixture of its latents and noise, at its loudness.

    Args:
        pipeline: Of a prior that can vary.
        wav: (channels, samples) at the models' rate.
        strength: 0 to 1; 1 is MOST_NOISE of noise.
        rng: Decides everything that is random.
    """
    made = varied_wav(pipeline, wav, MOST_NOISE * strength, int(rng.integers(2**62)))
    rate = pipeline.feature.sample_rate
    return audio.normalise_loudness(made, rate, audio.loudness_lufs(wav, rate), _FULL_SCALE_DB)


def variation(
    pipeline: Pipeline, wav: Samples, other: styles.Style | None, strength: float, rng: np.random.Generator
) -> Samples:
    """A sound that differs a little: slow noise on its latents, a timbre nearer to another's, another level.

    All of it is one filter over the sound, so that notes, onsets and length stay.

    Args:
        pipeline: Its codec moves the sound in the latent space.
        wav: (channels, samples) at the models' rate.
        other: Of another sound with the same label, if there is one.
        strength: 0 to 1.
        rng: Decides everything that is random.

    Raises:
        InputError: a silent sound.
    """
    log_mel = log_mel_of(wav, pipeline.feature)
    latents, frames = encode_sound(pipeline, wav)
    offset = strength * _NOISE * latents.std(dim=1, correction=0) * _slow_noise(latents.shape, rng)
    mels_of = mels_of_spectrum(pipeline.feature)
    decoded = (pipeline.decode(z) for z in (pipeline.codec.clamp(latents + offset), latents))
    moved, unmoved = (mels_of(part.spectrum) for part in decoded)
    # A decoder that was trained on little exaggerates: the change is bounded.
    bound = strength * _NOISE_DB / 20 * np.log(10)
    gain = styles.smoothed((moved - unmoved)[0, :frames], styles.LEVEL_BANDS).clamp(-bound, bound)
    lean = strength * float(rng.uniform(0.3, 1.0))
    if other is not None:
        gain = gain + lean * gain_towards(log_mel, other, pipeline.feature)
    level_db = strength * _LEVEL_DB * float(rng.standard_normal())
    made = filtered(wav, gain, pipeline.feature)
    # A filter keeps the energy, not the peak.
    level_db = min(level_db, _FULL_SCALE_DB - audio.peak_db(made))
    return made * np.float32(10 ** (level_db / 20))


def _slow_noise(shape: Sequence[int], rng: np.random.Generator) -> Tensor:
    """Slow noise (1, tokens, latent_dim) of unit variance at its points, linear between them."""
    _, tokens, dim = shape
    points = rng.standard_normal((1, dim, 2 + tokens // _NOISE_TOKENS)).astype(np.float32)
    line = F.interpolate(torch.from_numpy(points), size=max(2, tokens), mode="linear", align_corners=True)
    return line[:, :, :tokens].transpose(1, 2)
