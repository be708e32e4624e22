"""Renders the gallery: real, separated, reconstructed and generated sound, with pictures, in one folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray
from tqdm.auto import tqdm

from melodygan_core import audio, plots
from melodygan_core.config import STEMS, VERSIONS, GenerationConfig, config_id
from melodygan_core.dataset import Dataset, Rows, to_vectors
from melodygan_core.generation import Models
from melodygan_core.store import Artifact, Store
from melodygan_core.vocoder import GriffinLim

NAME = "gallery"
EXAMPLE_S = 6.0
EXAMPLES = 4
PAGE = "index.html"


@dataclass(frozen=True)
class Family:
    """One family's artifacts.

    Attributes:
        name: Such as `dense`.
        autoencoder: Its checkpoint.
        gan: Its checkpoint.
        samples: What it generated.
        evaluation: Its figures.
    """

    name: str
    autoencoder: Artifact
    gan: Artifact
    samples: Artifact
    evaluation: Artifact


class _Folder:
    """The gallery's folder while it is filled: sounds and pictures by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def sound(
        self, name: str, label: str, wav: NDArray[np.float32], sample_rate: int, **facts: Any
    ) -> dict[str, Any]:
        """Writes a player's sound and its picture; returns what the page says of it."""
        mono = audio.to_mono(np.atleast_2d(wav))
        peak = float(np.abs(wav).max(initial=0.0))
        if peak > 1:  # Encoding would clip; a listener should hear the sound, not the encoder.
            wav, mono = wav / peak, mono / peak
        audio.write_wav(self.folder / f"{name}.flac", wav, sample_rate)
        (self.folder / f"{name}.png").write_bytes(plots.sound_png(mono, sample_rate))
        shown = {"label": label, "sound": f"{name}.flac", "picture": f"{name}.png"}
        return {**shown, "condition": "", "provenance": "", **facts}

    def picture(self, name: str, png: bytes) -> str:
        """Writes a picture; returns its name."""
        (self.folder / f"{name}.png").write_bytes(png)
        return f"{name}.png"


def _excerpt(store: Store, dataset: Dataset, track_id: str, stem: str, start_s: float) -> tuple[NDArray, int]:
    folder = store.stems(dataset.separation_id, track_id)
    path = store.raw_wav(track_id) if stem == "mix" else folder / f"{stem}.wav"
    with store.reading(path) as local:
        wav, sample_rate = audio.read_wav(local)
    first = round(start_s * sample_rate)
    return wav[:, first : first + round(EXAMPLE_S * sample_rate)], sample_rate


def _examples(store: Store, dataset: Dataset, family: Family, out: _Folder) -> list[dict[str, Any]]:
    """Test segments: as they are, through the vocoder, through the autoencoder and the vocoder."""
    with store.reading(store.at(family.autoencoder.uri)) as ae, store.reading(store.at(family.gan.uri)) as g:
        models = Models.load(ae, g)
    model, feature = models.autoencoder, dataset.feature
    vocoder = GriffinLim(feature, GenerationConfig().griffin_lim)
    stem = model.config.stems[0]
    rows, length = dataset.windows("test", stem, EXAMPLE_S - feature.segment_s, 10_000)
    position = dataset.start(rows)
    shown = []
    for track in np.unique(rows.track)[:EXAMPLES]:
        mine = np.flatnonzero(rows.track == track)
        first = mine[(len(mine) // length // 2) * length]
        part = rows.take(np.arange(first, first + length))
        facts = dataset.tracks[track]
        wav, sample_rate = _excerpt(
            store, dataset, facts["track_id"], stem, position[first] * feature.segment_s
        )
        name = f"{family.name}-{facts['track_id']}"
        sounds = [out.sound(f"{name}-real", "real", wav, sample_rate)]
        for label, segments in (("true mel, vocoder", None), ("autoencoder, vocoder", model)):
            log_mel = _log_mel(dataset, part, segments)
            made = vocoder(log_mel[None])[0].numpy()
            made = made * np.float32(min(1.0, 0.99 / max(1e-9, float(np.abs(made).max()))))
            sounds.append(
                out.sound(f"{name}-{label.split(',')[0].replace(' ', '-')}", label, made, feature.sample_rate)
            )
        shown.append({"title": facts["title"], "licence": facts["licence"] or "unknown", "sounds": sounds})
    return shown


@torch.no_grad()
def _log_mel(dataset: Dataset, rows: Rows, model: Any) -> torch.Tensor:
    """Consecutive rows as one log-mel (n_mels, frames); through the autoencoder when there is one."""
    segments = dataset.log_mel(rows)
    if model is not None:
        statistics = dataset.statistics(model.config.stems)
        vector = to_vectors(segments, dataset.mfcc(rows), statistics, model.config.time_bins)
        segments = model.log_mel(model(torch.from_numpy(vector))).transpose(1, 2).numpy()
    return torch.from_numpy(np.ascontiguousarray(segments.reshape(-1, segments.shape[2]).T))


def _separated(store: Store, dataset: Dataset, out: _Folder) -> dict[str, Any]:
    track = next(t for t in dataset.tracks if t["split"] == "test")
    middle = max(0.0, track["duration_s"] / 2 - EXAMPLE_S / 2)
    sounds = []
    for stem in reversed(STEMS):
        wav, sample_rate = _excerpt(store, dataset, track["track_id"], stem, middle)
        sounds.append(out.sound(f"stems-{stem}", stem, wav, sample_rate))
    return {"title": track["title"], "licence": track["licence"] or "unknown", "sounds": sounds}


def _generated(store: Store, family: Family, out: _Folder) -> list[dict[str, Any]]:
    shown = []
    with store.reading(store.at(family.samples.uri)) as folder:
        for sample in family.samples.metrics["samples"]:
            wav, sample_rate = audio.read_wav(folder / sample["file"])
            stem = sample["file"].rsplit(".", 1)[0]
            provenance = f"{family.name}-{stem}.json"
            (out.folder / provenance).write_bytes((folder / f"{stem}.json").read_bytes())
            label = f"seed {sample['seed']}, sample {sample['index']}"
            facts = {"condition": sample["condition"], "provenance": provenance}
            shown.append(out.sound(f"{family.name}-{stem}", label, wav, sample_rate, **facts))
    return shown


def _figures(family: Family, out: _Folder) -> dict[str, Any]:
    table = family.evaluation.metrics["table"]
    intervals = [(row["set"], row["kad"], row["kad_low"], row["kad_high"]) for row in table]
    label = "KAD x1000 to test tracks (lower is nearer)"
    return {
        "table": table,
        "metrics": family.evaluation.metrics,
        "intervals": out.picture(f"{family.name}-kad", plots.intervals_png(intervals, label)),
        "autoencoder": out.picture(
            f"{family.name}-autoencoder-curves",
            plots.curves_png(
                family.autoencoder.metrics["history"],
                [["train/loss", "validation/loss"], ["validation/explained_variance"]],
            ),
        ),
        "gan": out.picture(
            f"{family.name}-gan-curves",
            plots.curves_png(
                family.gan.metrics["history"],
                [["train/adv/disc", "train/adv/gen"], ["validation/kad", "validation/kad_floor"]],
            ),
        ),
        "explained_variance": family.autoencoder.metrics["test/explained_variance"],
        "explained_variance_pca": family.autoencoder.metrics["test/explained_variance_pca"],
    }


def render(dataset: Artifact, families: list[Family], store: Store) -> Artifact:
    """Renders the page for some families over one dataset.

    Args:
        dataset: What they were trained on.
        families: In the order of the page.
        store: Where sounds are read and the page goes.
    """
    parts = [
        [f.name, f.autoencoder.version, f.gan.version, f.samples.version, f.evaluation.version]
        for f in families
    ]
    version = config_id(dataset.version, parts, VERSIONS["gallery"])

    def build(folder: Path) -> dict[str, Any]:
        data, out = Dataset(store, dataset), _Folder(folder)
        shown = []
        for family in tqdm(families, desc="gallery", unit="family"):
            shown.append(
                {
                    "name": family.name,
                    "generated": _generated(store, family, out),
                    "examples": _examples(store, data, family, out),
                    "figures": _figures(family, out),
                }
            )
        # Titles and licences come from strangers: all is escaped, and nothing is a template but the page.
        environment = Environment(
            loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
        )
        page = environment.get_template("page.html").render(
            version=version,
            dataset=dataset,
            tracks=data.tracks,
            separated=_separated(store, data, out),
            separation=data.separation_id,
            families=shown,
        )
        (folder / PAGE).write_text(page, "utf-8")
        return {
            "page": PAGE,
            "sounds": len(list(folder.glob("*.flac"))),
            "families": [f.name for f in families],
        }

    inputs = {"feature_table": dataset.version} | {f.samples.name: f.samples.version for f in families}
    return store.once(NAME, store.gallery(version), build, config={}, inputs=inputs)
