"""The pipeline `temporal_gan` trained for a moment and its release, for what is made with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from melodygan_core import codec, features, latents, prior, release, vocoder
from melodygan_core.audio import write_wav
from melodygan_core.catalogue.tracks import save
from melodygan_core.evaluation.distances import measurement_setup
from melodygan_core.storage import Artifact, Store
from tests.core.made import (
    EVALUATION,
    FEATURE,
    GENERATION,
    SEPARATION,
    TEMPORAL_CODEC,
    TEMPORAL_GAN,
    VOCODER,
    artifacts_of,
    assemble,
    put_sound,
    track,
)

RATE = FEATURE.sample_rate


def make_release(store: Store, tracks: int = 9) -> Artifact:
    """A release of `temporal_gan`; tracks are tagged by turns `fast` and `slow`, `minor`."""
    names = [f"made-{i:02d}" for i in range(tracks)]
    for i, name in enumerate(names):
        put_sound(store, name, i)
    tags = [("slow", "minor") if i % 2 else ("fast",) for i in range(tracks)]
    save(store, [track(n, tags=t) for n, t in zip(names, tags, strict=True)])
    report = features.extract(names, store, FEATURE, SEPARATION)
    assert not report.failed, report.failed
    data = assemble(store, feature=FEATURE)
    store.write_record(data)
    sound = vocoder.train(data, store, VOCODER)
    model = codec.train("temporal", data, store, TEMPORAL_CODEC)
    table = latents.encode(model, data, store)
    generator = prior.train("gan", table, model, store, TEMPORAL_GAN)
    artifacts = artifacts_of("temporal_gan", model, generator, sound)
    # Of all figures of an evaluation, publishing reads these.
    setup = measurement_setup(["a"], ("mix",), FEATURE, EVALUATION, GENERATION)
    figures = {**setup, "generated/kad": 1.0, "generated/kad_low": 0.5, "generated/kad_high": 2.0}
    uri = "evaluations/temporal_gan/made"
    evaluation = Artifact("temporal_gan/evaluation", "made", uri, "", 0, metrics=figures)
    made = release.publish(artifacts, evaluation, data, store, GENERATION, None).artifact
    store.write_record(made)
    return made


def tone(seconds: float, frequencies: Sequence[float], bright: float = 0.3, rate: int = RATE) -> NDArray:
    """A melody of plucked notes of equal length, each with overtones that fall by `bright`: (samples,)."""
    t = np.arange(round(seconds * rate)) / rate
    length = seconds / len(frequencies)
    pitch = np.asarray(frequencies)[np.minimum((t / length).astype(int), len(frequencies) - 1)]
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    wave = sum(bright**k * np.sin((k + 1) * phase) for k in range(12))
    return (0.2 * wave * np.exp(-3 * (t % length))).astype(np.float32)


def put(path: Path, wav: NDArray, rate: int = RATE) -> Path:
    """Writes a sound and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_wav(path, wav, rate)
    return path
