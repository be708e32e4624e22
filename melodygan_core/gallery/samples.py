"""What the pipelines generated, and which of it lies nearest to the test tracks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from melodygan_core import audio
from melodygan_core.dataset import Dataset
from melodygan_core.gallery.sounds import Folder, GalleryEntry
from melodygan_core.release import styles
from melodygan_core.services.sound import log_mel_of
from melodygan_core.storage import Store

BEST = 3
# Windows of test tracks that samples are compared with: a second of work.
_MAX_WINDOWS = 150


def generated(
    store: Store, dataset: Dataset, entries: Sequence[GalleryEntry], out: Folder
) -> dict[str, list[dict[str, Any]]]:
    """Writes the samples of all pipelines.

    Args:
        store: That holds them.
        dataset: Whose test tracks they are compared with.
        entries: The pipelines.
        out: Gets sounds, pictures and provenance.

    Returns:
        Pipeline to its sounds in order, each with `distance` to the test tracks.
    """
    reference = _reference(dataset, entries[0].pipeline.codec.config["stems"][0])
    made: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        found = []
        for sample, wav, sample_rate in _samples(store, entry, out):
            stem = sample["file"].rsplit(".", 1)[0]
            seed = f"seed {sample['seed']}, piece {sample['index'] + 1}"
            sound = out.sound(
                f"{entry.name}-{stem}",
                seed,
                wav,
                sample_rate,
                title=f"{entry.name}, {seed}",
                # A condition is a tag: a stranger's text.
                note=sample["condition"],
                provenance=f"{entry.name}-{stem}.json",
            )
            log_mel = log_mel_of(audio.resample(wav, sample_rate, dataset.feature.sample_rate), dataset.feature)
            embeddings = styles.embed(log_mel, dataset.feature)
            found.append(sound | {"pipeline": entry.name, "distance": distance(embeddings, reference)})
        made[entry.name] = found
    return made


def _samples(
    store: Store, entry: GalleryEntry, out: Folder
) -> Iterator[tuple[dict[str, Any], NDArray[np.float32], int]]:
    """Yields each sample's facts, sound and rate, and copies its provenance."""
    with store.reading(store.at(entry.samples.uri)) as folder:
        for sample in entry.samples.metrics["samples"]:
            stem = sample["file"].rsplit(".", 1)[0]
            (out.folder / f"{entry.name}-{stem}.json").write_bytes((folder / f"{stem}.json").read_bytes())
            wav, sample_rate = audio.read_wav(folder / sample["file"])
            yield sample, wav, sample_rate


def nearest(sounds: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns sounds by their distance to the test tracks, nearest first."""
    return sorted(sounds, key=lambda sound: sound["distance"])


def best(made: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Returns the BEST sounds of all pipelines, nearest first, with the pipeline as their label."""
    every = [sound for sounds in made.values() for sound in sounds]
    return [labelled(sound, sound["pipeline"]) for sound in nearest(every)[:BEST]]


def labelled(sound: dict[str, Any], label: str) -> dict[str, Any]:
    """Returns a sound with another caption; seed and condition are the line below it."""
    return sound | {"label": label, "note": ", ".join(filter(None, (sound["label"], sound["note"])))}


def distance(embeddings: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Returns the mean distance of windows (n, dim) to the nearest of the reference (m, dim)."""
    return float(np.linalg.norm(embeddings[:, None] - reference[None], axis=2).min(axis=1).mean())


def _reference(dataset: Dataset, stem: str) -> NDArray[np.float64]:
    """Windows of test tracks in the evaluation's embedding, at equal level (n, dim)."""
    rows, length = dataset.windows("test", stem, styles.WINDOW_S, _MAX_WINDOWS)
    segments = dataset.column(rows, "log_mel")
    windows = torch.from_numpy(segments.reshape(len(rows) // length, -1, segments.shape[2]))
    return np.concatenate([styles.embed(window, dataset.feature) for window in windows])
