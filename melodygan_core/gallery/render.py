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
from melodygan_core.gallery.family import Family
from melodygan_core.storage.store import Artifact, Store

NAME = "gallery"
PAGE = "index.html"
_MEMORISATION = ("memorisation/generated_p5", "memorisation/validation_p5")


def _figures(family: Family, out: sounds.Folder) -> dict[str, Any]:
    trained = family.autoencoder.metrics
    curves = {
        "autoencoder": (trained, [["train/loss", "validation/loss"], ["validation/explained_variance"]]),
        "gan": (
            family.gan.metrics,
            [["train/adv/disc", "train/adv/gen"], ["validation/kad", "validation/kad_floor"]],
        ),
    }
    return {
        "nearest": [family.evaluation.metrics[k] for k in _MEMORISATION],
        "explained_variance": trained["test/explained_variance"],
        "explained_variance_pca": trained.get("test/explained_variance_pca"),
        "curves": [
            (part, out.picture(f"{family.name}-{part}-curves", plots.curves_png(metrics["history"], groups)))
            for part, (metrics, groups) in curves.items()
        ],
    }


def _compared(families: Sequence[Family], out: sounds.Folder) -> dict[str, Any]:
    table = evaluation.side_by_side([f.evaluation for f in families])
    intervals = [
        (f"{row['family']} {row['set']}, {row['window_s']:g} s", row["kad"], row["kad_low"], row["kad_high"])
        for row in table
    ]
    picture = plots.intervals_png(intervals, "KAD x1000 to test tracks (lower is nearer)")
    return {"table": table, "intervals": out.picture("kad", picture)}


def render(dataset: Artifact, families: Sequence[Family], store: Store) -> Artifact:
    """Renders the page for some families over one dataset.

    Args:
        dataset: What they were trained on.
        families: In the order of the page.
        store: Where sounds are read and the page goes.
    """
    parts = [
        [f.name, *(a.version for a in (f.autoencoder, f.gan, f.vocoder, f.samples, f.evaluation))]
        for f in families
    ]
    version = config_id(dataset.version, parts, VERSIONS["gallery"])

    def build(folder: Path) -> dict[str, Any]:
        data, out = Dataset(store, dataset), sounds.Folder(folder)
        compared = _compared(families, out)
        # Titles and licences come from strangers: all is escaped, and nothing is a template but the page.
        environment = Environment(
            loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
        )
        page = environment.get_template("page.html").render(
            version=version,
            dataset=dataset,
            tracks=data.tracks,
            embedding=families[0].evaluation.metrics["embedding"],
            compared=compared,
            examples=sounds.examples(store, data, families, out),
            separated=sounds.separated(store, data, out),
            separation=data.separation_id,
            families=[
                {
                    "name": family.name,
                    "generated": sounds.generated(store, family, out),
                    "figures": _figures(family, out),
                }
                for family in families
            ],
        )
        (folder / PAGE).write_text(page, "utf-8")
        return {
            "page": PAGE,
            "sounds": len(list(folder.glob("*.flac"))),
            "families": [f.name for f in families],
            "table": compared["table"],
        }

    inputs = {"feature_table": dataset.version} | {f.samples.name: f.samples.version for f in families}
    return store.get_or_build(NAME, store.gallery(version), build, config={}, inputs=inputs)
