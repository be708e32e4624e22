"""What `melodygan run` says at its end."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from melodygan_core.config import FAMILIES

if TYPE_CHECKING:
    from melodygan_dagster.deployment import Deployment
    from melodygan_dagster.runner import StageResult


def report(deployment: Deployment, results: Iterable[StageResult]) -> bool:
    """Prints each stage as it ends and then what was made; says whether the whole graph is there."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    good = True
    for result in results:
        mark = "[green]done" if result.success else "[yellow]partly" if result.failed else "[red]failed"
        console.print(f"{mark}[/] {result.job} in {result.duration_s:.0f} s", highlight=False)
        good &= result.success or bool(result.failed)
        if result.failed:
            for track, reason in list(result.failed.items())[:20]:
                console.print(f"  {track}: {reason}", markup=False)
        elif not result.success:
            console.print(f"  {result.reason}", markup=False)
    table = Table("asset", "made", "where", title="What there is now")
    for row in _made(deployment):
        table.add_row(*row)
    console.print(table)
    releases = [deployment.opened.record(f"{family}/release") for family in FAMILIES]
    for release in (r for r in releases if good and r is not None):
        folder = deployment.opened.at(release.uri)
        console.print(f"Make more: melodygan generate {folder}", soft_wrap=True, highlight=False)
    gallery = deployment.opened.record("gallery")
    if good and gallery is not None:
        page = deployment.opened.at(gallery.uri) / gallery.metrics["page"]
        console.print(f"Listen: {page}", soft_wrap=True, highlight=False)
    return good


def _made(deployment: Deployment) -> list[tuple[str, str, str]]:
    from melodygan_core import catalogue
    from melodygan_core.storage import listing

    store = deployment.opened
    tracks = catalogue.load(store)
    raw = set(listing.names(store.raw_json("").parent))
    fetched = sum(store.raw_json(t.track_id).name in raw for t in tracks)
    rows = [("catalogue", f"{len(tracks)} tracks, {fetched} fetched", "catalogue.parquet")]
    shown = {
        "feature_table": ("train/segments", "validation/segments", "test/segments"),
        "vocoder_checkpoint": ("test/neural/kad", "test/griffin_lim/kad", "steps"),
    }
    of_family = {
        "autoencoder_checkpoint": ("test/explained_variance", "test/explained_variance_pca", "steps"),
        "latent_table": ("rows", "latent_dim", "active_dims"),
        "gan_checkpoint": ("validation/kad", "validation/kad_floor", "diversity", "steps"),
        "generated_samples": (),
        "evaluation": ("floor/kad", "autoencoder/kad", "generated/kad", "generated/coverage"),
        "release": ("generated/excess_kad",),
    }
    shown |= {f"{family}/{name}": figures for family in FAMILIES for name, figures in of_family.items()}
    shown["gallery"] = ("sounds",)
    for name, figures in shown.items():
        made = store.record(name)
        if made is None:
            rows.append((name, "-", ""))
            continue
        parts = [f"{f} {_short(made.metrics[f])}" for f in figures if f in made.metrics]
        if "samples" in made.metrics:
            parts.append(f"{len(made.metrics['samples'])} wavs")
        rows.append((name, ", ".join(parts), made.uri))
    return rows


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else json.dumps(value)
