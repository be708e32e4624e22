"""The melody and rhythm of one sound with the timbre of another, by a filter or by a flow.

What the filter transfers are statistics of the log-mel (see `release.styles.Style`). It goes over the content's
own sound, so that nothing else of it changes. Passing the result through codec and vocoder, or moving the
statistics of the latents, was measured and is worse at both ends: docs/usage.md has the figures.

The flow makes the sound anew from a mixture of its latents and noise. Each step is moved towards the style and
towards the pitch classes and onsets of the content (see `guides`). A tag that the prior was trained with is its
condition, too. The filter goes over the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from melodygan_core.catalogue.tracks import slug
from melodygan_core.config import FeatureConfig, TransferConfig, require
from melodygan_core.config.requests import MOST_NOISE
from melodygan_core.features import check_spectrum_bytes
from melodygan_core.generation import sampling_of
from melodygan_core.pipeline import Pipeline
from melodygan_core.prior import DEFAULT_SAMPLING, Parts, condition_index, editing, require_defaults
from melodygan_core.progress import Progress
from melodygan_core.release import Release, styles
from melodygan_core.release.styles import Style
from melodygan_core.services.content_similarity import content_similarity
from melodygan_core.services.editing import parts_of, seed_of
from melodygan_core.services.guides import melody_guide, style_guide
from melodygan_core.services.output import ServiceResult
from melodygan_core.services.sound import (
    MadeSound,
    Samples,
    describe_input,
    filtered,
    load_sound,
    log_mel_of,
    safe_name,
    write_sounds,
)
from melodygan_core.services.variations import varied_wav

# Contrasts of bands are stretched or squeezed by at most this factor.
_MAX_CONTRAST = 3.0
_MIN_CONTRAST = 1e-2


@dataclass(frozen=True)
class Transferred:
    """A sound with another timbre, and how near it came.

    Attributes:
        wav: (channels, samples) at the features' rate.
        figures: `chroma_correlation` and `onset_correlation` with the content; `style_distance_before` (of the
            content) and `style_distance_after` (of the result), in the evaluation's embedding at equal level;
            `style_spread`, the distance of the style's windows from each other, of a style with two or more.
    """

    wav: Samples
    figures: dict[str, float]


def transfer_wav(content: Samples, style: Style, feature: FeatureConfig, strength: float = 1.0) -> Transferred:
    """The content with the timbre of a style.

    Args:
        content: (channels, samples) at the features' rate.
        style: Of a sound, or of a tag of a release.
        feature: Of the style.
        strength: 0 to 1; 0 leaves the content as it is, 1 takes the style's timbre.

    Raises:
        InputError: a silent content.
    """
    check_spectrum_bytes(content.shape[1] // feature.hop_length + 1, feature, "`content`")
    log_mel = log_mel_of(content, feature)
    wav = filtered(content, strength * gain_towards(log_mel, style, feature), feature)
    return Transferred(wav, _figures(content, wav, style, feature))


def _figures(content: Samples, wav: Samples, style: Style, feature: FeatureConfig) -> dict[str, float]:
    """See Transferred."""
    embedded = {"before": content, "after": wav}
    distances = {
        f"style_distance_{name}": styles.distance(styles.embed(log_mel_of(sound, feature), feature), style)
        for name, sound in embedded.items()
    }
    own = styles.inner_distance(style)
    within = {} if own is None else {"style_spread": own}
    return content_similarity(content, wav, feature) | distances | within


def gain_towards(log_mel: Tensor, style: Style, feature: FeatureConfig) -> Tensor:
    """The gain that gives log-mel (frames, n_mels) a style's contrasts of bands, then its levels.

    It is the same for all frames: to match the dynamics of each band too (within a factor of 1.5) brings the
    mean of pairs nearer, but moves some apart.

    Returns:
        (frames, n_mels), natural log.
    """
    values = styles.normalised(log_mel, feature)
    detail, contrast = styles.contrast_of(_level(values))
    ratio = torch.from_numpy(style.contrast).clamp_min(_MIN_CONTRAST) / contrast.clamp_min(_MIN_CONTRAST)
    gain = (ratio.clamp(1 / _MAX_CONTRAST, _MAX_CONTRAST) - 1) * detail
    missing = torch.from_numpy(style.level) - _level(values + gain)
    return (gain + styles.smoothed(missing, styles.LEVEL_BANDS)).expand(len(log_mel), -1)


def _level(values: Tensor) -> Tensor:
    return values[styles.heard(values)].mean(dim=0)


def method_of(pipeline: Pipeline, config: TransferConfig) -> str:
    """`eq` or `flow`: which of them transfers with a release.

    Raises:
        InputError: `flow` is asked for, and the prior cannot vary; settings of the flow are given for the
            filter; or guidance towards a condition that the prior does not know.
    """
    method, knows = config.method, config.style_tag in pipeline.conditions
    if method == "flow":
        editing(pipeline.prior, "vary")
    elif method == "auto":
        # With guides alone, the flow is not shown to be better than the filter.
        method = "flow" if knows and "vary" in pipeline.prior.capabilities else "eq"
    if method == "eq":
        require_defaults(sampling_of(config), "the method eq")
        for name in ("style_weight", "keep_melody"):
            value, default = getattr(config, name), TransferConfig.model_fields[name].default
            require(value == default, name, value, f"{default:g} with the method eq: it is a setting of flow")
    elif not knows:
        known = ", ".join(pipeline.conditions) or "none: its prior was trained without conditions"
        allowed = f"{DEFAULT_SAMPLING.guidance:g} unless `style_tag` is a condition of the release ({known})"
        require(config.guidance == DEFAULT_SAMPLING.guidance, "guidance", config.guidance, allowed)
    return method


def flow_transfer_wav(
    pipeline: Pipeline, content: Samples, style: Style, config: TransferConfig, parts: Parts | None = None
) -> Transferred:
    """The content made anew by a flow that is guided to a style.

    Args:
        pipeline: Whose prior can vary.
        content: (channels, samples) at its rate.
        style: Of a sound, or of the tag of the config.
        config: Tag, strength (1 is MOST_NOISE of noise), weights, seed and sampling.
        parts: Called after each window of the prior.

    Raises:
        InputError: a silent content.
    """
    tag, conditions = config.style_tag, pipeline.conditions
    condition = condition_index(conditions, tag) if tag in conditions else None
    # Silence is reported before the flow works.
    styles.normalised(log_mel_of(content, pipeline.feature), pipeline.feature)
    guides = (
        style_guide(pipeline, style, config.style_weight),
        melody_guide(pipeline, content, config.keep_melody),
    )
    strength, seed = MOST_NOISE * config.strength, seed_of(config.seed, 0)
    wav = varied_wav(pipeline, content, strength, seed, condition, sampling_of(config), parts, guides)
    if config.strength > 0:
        # The guide's embedding has eight groups of bands: the filter brings each band to the style's level.
        gain = gain_towards(log_mel_of(wav, pipeline.feature), style, pipeline.feature)
        wav = filtered(wav, config.strength * gain, pipeline.feature)
    return Transferred(wav, _figures(content, wav, style, pipeline.feature))


def transfer(
    release: Release,
    config: TransferConfig,
    out: Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ServiceResult:
    """Writes `<content>-as-<style>.wav` with how near it came.

    Args:
        release: Release that has the styles of its tags.
        config: The sound, and the timbre that it gets.
        out: A new or empty folder.
        overwrite: Replace a folder that holds something.
        progress: Called at the start and the end.

    Raises:
        InputError: no sound, an unknown tag, a method that the release has not, or a folder that is not empty.
    """
    feature, tag, pipeline = release.pipeline.feature, config.style_tag, release.pipeline
    method = method_of(pipeline, config)
    content, style = Path(config.content), Path(config.style) if config.style else None
    # An unknown tag is reported before a sound is read.
    wanted = release.style(tag) if style is None else None
    wav = load_sound(content, feature, "content")
    if wanted is None:
        wanted = styles.style_of(log_mel_of(load_sound(Path(config.style), feature, "style"), feature), feature)
    name = f"{safe_name(content)}-as-{slug(tag, 40) or 'style' if style is None else safe_name(style)}"
    facts = {
        "service": "transfer",
        "inputs": [describe_input(p) for p in (content, style) if p is not None],
        "style_tag": tag,
        "strength": config.strength,
        "method": method,
    }
    if method == "flow":
        facts |= {"seed": config.seed, "sampling": vars(sampling_of(config))}
        facts |= {"style_weight": config.style_weight, "keep_melody": config.keep_melody}

    def make() -> Iterator[MadeSound]:
        if method == "flow":
            parts = parts_of("transfer", 0, 1, progress)
            made = flow_transfer_wav(pipeline, wav, wanted, config, parts)
        else:
            made = transfer_wav(wav, wanted, feature, config.strength)
        yield MadeSound(name, made.wav, wav, made.figures)

    # A flow reports its parts.
    of_sound = None if method == "flow" else progress
    return write_sounds(release, make(), 1, facts, out, overwrite=overwrite, progress=of_sound)
