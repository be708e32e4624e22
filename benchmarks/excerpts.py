"""Excerpts of the tracks of a store, and tables in Markdown, for the benchmarks of a release's uses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from melodygan_core import audio
from melodygan_core.config import FeatureConfig
from melodygan_core.services.labelled import Labelled, read_labelled
from melodygan_core.services.sound import Samples

UNSEEN = ("validation", "test")
# Quieter excerpts say nothing.
MIN_RMS_DB = -45.0


@dataclass(frozen=True)
class Track:
    """A track of a store or a labelled set.

    Attributes:
        item: What the set says of it.
        duration_s: In seconds.
    """

    item: Labelled
    duration_s: float

    @property
    def split(self) -> str:
        """Of the store's dataset; empty for none."""
        return self.item.labels.get("split", self.item.group[0] if self.item.group else "")

    def excerpt(self, start_s: float, length_s: float, feature: FeatureConfig) -> Samples:
        """(channels, samples) at the features' rate, with the features' number of channels."""
        with soundfile.SoundFile(self.item.path) as file:
            rate = file.samplerate
            file.seek(min(file.frames, round(start_s * rate)))
            read = file.read(round(length_s * rate), dtype="float32", always_2d=True)
        found = np.ascontiguousarray(read.T, dtype=np.float32)
        wav = audio.to_mono(found)[None] if feature.channels == 1 or len(found) == 1 else found[:2]
        return audio.resample(wav, rate, feature.sample_rate)


def tracks_of(dataset: Path, shortest_s: float, splits: Sequence[str] = ()) -> list[Track]:
    """The tracks of a store or labelled set that are long enough.

    Args:
        dataset: See `read_labelled`.
        shortest_s: In seconds.
        splits: Of these splits alone; all for none.
    """
    tracks = [Track(item, soundfile.info(item.path).duration) for item in read_labelled(dataset)]
    return [t for t in tracks if t.duration_s >= shortest_s and (not splits or t.split in splits)]


def evenly(tracks: Sequence[Track], at_most: int) -> list[Track]:
    """At most so many tracks, evenly over the list."""
    positions = np.linspace(0, len(tracks) - 1, min(len(tracks), at_most)).round().astype(int)
    return [tracks[k] for k in positions]


def random_excerpts(
    track: Track, length_s: float, count: int, rng: np.random.Generator, feature: FeatureConfig
) -> list[Samples]:
    """Excerpts of a track at random places; those that are too quiet are left out."""
    starts = rng.uniform(0, track.duration_s - length_s, count)
    found = [track.excerpt(float(s), length_s, feature) for s in starts]
    return [wav for wav in found if rms_db(wav) > MIN_RMS_DB]


def rms_db(wav: Samples) -> float:
    """RMS of a sound in dB of full scale."""
    return 10 * float(np.log10(np.square(wav, dtype=np.float64).mean() + 1e-12))


def table(header: Sequence[str], rows: Iterable[Sequence[str | float]]) -> str:
    """A table in Markdown; numbers get two digits."""
    cells = [[c if isinstance(c, str) else f"{round(c, 2) + 0.0:.2f}" for c in row] for row in (header, *rows)]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join([lines[0], "|---" * len(header) + "|", *lines[1:]])
