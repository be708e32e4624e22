"""The sounds of the gallery, each with its picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from melodygan_core import audio
from melodygan_core.audio import plots
from melodygan_core.config import STEMS
from melodygan_core.dataset import Dataset, Rows
from melodygan_core.gallery.family import Family
from melodygan_core.pipeline import Models, Vocoder
from melodygan_core.storage.store import Store
from melodygan_core.vocoder import GriffinLim

EXAMPLE_S = 6.0
EXAMPLES = 4


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


def _log_mel(dataset: Dataset, rows: Rows, models: Models | None) -> torch.Tensor:
    """Consecutive rows as one log-mel (n_mels, frames); through the autoencoder of some models, if any."""
    log_mel, mfcc = (
        torch.from_numpy(x).flatten(0, 1)[None] for x in (dataset.log_mel(rows), dataset.mfcc(rows))
    )
    if models is not None:
        log_mel = models.reconstruct(log_mel, mfcc, dataset.statistics(models.stems))
    return log_mel[0].T.contiguous()


def _chains(families: Sequence[Family], store: Store) -> list[tuple[str, Models | None, Vocoder]]:
    """The ways from real sound to what is left of it: vocoders alone, then each family's autoencoder."""
    models = [family.models(store) for family in families]
    first = models[0]
    ways: list[tuple[str, Models | None, Vocoder]] = []
    if families[0].generation.vocoder == "neural":
        ways.append(
            ("true mel, Griffin-Lim", None, GriffinLim(first.feature, families[0].generation.griffin_lim))
        )
    ways.append(("true mel, vocoder", None, first.vocoder))
    return ways + [(f"{m.family} autoencoder, vocoder", m, m.vocoder) for m in models]


def examples(store: Store, dataset: Dataset, families: Sequence[Family], out: Folder) -> list[dict[str, Any]]:
    """Test segments: as they are, through the vocoder, through each family's autoencoder and the vocoder."""
    chains, feature = _chains(families, store), dataset.feature
    stem = families[0].autoencoder.config["stems"][0]
    rows, length = dataset.windows("test", stem, EXAMPLE_S - feature.segment_s, 10_000)
    position = dataset.start(rows)
    shown = []
    for track in tqdm(np.unique(rows.track)[:EXAMPLES], desc="examples", unit="track"):
        mine = np.flatnonzero(rows.track == track)
        first = mine[(len(mine) // length // 2) * length]
        part = rows.take(np.arange(first, first + length))
        facts = dataset.tracks[track]
        track_id, start_s = facts["track_id"], position[first] * feature.segment_s
        wav, sample_rate = _excerpt(store, dataset, track_id, stem, start_s)
        sounds = [out.sound(f"{track_id}-real", "real", wav, sample_rate)]
        for k, (label, through, vocoder) in enumerate(chains):
            made = vocoder(_log_mel(dataset, part, through)[None], 0)[0].numpy()
            made = made * np.float32(min(1.0, 0.99 / max(1e-9, float(np.abs(made).max()))))
            sounds.append(out.sound(f"{track_id}-chain-{k}", label, made, feature.sample_rate))
        shown.append({"title": facts["title"], "licence": facts["licence"] or "unknown", "sounds": sounds})
    return shown


def separated(store: Store, dataset: Dataset, out: Folder) -> dict[str, Any]:
    """The stems of a test track."""
    track = next(t for t in dataset.tracks if t["split"] == "test")
    middle = max(0.0, track["duration_s"] / 2 - EXAMPLE_S / 2)
    sounds = []
    for stem in reversed(STEMS):
        wav, sample_rate = _excerpt(store, dataset, track["track_id"], stem, middle)
        sounds.append(out.sound(f"stems-{stem}", stem, wav, sample_rate))
    return {"title": track["title"], "licence": track["licence"] or "unknown", "sounds": sounds}


def generated(store: Store, family: Family, out: Folder) -> list[dict[str, Any]]:
    """A family's samples."""
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
