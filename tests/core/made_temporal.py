"""Pipelines over the temporal codec, trained for a moment, and their releases, for what is made with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melodygan_core import codec, features, latents, prior, release, vocoder
from melodygan_core.audio import write_wav
from melodygan_core.catalogue.tracks import save
from melodygan_core.evaluation.distances import measurement_setup
from melodygan_core.plan.table import tabulate
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


def make_release(store: Store, prior_name: str = "gan", config: Any = TEMPORAL_GAN) -> Artifact:
    """A release of a prior over the temporal codec; tracks are tagged by turns `fast` and `slow`, `minor`.

    Args:
        store: What is there already is not made again.
        prior_name: Such as `gan`.
        config: Of the prior.
    """
    tracks, pipeline = 9, f"temporal_{prior_name}"
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
    plans = tabulate(model, data, store) if prior_name == "plan" else None
    if plans is not None:
        store.write_record(plans)
    trained = prior.train(prior_name, table, model, store, config, plan_table=plans)
    artifacts = artifacts_of(pipeline, model, trained, sound)
    # Of all figures of an evaluation, publishing reads these.
    setup = measurement_setup(["a"], ("mix",), FEATURE, EVALUATION, GENERATION)
    figures = {**setup, "generated/kad": 1.0, "generated/kad_low": 0.5, "generated/kad_high": 2.0}
    uri = f"evaluations/{pipeline}/made"
    evaluation = Artifact(f"{pipeline}/evaluation", "made", uri, "", 0, metrics=figures)
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
