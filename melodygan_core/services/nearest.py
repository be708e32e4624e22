"""The place in the training music that is nearest to a sound, to listen to beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from melodygan_core import audio
from melodygan_core.config import STEMS, NearestConfig
from melodygan_core.dataset import Dataset, SpanDataset
from melodygan_core.errors import InputError
from melodygan_core.progress import Progress, ProgressEvent
from melodygan_core.release import Release
from melodygan_core.services.output import ServiceResult
from melodygan_core.services.sound import MadeSound, describe_input, load_sound, log_mel_of, write_sounds
from melodygan_core.storage import Artifact, Store
from melodygan_core.vocoder.waveforms import track_sound

SERVICE = "nearest"
# Frames per bin: a copy is found wherever it begins, within half a bin.
_BIN_FRAMES = 8
# Positions per block: some 30 MB of values.
_BLOCK = 2048


@dataclass(frozen=True)
class Match:
    """The nearest place.

    Attributes:
        distance: Of the standardised log-mel without its level, per value; 0 for the same sound.
        sound_frame: Where the part of the sound begins.
        track: Index into the tracks of the dataset.
        frame: Where the place begins in the track.
        stem: Index into STEMS.
    """

    distance: float
    sound_frame: int
    track: int
    frame: int
    stem: int


def nearest(
    release: Release, config: NearestConfig, out: Path, *, store: Store, progress: Progress | None = None
) -> ServiceResult:
    """Writes the segment of the training music that is nearest to a segment of a sound.

    Segments are compared by their log-mel without level, at every position of the training music, as
    `evaluation.memorisation` does for whole sets. So a copy at another loudness is found, and one in another
    key or at another tempo is not.

    Args:
        release: Whose training music is searched.
        config: The sound.
        out: A new or empty folder.
        store: That holds the release's dataset and the sound of its tracks.
        progress: Called with the part of the training music that was searched.

    Raises:
        InputError: no sound, or the dataset or the track's sound is gone.
    """
    path, feature = Path(config.sound), release.pipeline.feature
    wav = load_sound(path, feature, "sound")
    dataset = _dataset_of(release, store)
    stems = release.manifest.sources["stems"]
    match = _search(log_mel_of(wav, feature), dataset, stems, progress)
    track, hop = dataset.tracks[match.track], feature.hop_length
    try:
        sound = track_sound(dataset, store, match.track, STEMS[match.stem], feature.sample_rate)
    except FileNotFoundError as error:
        raise InputError(f"the sound of track {track['track_id']} must be in the store, and is gone") from error
    start = match.frame * hop
    part = sound[start : start + feature.segment_frames * hop][None]
    like = wav[:, match.sound_frame * hop :][:, : feature.segment_frames * hop]
    facts = {
        "service": SERVICE,
        "inputs": [describe_input(path)],
        "training_track": {key: track.get(key) for key in ("track_id", "title", "url", "licence")},
        "sound_start_s": round(match.sound_frame / feature.frame_rate, 3),
        "track_start_s": round(match.frame / feature.frame_rate, 3),
    }
    figures = {"distance": match.distance}
    made = MadeSound("nearest-training-segment", part.astype(np.float32), audio.to_mono(like)[None], figures)
    return write_sounds(release, [made], 1, facts, out, overwrite=False, progress=None)


def _dataset_of(release: Release, store: Store) -> Dataset:
    version = release.manifest.sources["dataset"]
    artifact: Artifact | None = store.artifact(store.dataset(version))
    if artifact is None:
        raise InputError(f"dataset {version} that the release was trained on must be in the store, and is gone")
    return Dataset(store, artifact)


def _search(log_mel: Tensor, dataset: Dataset, stems: list[str], progress: Progress | None) -> Match:
    """The nearest place to any segment of a sound (frames, n_mels)."""
    size = -(-dataset.feature.segment_frames // _BIN_FRAMES)
    scale = torch.from_numpy(dataset.statistics(stems).std["log_mel"])
    queries = _segments(_bins(log_mel, size), size, size, scale)
    spans = SpanDataset(dataset, "train", stems)
    best: Match | None = None
    for number, span in enumerate(spans.all):
        if progress is not None:
            progress(ProgressEvent(SERVICE, number, len(spans.all)))
        values = _bins(torch.from_numpy(spans.read(span, "log_mel")), size)
        for first, block in _blocks(values, size, scale):
            distances = torch.cdist(queries, block)
            index = int(distances.argmin())
            query, place = divmod(index, distances.shape[1])
            value = float(distances[query, place]) / block.shape[1] ** 0.5
            if best is None or value < best.distance:
                frame = span.position * dataset.feature.segment_frames + (first + place) * _BIN_FRAMES
                best = Match(value, query * size * _BIN_FRAMES, span.track, frame, span.stem)
    assert best is not None, "a dataset has training spans"
    if progress is not None:
        progress(ProgressEvent(SERVICE, len(spans.all), len(spans.all)))
    return best


def _bins(log_mel: Tensor, size: int) -> Tensor:
    """log_mel (frames, n_mels) -> (bins, n_mels), at least `size` bins."""
    missing = max(size * _BIN_FRAMES - len(log_mel), -len(log_mel) % _BIN_FRAMES)
    padded = torch.cat([log_mel, log_mel[-1:].expand(missing, -1)])
    return padded.unflatten(0, (-1, _BIN_FRAMES)).mean(dim=1)


def _segments(bins: Tensor, size: int, step: int, scale: Tensor) -> Tensor:
    """(bins, n_mels) -> (n, size * n_mels) in standard deviations, without level: a gain adds a constant."""
    cut = bins.unfold(0, size, step).transpose(1, 2)
    return ((cut - cut.mean(dim=(1, 2), keepdim=True)) / scale).flatten(1)


def _blocks(bins: Tensor, size: int, scale: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yields the segments at all positions, a block at a time, with the position of its first one."""
    positions = len(bins) - size + 1
    for first in range(0, positions, _BLOCK):
        last = min(first + _BLOCK, positions)
        yield first, _segments(bins[first : last + size - 1], size, 1, scale)
