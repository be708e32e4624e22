"""Renders the gallery: real, separated, reconstructed and generated sound, with pictures, in one folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from melodygan_core.config import VERSIONS, config_id
from melodygan_core.dataset import Dataset
from melodygan_core.gallery import assets, figures, rows, samples, summary
from melodygan_core.gallery.sounds import Folder, GalleryEntry
from melodygan_core.storage import Artifact, Store

NAME = "gallery"
PAGE = "index.html"
_TEMPLATE = "page.html"


def render(dataset: Artifact, entries: Sequence[GalleryEntry], store: Store) -> Artifact:
    """Renders the page of some pipelines over one dataset.

    Args:
        dataset: What they were trained on.
        entries: In the order of the page.
        store: Where sounds are read and the page goes.
    """
    look = [VERSIONS["gallery"], assets.version()]
    version = config_id(dataset.version, [[e.name, *e.versions] for e in entries], look)

    def build(folder: Path) -> dict[str, Any]:
        data = Dataset(store, dataset)
        out = Folder(folder, data.feature.sample_rate / 2)
        distances = figures.compared(entries, out)
        content = collect(store, data, entries, out)
        versions = {"version": version, "dataset": dataset, "compared": distances}
        (folder / PAGE).write_text(to_html({**content, **versions}), "utf-8")
        return {
            "page": PAGE,
            "sounds": len(list(folder.glob("*.flac"))),
            "pipelines": [e.name for e in entries],
            "table": distances["table"],
        }

    inputs = {"feature_table": dataset.version} | {e.samples.name: e.samples.version for e in entries}
    return store.get_or_build(NAME, store.gallery(version), build, config={}, inputs=inputs)


def to_html(content: dict[str, Any]) -> str:
    """Returns the page.

    Args:
        content: Of `collect`, with `version` of the page, `dataset` and `compared` (see `figures`).
    """
    # Titles and licences come from strangers: all is escaped but the project's own script and styles.
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template(_TEMPLATE).render(
        content,
        script=assets.text(assets.PLAYER),
        style=assets.text(assets.THEME) + assets.text(assets.PAGE),
        script_source=assets.script_source(),
    )


def collect(store: Store, data: Dataset, entries: Sequence[GalleryEntry], out: Folder) -> dict[str, Any]:
    """Writes all sounds and pictures; returns what the template shows of them."""
    pipelines = [entry.open(store) for entry in entries]
    made = samples.generated(store, data, entries, out)
    excerpts = rows.excerpts(store, data, entries[0].pipeline.codec.config["stems"][0])
    examples = rows.compared(data, excerpts, rows.chains_of(entries, pipelines), made, out)
    pair = (excerpts[0][0], excerpts[1][0]) if len(excerpts) > 1 else None
    return {
        "tracks": data.tracks,
        "embedding": entries[0].evaluation.metrics["embedding"],
        "highest_khz": data.feature.sample_rate / 2000,
        "summary": summary.sentences({e.name: e.evaluation.metrics for e in entries}),
        "best": samples.best(made),
        "sample_count": sum(map(len, made.values())),
        "examples": examples,
        "pair": pair,
        "between": rows.between(pipelines[0], pair[0], pair[1], out) if pair else None,
        "timbre": rows.timbre(data, pair[0], pair[1], out) if pair else None,
        "separated": rows.separated(store, data, out),
        "separation": data.separation_id,
        "pipelines": [
            {
                "name": entry.name,
                "generated": made[entry.name],
                "figures": figures.of_pipeline(entry, out, store),
            }
            for entry in entries
        ],
    }
