"""The figures of the page: tables and plots of evaluations and trainings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from melodygan_core import evaluation
from melodygan_core.audio import plots
from melodygan_core.gallery.sounds import Folder, GalleryEntry
from melodygan_core.metrics.music import UNITS
from melodygan_core.storage import Store

_MEMORISATION = ("memorisation/generated_p5", "memorisation/validation_p5")
# Curves of a training that has them.
_CURVES = (
    ("train/loss", "validation/loss"),
    ("validation/explained_variance",),
    ("train/adv/disc", "train/adv/gen"),
    ("validation/kad", "validation/kad_real_baseline"),
)


def curve_groups(history: Sequence[dict[str, float]]) -> list[list[str]]:
    """Groups of curves that a training's history has, one group per plot."""
    known = {key for row in history for key in row}
    groups = [[key for key in group if key in known] for group in _CURVES]
    return [group for group in groups if group]


def of_pipeline(entry: GalleryEntry, out: Folder, store: Store) -> dict[str, Any]:
    """Figures and plots of one pipeline."""
    codec_metrics = entry.pipeline.codec.metrics
    curves = []
    for part, artifact in entry.pipeline.parts.items():
        history = artifact.metrics.get("history", [])
        if part != "vocoder" and (groups := curve_groups(history)):
            curves.append((part, out.picture(f"{entry.name}-{part}-curves", plots.curves_png(history, groups))))
    return {
        "nearest": [entry.evaluation.metrics[k] for k in _MEMORISATION],
        "explained_variance": codec_metrics.get("test/explained_variance"),
        "explained_variance_pca": codec_metrics.get("test/explained_variance_pca"),
        "pitch": _pitch(entry.evaluation.metrics),
        "music": _music(entry, out, store),
        "curves": curves,
    }


def compared(entries: Sequence[GalleryEntry], out: Folder) -> dict[str, Any]:
    """The distances of all pipelines, as one table and one plot."""
    table = evaluation.side_by_side([e.evaluation for e in entries])
    intervals = [
        (f"{row['pipeline']} {row['set']}, {row['window_s']:g} s", row["kad"], row["kad_low"], row["kad_high"])
        for row in table
        if row.get("kad") is not None
    ]
    title = "KAD x1000 to test tracks (lower is nearer)"
    picture = out.picture("kad", plots.intervals_png(intervals, title)) if intervals else None
    return {"table": table, "intervals": picture}


def _pitch(metrics: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Part of the chain with its octaves, such as `codec 40-160 Hz`, and the correlation in them."""
    keys = [key.split("/") for key in metrics if "/pitch/" in key]
    octaves = [key for key in keys if key[-1][0].isdigit()]
    return [(f"{part} {hz} Hz", metrics[f"{part}/{kind}/{hz}"]) for part, kind, hz in octaves]


def _music(entry: GalleryEntry, out: Folder, store: Store) -> dict[str, Any]:
    figures, values = entry.evaluation.metrics, evaluation.music_values(entry.evaluation, store)
    png = plots.distributions_png(values, UNITS) if values else None
    return {
        "table": evaluation.music_table(figures.get("music", [])),
        "excerpt_s": figures.get("music/excerpt_s"),
        "note": figures.get("music/note", ""),
        "picture": out.picture(f"{entry.name}-music", png) if png else None,
    }
