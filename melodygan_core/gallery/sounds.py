"""The gallery's entries, one per pipeline, and its folder of sounds, each with what the player shows of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melodygan_core import audio
from melodygan_core.audio import previews
from melodygan_core.config import FeatureConfig
from melodygan_core.dataset import Dataset
from melodygan_core.pipeline import Pipeline, PipelineArtifacts
from melodygan_core.storage import Artifact, Store

EXAMPLE_S = 6.0


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


@dataclass(frozen=True)
class Excerpt:
    """A part of a test track.

    Attributes:
        track: Row of the dataset's table of tracks.
        wav: (channels, samples)
        sample_rate: In Hz.
    """

    track: dict[str, Any]
    wav: NDArray[np.float32]
    sample_rate: int

    @property
    def title(self) -> str:
        """Of the track; a stranger's text."""
        return self.track["title"] or self.track["track_id"]

    @property
    def licence(self) -> str:
        """Of the track."""
        return self.track["licence"] or "licence unknown"

    def at(self, feature: FeatureConfig) -> NDArray[np.float32]:
        """The sound at the rate of the features, with no more channels than they have."""
        wav = audio.to_mono(self.wav)[None] if feature.channels == 1 else self.wav
        return audio.resample(wav, self.sample_rate, feature.sample_rate)


class Folder:
    """The gallery's folder while it is filled: sounds and pictures by name.

    Args:
        folder: Exists.
        highest_hz: Where all spectrograms end, so that those of several rates can be compared.
    """

    def __init__(self, folder: Path, highest_hz: float) -> None:
        self.folder, self._highest_hz = folder, highest_hz

    def sound(
        self, name: str, label: str, wav: NDArray[np.float32], sample_rate: int, **facts: str
    ) -> dict[str, Any]:
        """Writes a sound and its spectrogram.

        Args:
            name: Of the files, without suffix.
            label: Caption on the page.
            wav: (channels, samples)
            sample_rate: In Hz.
            facts: `note`, a line below the caption; `title`, what the player calls the sound (the label by
                default); `provenance`, the name of a file.

        Returns:
            What the page says of the sound.
        """
        wav = np.atleast_2d(wav)
        peak = float(np.abs(wav).max(initial=0.0))
        if peak > 1:  # Encoding would clip; a listener should hear the sound, not the encoder.
            wav = wav / peak
        mono = audio.to_mono(wav)
        audio.write_wav(self.folder / f"{name}.flac", wav, sample_rate)
        return {
            "label": label,
            "title": label,
            "note": "",
            "provenance": "",
            "sound": f"{name}.flac",
            "picture": self.picture(name, previews.spectrogram_png(mono, sample_rate, self._highest_hz)),
            "peaks": json.dumps(previews.peaks(mono), separators=(",", ":")),
            "duration_s": round(wav.shape[1] / sample_rate, 3),
            "loudness_lufs": round(audio.loudness_lufs(wav, sample_rate), 1),
            **facts,
        }

    def picture(self, name: str, png: bytes) -> str:
        """Writes a picture; returns its name."""
        (self.folder / f"{name}.png").write_bytes(png)
        return f"{name}.png"


def read_excerpt(store: Store, dataset: Dataset, track: dict[str, Any], stem: str, start_s: float) -> Excerpt:
    """Reads EXAMPLE_S of a stem of a track."""
    track_id = track["track_id"]
    path = (
        store.raw_wav(track_id)
        if stem == "mix"
        else store.stems(dataset.separation_id, track_id) / f"{stem}.wav"
    )
    with store.reading(path) as local:
        wav, sample_rate = audio.read_wav(local)
    first = round(start_s * sample_rate)
    return Excerpt(track, wav[:, first : first + round(EXAMPLE_S * sample_rate)], sample_rate)
