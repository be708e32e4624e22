"""What a style is: statistics of its log-mel that say how it sounds, not what it plays; and where it lies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from melodygan_core import metrics
from melodygan_core.config import STEMS, FeatureConfig, require
from melodygan_core.dataset import Dataset, Span, SpanDataset
from melodygan_core.errors import InputError
from melodygan_core.storage import dump_json, load_object

FILE = "styles.json"
ALL = "all"
WINDOW_S = 3.0
_DIM = 3 * metrics.BAND_GROUPS + metrics.BAND_GROUPS * (len(metrics.MODULATION_HZ) - 1)
# What a release holds of each style: enough for a mean distance, and little.
_TRACKS, _EMBEDDINGS, _FRAMES = 24, 12, 2048
_MOST_TAGS, _MAX_BYTES = 200, 32_000_000
# Frames this far below the loudest one are pauses: they say nothing of a timbre.
_PAUSE = math.log(10 ** (-50 / 20))
# Sums of a frame's bands are brought to this, the level of loud music.
_LEVEL = 3.0
# Bands over which levels and contrasts are smoothed: narrower, the notes would be in them.
LEVEL_BANDS, CONTRAST_BANDS = 5, 21


@dataclass(frozen=True)
class Style:
    """How something sounds; all of it at one overall level.

    Attributes:
        level: (n_mels,) mean of the log-mel over the frames that sound.
        contrast: (n_mels,) how far a band is from its neighbours on average, RMS over wide bands.
        embeddings: (n, dim) of windows of WINDOW_S, by `metrics.embed`.
    """

    level: NDArray[np.float32]
    contrast: NDArray[np.float32]
    embeddings: NDArray[np.float64]


def smoothed(values: Tensor, bands: int) -> Tensor:
    """(..., n_mels) over neighbouring bands, by a Hann window; the ends go on as they are."""
    kernel = torch.hann_window(bands + 2, periodic=False)[1:-1]
    rows = F.pad(values.reshape(-1, 1, values.shape[-1]), (bands // 2,) * 2, mode="replicate")
    return F.conv1d(rows, (kernel / kernel.sum())[None, None]).reshape(values.shape)


def heard(log_mel: Tensor) -> Tensor:
    """Which frames of log-mel (frames, n_mels) are not pauses."""
    level = log_mel.logsumexp(dim=1)
    return level > level.max() + _PAUSE


def silent(log_mel: Tensor, feature: FeatureConfig) -> bool:
    """Whether log-mel (frames, n_mels) is so near the floor of the logs that it has no style."""
    return float(log_mel.detach().max()) < math.log(feature.log_floor) + 1


def normalised(log_mel: Tensor, feature: FeatureConfig) -> Tensor:
    """Log-mel (frames, n_mels) at the level that styles are compared at.

    Raises:
        InputError: it is silent.
    """
    log_floor = math.log(feature.log_floor)
    if silent(log_mel, feature):
        raise InputError("the sound must be audible, got silence")
    level = log_mel[heard(log_mel)].logsumexp(dim=1).mean()
    return (log_mel + (_LEVEL - level)).clamp_min(log_floor)


def contrast_of(level: Tensor) -> tuple[Tensor, Tensor]:
    """What of a mean level (n_mels,) differs from its neighbours, and the RMS of that over wide bands."""
    detail = level - smoothed(level, LEVEL_BANDS)
    return detail, smoothed(detail.square(), CONTRAST_BANDS).sqrt()


def style_of(log_mel: Tensor, feature: FeatureConfig) -> Style:
    """The style of log-mel (frames, n_mels).

    Raises:
        InputError: it is silent.
    """
    values = normalised(log_mel, feature)
    level = values[heard(values)].mean(dim=0)
    embeddings = embed(log_mel, feature)
    return Style(level.numpy(), contrast_of(level)[1].numpy(), embeddings)


def embed(log_mel: Tensor, feature: FeatureConfig) -> NDArray[np.float64]:
    """Embeddings (n, dim) of consecutive windows of log-mel (frames, n_mels); what is shorter is repeated.

    Raises:
        InputError: it is silent.
    """
    frames = round(WINDOW_S * feature.frame_rate)
    count = max(1, len(log_mel) // frames)
    values = np.resize(normalised(log_mel, feature).numpy(), (count * frames, log_mel.shape[1]))
    return metrics.embed(values.reshape(count, frames, -1).transpose(0, 2, 1), feature.frame_rate)


def distance(embeddings: NDArray[np.float64], style: Style) -> float:
    """Mean distance of a sound's windows (n, dim) and a style's."""
    return float(np.linalg.norm(embeddings[:, None] - style.embeddings[None], axis=2).mean())


def inner_distance(style: Style) -> float | None:
    """Mean distance of a style's windows from each other; None where there is one window only."""
    return metrics.mean_distance(style.embeddings) if len(style.embeddings) > 1 else None


def of_dataset(dataset: Dataset, stems: Sequence[str]) -> dict[str, Style]:
    """The styles of the training tracks: over all, of each stem, and of each tag (the 200 with most tracks).

    A tag that is called as a stem, or `all`, stands for the tag.
    """
    spans = SpanDataset(dataset, "train", stems)
    named: dict[str, list[Span]] = {ALL: spans.all}
    for stem in stems:
        named[stem] = [s for s in spans.all if STEMS[s.stem] == stem]
    tagged: dict[str, list[Span]] = {}
    for span in spans.all:
        for tag in dataset.tracks[span.track]["tags"]:
            tagged.setdefault(tag, []).append(span)
    most = sorted(tagged, key=lambda tag: (-len(tagged[tag]), tag))[:_MOST_TAGS]
    named |= {tag: tagged[tag] for tag in sorted(most)}
    known: dict[Span, Style] = {}
    made = {}
    for name, candidates in named.items():
        chosen = _evenly_spaced(_longest(candidates), _TRACKS)
        for span in chosen:
            if span not in known:
                known[span] = style_of(_middle(spans, span), dataset.feature)
        if chosen:
            made[name] = _pooled([known[s] for s in chosen])
    return made


def _longest(spans: Sequence[Span]) -> list[Span]:
    """The longest span of each track and stem."""
    best: dict[tuple[int, int], Span] = {}
    for span in spans:
        key = (span.track, span.stem)
        if key not in best or span.segments > best[key].segments:
            best[key] = span
    return list(best.values())


def _evenly_spaced(items: Sequence[Any], at_most: int) -> list[Any]:
    return [items[k] for k in np.linspace(0, len(items) - 1, min(len(items), at_most)).round().astype(int)]


def _middle(spans: SpanDataset, span: Span) -> Tensor:
    span_frames = span.segments * spans.dataset.feature.segment_frames
    frames = min(span_frames, _FRAMES)
    return torch.from_numpy(spans.read(span, "log_mel", (span_frames - frames) // 2, frames))


def _pooled(styles: Sequence[Style]) -> Style:
    """The mean style: its contrast is that of a track, not that of the mean of tracks."""
    embeddings = [s.embeddings for s in styles]
    # As many of each track as there is room for.
    rows = [e[k] for k in range(max(map(len, embeddings))) for e in embeddings if k < len(e)]
    return Style(
        np.mean([s.level for s in styles], axis=0),
        np.sqrt(np.mean([np.square(s.contrast) for s in styles], axis=0)),
        np.stack(_evenly_spaced(rows, _EMBEDDINGS)),
    )


def write(path: Path, styles: dict[str, Style]) -> None:
    """Writes styles as JSON into a folder that is not yet visible to others."""
    rows = {
        name: {k: np.round(v.astype(np.float64), 5).tolist() for k, v in vars(style).items()}
        for name, style in styles.items()
    }
    dump_json(path, {"embedding": metrics.EMBEDDING, "window_s": WINDOW_S, "styles": rows})


def read(path: Path, feature: FeatureConfig) -> dict[str, Style]:
    """Reads what `write` wrote; none where the file is not there, as in releases before it.

    Raises:
        InputError: damaged, too large, or not of these features.
    """
    if not path.is_file():
        return {}
    stored = load_object(path, _MAX_BYTES)
    rows = stored.get("styles")
    if not isinstance(rows, dict):
        raise InputError(f"{path} must have a mapping of styles, got {rows!r:.60}")
    if (stored.get("embedding"), stored.get("window_s")) != (metrics.EMBEDDING, WINDOW_S):
        raise InputError(f"embedding of {path} must be {metrics.EMBEDDING}, got {stored.get('embedding')!r}")
    return {str(name)[:300]: _style(path, name, row, feature) for name, row in rows.items()}


def _style(path: Path, name: str, row: Any, feature: FeatureConfig) -> Style:
    where = f"{path}, style {str(name)[:60]!r}"
    if not isinstance(row, dict):
        raise InputError(f"{where} must be a mapping, got {row!r:.60}")
    level, contrast = (
        _numbers(where, row, key, (feature.n_mels,)).astype(np.float32) for key in ("level", "contrast")
    )
    embeddings = _numbers(where, row, "embeddings", (None, _DIM))
    require(len(embeddings) > 0, f"the embeddings of {where}", 0, "at least 1")
    return Style(level, contrast, embeddings)


def _numbers(where: str, row: dict[str, Any], key: str, shape: tuple[int | None, ...]) -> NDArray[np.float64]:
    try:
        values = np.asarray(row.get(key), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: {key} must be numbers: {error}") from error
    fits = values.ndim == len(shape) and all(s in (None, n) for s, n in zip(shape, values.shape, strict=True))
    if not fits or not np.isfinite(values).all() or np.abs(values).max(initial=0) > 1e4:
        raise InputError(f"{where}: {key} must be finite numbers of shape {shape}, got shape {values.shape}")
    return values
