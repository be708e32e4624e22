"""The nearest training music: a part of a training track is found where it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from melodygan_core import audio
from melodygan_core.config import NearestConfig
from melodygan_core.dataset import Dataset
from melodygan_core.errors import InputError
from melodygan_core.release import Release
from melodygan_core.services.nearest import nearest
from melodygan_core.storage import Store


def test_a_softer_copy_is_found_where_it_is(temporal: Release, temporal_store: Store, tmp_path: Path) -> None:
    version = temporal.manifest.sources["dataset"]
    artifact = temporal_store.artifact(temporal_store.dataset(version))
    assert artifact is not None
    track = next(t for t in Dataset(temporal_store, artifact).tracks if t["split"] == "train")
    wav, rate = audio.read_wav(Path(str(temporal_store.raw_wav(track["track_id"]))))
    audio.write_wav(tmp_path / "copy.wav", 0.5 * wav, rate)
    events: list[int] = []
    result = nearest(
        temporal,
        NearestConfig(sound=str(tmp_path / "copy.wav")),
        tmp_path / "out",
        store=temporal_store,
        progress=lambda event: events.append(event.done),
    )
    [sound] = result.sounds
    row = json.loads((tmp_path / "out" / sound.file).with_suffix(".json").read_text())
    assert row["training_track"]["track_id"] == track["track_id"] and row["service"] == "nearest"
    assert row["track_start_s"] == pytest.approx(row["sound_start_s"], abs=0.1)
    assert sound.figures["distance"] < 0.1 and events[-1] > 0


def test_a_dataset_that_is_gone_is_named(temporal: Release, tmp_path: Path, store: Store) -> None:
    audio.write_wav(tmp_path / "a.wav", audio.to_mono(_noise())[None], 22_050)
    with pytest.raises(InputError, match=r"dataset .* must be in the store, and is gone"):
        nearest(temporal, NearestConfig(sound=str(tmp_path / "a.wav")), tmp_path / "out", store=store)


def _noise() -> audio.Wav:
    import numpy as np

    return np.random.default_rng(0).normal(0, 0.1, (1, 22_050)).astype(np.float32)
