"""Renders the gallery: real, separated, reconstructed and generated sound, with pictures, in one folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from melodygan_core import evaluation
from melodygan_core.audio import plots
from melodygan_core.config import VERSIONS, config_id
from melodygan_core.dataset import Dataset
from melodygan_core.gallery import sounds
from melodygan_core.gallery.sounds import GalleryEntry
from melodygan_core.metrics.music import UNITS
from melodygan_core.storage import Artifact, Store

NAME = "gallery"
PAGE = "index.html"
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


def _music(entry: GalleryEntry, out: sounds.Folder, store: Store) -> dict[str, Any]:
    figures, values = entry.evaluation.metrics, evaluation.music_values(entry.evaluation, store)
    png = plots.distributions_png(values, UNITS) if values else None
    return {
        "table": evaluation.music_table(figures.get("music", [])),
        "excerpt_s": figures.get("music/excerpt_s"),
        "note": figures.get("music/note", ""),
        "picture": out.picture(f"{entry.name}-music", png) if png else None,
    }


def _figures(entry: GalleryEntry, out: sounds.Folder, store: Store) -> dict[str, Any]:
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
        "pitch": {k: v for k, v in entry.evaluation.metrics.items() if "pitch/" in k},
        "music": _music(entry, out, store),
        "curves": curves,
    }


def _compared(entries: Sequence[GalleryEntry], out: sounds.Folder) -> dict[str, Any]:
    table = evaluation.side_by_side([e.evaluation for e in entries])
    intervals = [
        (f"{row['pipeline']} {row['set']}, {row['window_s']:g} s", row["kad"], row["kad_low"], row["kad_high"])
        for row in table
        if row.get("kad") is not None
    ]
    title = "KAD x1000 to test tracks (lower is nearer)"
    picture = out.picture("kad", plots.intervals_png(intervals, title)) if intervals else None
    return {"table": table, "intervals": picture}


def render(dataset: Artifact, entries: Sequence[GalleryEntry], store: Store) -> Artifact:
    """Renders the page of some pipelines over one dataset.

    Args:
        dataset: What they were trained on.
        entries: In the order of the page.
        store: Where sounds are read and the page goes.
    """
    version = config_id(dataset.version, [[e.name, *e.versions] for e in entries], VERSIONS["gallery"])

    def build(folder: Path) -> dict[str, Any]:
        data, out = Dataset(store, dataset), sounds.Folder(folder)
        compared = _compared(entries, out)
        # Titles and licences come from strangers: all is escaped, and only the page is a template.
        environment = Environment(
            loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
        )
        page = environment.get_template("page.html").render(
            version=version,
            dataset=dataset,
            tracks=data.tracks,
            embedding=entries[0].evaluation.metrics["embedding"],
            compared=compared,
            examples=sounds.examples(store, data, entries, out),
            separated=sounds.separated(store, data, out),
            separation=data.separation_id,
            pipelines=[
                {
                    "name": entry.name,
                    "generated": sounds.generated(store, entry, out),
                    "figures": _figures(entry, out, store),
                }
                for entry in entries
            ],
        )
        (folder / PAGE).write_text(page, "utf-8")
        return {
            "page": PAGE,
            "sounds": len(list(folder.glob("*.flac"))),
            "pipelines": [e.name for e in entries],
            "table": compared["table"],
        }

    inputs = {"feature_table": dataset.version} | {e.samples.name: e.samples.version for e in entries}
    return store.get_or_build(NAME, store.gallery(version), build, config={}, inputs=inputs)
