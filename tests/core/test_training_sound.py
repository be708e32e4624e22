"""What a training makes at each validation is kept, and only the last training is listed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from melodygan_core.audio import read_wav
from melodygan_core.config import FeatureConfig
from melodygan_core.maintenance.check.leftovers import scratch
from melodygan_core.services.training_sound import TrainingSound, heard_steps
from melodygan_core.storage import Store
from melodygan_core.storage.kinds import TRAINING_SOUND
from melodygan_core.training.preview import Preview, PreviewCallback

ASSET = "temporal/gan_checkpoint"


class Seen:
    """A callback that takes figures and previews."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.previews: list[int] = []

    def __call__(self, step: int, figures: dict[str, float]) -> None:
        self.steps.append(step)

    def preview(self, step: int, preview: Preview) -> None:
        self.previews.append(step)


def make(store: Store, *steps: int, also: object = None) -> None:
    callback = TrainingSound(store, ASSET, also or (lambda step, figures: None))  # type: ignore[arg-type]
    assert isinstance(callback, PreviewCallback)
    tone = torch.sin(torch.arange(22_050) / 10)
    for step in steps:
        callback(step, {"validation/loss": 1.0})
        callback.preview(step, Preview(FeatureConfig(sample_rate=22_050), wav=0.2 * tone))


def test_each_validation_is_heard(store: Store) -> None:
    seen = Seen()
    make(store, 100, 200, also=seen)
    assert (seen.steps, seen.previews) == ([100, 200], [100, 200])
    found = heard_steps(store, ASSET)
    assert [heard.step for heard in found] == [100, 200]
    wav, rate = read_wav(Path(store.locate(found[0].uri).path))
    assert rate == 22_050 and np.abs(wav).max() > 0.85
    assert heard_steps(store, "temporal/autoencoder_checkpoint") == []


def test_only_the_last_training_is_listed(store: Store) -> None:
    make(store, 100, 200, 300)
    old = heard_steps(store, ASSET)
    for heard in old:
        path = store.locate(heard.uri).path
        os.utime(path, (heard.made_at - 1000, heard.made_at - 1000))
    make(store, 100)
    found = heard_steps(store, ASSET)
    # Step 100 was made anew, and has another id, so that no browser shows the old sound.
    assert [heard.step for heard in found] == [100] and found[0].id != old[0].id


def test_the_erasure_of_a_track_finds_it(store: Store) -> None:
    make(store, 100)
    assert [parsed.kind for parsed, _ in scratch(store)] == [TRAINING_SOUND]
