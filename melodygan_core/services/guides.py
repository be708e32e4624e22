"""Guides of a flow in `transfer`: the style that is wanted and the melody that is kept, as losses of latents.

Both decode latents by the codec without its refiner, which is a few layers: cheap, and differentiable.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from melodygan_core import metrics
from melodygan_core.codec import Codec
from melodygan_core.config import FeatureConfig
from melodygan_core.features import MAX_LOG, band_filterbank, interpolation, mels_of_spectrum
from melodygan_core.pipeline import Pipeline
from melodygan_core.prior import Guide
from melodygan_core.release import styles
from melodygan_core.release.styles import Style
from melodygan_core.services.content_similarity import COMPRESSION, PAUSE_DB
from melodygan_core.services.sound import Samples, features_of

# As in librosa's onset strength, which `content_similarity` takes.
ONSET_RANGE_DB = 80.0
_TINY = 1e-9


def style_guide(pipeline: Pipeline, style: Style, weight: float) -> Guide:
    """Guides towards a style.

    The loss is the mean distance to the style's windows, as far as it is above the distance that those have
    from each other: nearer than that would be the style's average, not its music.

    Args:
        pipeline: Its codec decodes the latents.
        style: Of a sound, or of a tag.
        weight: See Guide.
    """
    feature = pipeline.feature
    mels_of = mels_of_spectrum(feature).to(pipeline.device)
    wanted = torch.from_numpy(style.embeddings).float().to(pipeline.device)
    own = styles.inner_distance(style) or 0.0

    def loss(latents: Tensor, index: Tensor) -> Tensor:
        log_mel = mels_of(_spectrum(pipeline.codec, latents))
        if styles.silent(log_mel, feature):
            return 0 * latents.sum()
        windows = _windows(styles.normalised(log_mel, feature), feature.frame_rate)
        embedded = metrics.embed_tensor(windows, feature.frame_rate)
        # Not cdist, whose gradient is not finite at a distance of 0.
        apart = (embedded[:, None] - wanted[None]).square().sum(dim=2).clamp_min(_TINY).sqrt()
        return apart.mean() - own

    return Guide(loss, weight)


def melody_guide(pipeline: Pipeline, content: Samples, weight: float) -> Guide:
    """Keeps melody and rhythm of a sound.

    The loss is the mean of two: 1 minus the correlation of the pitch classes with the sound's own, frame by
    frame, and 1 minus the correlation of the onset strengths over the window.

    Args:
        pipeline: Its codec decodes the latents.
        content: (channels, samples) at its rate.
        weight: See Guide.
    """
    feature, size = pipeline.feature, pipeline.codec.token_frames
    classes, mels_of = PitchClasses(feature, pipeline.device), mels_of_spectrum(feature).to(pipeline.device)
    spectrum = features_of(content, feature)[feature.spectrum].T.to(pipeline.device)
    tokens = -(-len(spectrum) // size)
    # The last token is filled with silence, as it is when the sound is encoded.
    missing = spectrum.new_full((tokens * size - len(spectrum), spectrum.shape[1]), math.log(feature.log_floor))
    spectrum = torch.cat([spectrum, missing])
    level = spectrum.amax(dim=1)
    heard = (level > level.max() + PAUSE_DB / 20 * math.log(10)).unflatten(0, (tokens, size))
    chroma, log_mel = (x.unflatten(0, (tokens, size)) for x in (classes(spectrum), mels_of(spectrum)))

    def loss(latents: Tensor, index: Tensor) -> Tensor:
        made, counted = _spectrum(pipeline.codec, latents), heard[index].flatten().float()
        same = (classes(made) * chroma[index].flatten(0, 1)).sum(dim=1)
        melody = ((1 - same) * counted).sum() / counted.sum().clamp_min(1)
        rhythm = 1 - onsets(mels_of(made)) @ onsets(log_mel[index].flatten(0, 1))
        return (melody + rhythm) / 2

    return Guide(loss, weight)


class PitchClasses:
    """The chroma of `content_similarity`, of a spectrum in bands and differentiable.

    Args:
        feature: Of the spectrum.
        device: Where it is computed.
    """

    def __init__(self, feature: FeatureConfig, device: torch.device) -> None:
        import librosa

        self._bins_of_bands = interpolation(band_filterbank(feature)).to(device)
        filters = librosa.filters.chroma(sr=feature.sample_rate, n_fft=feature.n_fft, tuning=0.0)
        self._classes_of_bins = torch.from_numpy(filters).float().T.to(device)

    def __call__(self, spectrum: Tensor) -> Tensor:
        """Spectrum (frames, n_bands), natural log -> (frames, 12) of mean 0 and norm 1.

        The inner product of two rows is their correlation. A row whose classes are all equal is 0.
        """
        magnitude = spectrum.clamp(max=MAX_LOG).exp() @ self._bins_of_bands
        loudest = magnitude.detach().max().clamp_min(_TINY)
        chroma = (COMPRESSION * magnitude / loudest).log1p() @ self._classes_of_bins
        chroma = chroma - chroma.mean(dim=1, keepdim=True)
        return chroma / (chroma.square().sum(dim=1, keepdim=True) + _TINY).sqrt()


def onsets(log_mel: Tensor) -> Tensor:
    """Log-mel (frames, n_mels) -> onset strengths (frames - 1,) of mean 0 and norm 1: how much the bands rise.

    Bands further than ONSET_RANGE_DB below the loudest do not count. Without any onset all are 0.
    """
    lowest = log_mel.detach().max() - ONSET_RANGE_DB / 20 * math.log(10)
    rising = log_mel.maximum(lowest).diff(dim=0).clamp_min(0).mean(dim=1)
    centred = rising - rising.mean()
    return centred / (centred.square().sum() + _TINY).sqrt()


def _spectrum(codec: Codec, latents: Tensor) -> Tensor:
    """Latents (tokens, latent_dim) -> spectrum (frames, n_bands), without the refiner."""
    return codec.from_targets(codec.decode_targets(latents[None])).spectrum[0]


def _windows(log_mel: Tensor, frame_rate: float) -> Tensor:
    """Log-mel (frames, n_mels) -> windows (n, n_mels, frames) of WINDOW_S that cover it.

    What is shorter than a window is repeated.
    """
    size = round(styles.WINDOW_S * frame_rate)
    if len(log_mel) < size:
        log_mel = log_mel.repeat(-(-size // len(log_mel)), 1)[:size]
    count = -(-len(log_mel) // size)
    starts = [round(k * (len(log_mel) - size) / max(1, count - 1)) for k in range(count)]
    return torch.stack([log_mel[s : s + size].T for s in starts])
