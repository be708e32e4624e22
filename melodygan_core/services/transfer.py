"""The melody and rhythm of one sound with the timbre of another.

What is transferred are statistics of the log-mel (see `styles.Style`), by a filter over the content's own
sound, so that nothing else of it changes. Passing the result through autoencoder and vocoder, or moving the
statistics of the latents, was measured and is worse at both ends: docs/usage.md has the figures.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from melodygan_core.config import FeatureConfig, require
from melodygan_core.pipeline import Models
from melodygan_core.release import styles
from melodygan_core.release.styles import Style
from melodygan_core.services.content_similarity import content_similarity
from melodygan_core.services.sound import Samples, filtered, log_mel_of, sequence_model

# Contrasts of bands are stretched or squeezed by no more than this.
_MOST_CONTRAST = 3.0
_LEAST = 1e-2


@dataclass(frozen=True)
class Transferred:
    """A transferred sound and how near it came.

    Attributes:
        wav: (samples,) at the models' rate.
        figures: `chroma_correlation` and `onset_correlation` with the content, `style_distance_before` (of the
            content) and `style_distance_after` (of the result), in the evaluation's embedding at equal level.
    """

    wav: Samples
    figures: dict[str, float]


def transfer(models: Models, content: Samples, style: Style, strength: float = 1.0) -> Transferred:
    """The content with the timbre of a style.

    Args:
        models: Of the temporal family.
        content: (samples,) at the models' rate.
        style: Of a sound, or of a tag of the release.
        strength: 0 leaves the content as it is, 1 takes the style's timbre.

    Raises:
        InputError: models of another family, a silent content, or a strength that is not allowed.
    """
    require(0 <= strength <= 1, "strength", strength, "0 to 1")
    feature = sequence_model(models).feature
    log_mel = log_mel_of(content, feature)
    wav = filtered(content, strength * towards(log_mel, style, feature), feature)
    return Transferred(
        wav, content_similarity(content, wav, feature) | _distances(log_mel, wav, style, feature)
    )


def _distances(log_mel: Tensor, wav: Samples, style: Style, feature: FeatureConfig) -> dict[str, float]:
    embedded = {"before": log_mel, "after": log_mel_of(wav, feature)}
    return {
        f"style_distance_{k}": styles.distance(styles.embed(v, feature), style) for k, v in embedded.items()
    }


def towards(log_mel: Tensor, style: Style, feature: FeatureConfig) -> Tensor:
    """The gain that gives log-mel (frames, n_mels) a style's contrasts of bands, then its levels.

    The same for all frames: to match the dynamics of each band too (within a factor of 1.5) brings the mean of
    pairs nearer, but some apart.

    Returns:
        (frames, n_mels), natural log.
    """
    values = styles.normalised(log_mel, feature)
    detail, contrast = styles.contrast_of(_level(values))
    ratio = torch.from_numpy(style.contrast).clamp_min(_LEAST) / contrast.clamp_min(_LEAST)
    gain = (ratio.clamp(1 / _MOST_CONTRAST, _MOST_CONTRAST) - 1) * detail
    missing = torch.from_numpy(style.level) - _level(values + gain)
    return (gain + styles.smoothed(missing, styles.LEVEL_BANDS)).expand(len(log_mel), -1)


def _level(values: Tensor) -> Tensor:
    return values[styles.heard(values)].mean(dim=0)
