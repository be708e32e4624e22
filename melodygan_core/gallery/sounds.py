"""The gallery's entries, one per pipeline, and their sounds, each with its picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from melodygan_core import audio
from melodygan_core.audio import plots
from melodygan_core.codec import Features
from melodygan_core.config import STEMS
from melodygan_core.dataset import Dataset, Rows
from melodygan_core.pipeline import Pipeline, PipelineArtifacts, load_vocoder
from melodygan_core.storage import Artifact, Store

EXAMPLE_S = 6.0
EXAMPLES = 4


@dataclass(frozen=True)
class GalleryEntry:
    """One pipeline's artifacts.

    Attributes:
        pipeline: Its checkpoints.
        samples: What it generated.
        evaluation: Its figures.
    """

    pipeline: PipelineArtifacts
    samples: Artifact
    evaluation: Artifact

    @property
    def name(self) -> str:
        """Of the pipeline."""
        return self.pipeline.name

    @property
    def versions(self) -> list[str]:
        """What the page depends on."""
        return [self.samples.version, self.evaluation.version, *self.pipeline.inputs.values()]

    def open(self, store: Store) -> Pipeline:
        """The pipeline on its device."""
        return self.pipeline.open(store)


class Folder:
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
        player = {"label": label, "sound": f"{name}.flac", "picture": f"{name}.png"}
        return {**player, "condition": "", "provenance": "", **facts}

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


def _features(dataset: Dataset, rows: Rows) -> dict[str, Tensor]:
    """Consecutive rows as one piece: every column of features (1, frames, bands)."""
    columns = dataset.columns(rows, tuple(dataset.feature.columns))
    return {name: x.flatten(0, 1)[None] for name, x in columns.items()}


def _chains(entries: Sequence[GalleryEntry], store: Store) -> list[tuple[str, Callable[[Features], Tensor]]]:
    """Label and features -> wav: vocoders on the true spectrum, then each pipeline's codec."""
    pipelines = [entry.open(store) for entry in entries]
    first = pipelines[0]
    griffin_lim = load_vocoder(
        "griffin_lim", first.feature, None, entries[0].pipeline.griffin_lim, first.device
    )
    spectrum = first.feature.spectrum

    def mono(vocode: Callable[[Tensor, int], Tensor]) -> Callable[[Features], Tensor]:
        return lambda features: vocode(features[spectrum].transpose(1, 2), 0)[:, None]

    chains: list[tuple[str, Callable[[Features], Tensor]]] = [("true spectrum, Griffin-Lim", mono(griffin_lim))]
    if entries[0].pipeline.vocoder_kind != "griffin_lim":
        chains.append(("true spectrum, vocoder", mono(first.vocode)))
    codecs: set[str] = set()
    for entry, pipeline in zip(entries, pipelines, strict=True):
        codec = entry.pipeline.codec.group
        if codec in codecs:
            continue
        codecs.add(codec)

        def through(features: Features, pipeline: Pipeline = pipeline) -> Tensor:
            return pipeline.sound(pipeline.reconstruct(features))

        chains.append((f"{codec} codec, vocoder", through))
    return chains


def examples(
    store: Store, dataset: Dataset, entries: Sequence[GalleryEntry], out: Folder
) -> list[dict[str, Any]]:
    """Test segments: as they are, through the vocoder, through each codec and the vocoder."""
    chains, feature = _chains(entries, store), dataset.feature
    stem = entries[0].pipeline.codec.config["stems"][0]
    rows, length = dataset.windows("test", stem, EXAMPLE_S - feature.segment_s, 10_000)
    position = dataset.start(rows)
    tracks = []
    for track in tqdm(np.unique(rows.track)[:EXAMPLES], desc="examples", unit="track"):
        of_track = np.flatnonzero(rows.track == track)
        first = of_track[(len(of_track) // length // 2) * length]
        part = rows.take(np.arange(first, first + length))
        facts = dataset.tracks[track]
        track_id, start_s = facts["track_id"], position[first] * feature.segment_s
        wav, sample_rate = _excerpt(store, dataset, track_id, stem, start_s)
        sounds = [out.sound(f"{track_id}-real", "real", wav, sample_rate)]
        for k, (label, chain) in enumerate(chains):
            made = chain(_features(dataset, part))[0].numpy()
            made = made * np.float32(min(1.0, 0.99 / max(1e-9, float(np.abs(made).max()))))
            sounds.append(out.sound(f"{track_id}-chain-{k}", label, made, feature.sample_rate))
        tracks.append({"title": facts["title"], "licence": facts["licence"] or "unknown", "sounds": sounds})
    return tracks


def separated(store: Store, dataset: Dataset, out: Folder) -> dict[str, Any]:
    """The stems of a test track."""
    track = next(t for t in dataset.tracks if t["split"] == "test")
    middle = max(0.0, track["duration_s"] / 2 - EXAMPLE_S / 2)
    sounds = []
    for stem in reversed(STEMS):
        wav, sample_rate = _excerpt(store, dataset, track["track_id"], stem, middle)
        sounds.append(out.sound(f"stems-{stem}", stem, wav, sample_rate))
    return {"title": track["title"], "licence": track["licence"] or "unknown", "sounds": sounds}


def generated(store: Store, entry: GalleryEntry, out: Folder) -> list[dict[str, Any]]:
    """A pipeline's samples."""
    players = []
    with store.reading(store.at(entry.samples.uri)) as folder:
        for sample in entry.samples.metrics["samples"]:
            wav, sample_rate = audio.read_wav(folder / sample["file"])
            stem = sample["file"].rsplit(".", 1)[0]
            provenance = f"{entry.name}-{stem}.json"
            (out.folder / provenance).write_bytes((folder / f"{stem}.json").read_bytes())
            label = f"seed {sample['seed']}, sample {sample['index']}"
            facts = {"condition": sample["condition"], "provenance": provenance}
            players.append(out.sound(f"{entry.name}-{stem}", label, wav, sample_rate, **facts))
    return players
