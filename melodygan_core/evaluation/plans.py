"""Whether a pipeline follows the plans of test tracks, beside a ceiling and chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from melodygan_core.config import EvaluationConfig
from melodygan_core.dataset import Dataset, Rows
from melodygan_core.evaluation.sets import reconstructed, to_windows
from melodygan_core.piece_files import frames_of
from melodygan_core.pipeline import Pipeline
from melodygan_core.plan import Plan, codec_grid, extract
from melodygan_core.plan.adherence import adherence
from melodygan_core.storage import Store
from melodygan_core.vocoder.waveforms import longest_span, track_sound

# Excerpts that are followed: enough for means, few enough to be quick.
MOST_EXCERPTS = 16


@dataclass(frozen=True)
class Excerpt:
    """The plan of a part of a test track, and its place in the dataset."""

    plan: Plan
    rows: Rows


def plan_figures(
    dataset: Dataset, store: Store, pipeline: Pipeline, config: EvaluationConfig
) -> dict[str, float]:
    """Follows the plans of excerpts of test tracks, and measures how well.

    Args:
        dataset: With the test tracks.
        store: Has their sound.
        pipeline: Its prior follows plans.
        config: Length of the excerpts and seed.

    Returns:
        Means of `plan.adherence` over excerpts: `plan/MEASURE` of what was made by a plan, `plan/codec/MEASURE`
        of the excerpt itself through codec and vocoder (the most that can be reached), and `plan/other/MEASURE`
        of what was made by another excerpt's plan (chance), and `plan/excerpts`.
    """
    rate = pipeline.feature.sample_rate
    excerpts = _excerpts(dataset, store, pipeline, config)
    values: dict[str, list[float]] = {}

    def measure(prefix: str, plan: Plan, wav: NDArray[np.floating]) -> None:
        for name, value in adherence(plan, wav, rate).items():
            values.setdefault(f"{prefix}/{name}", []).append(value)

    made = []
    for number, excerpt in enumerate(tqdm(excerpts, desc="plans", unit="excerpt", mininterval=1.0)):
        frames = frames_of(excerpt.plan.duration_s, pipeline.feature)
        seed = int(np.random.SeedSequence((config.seed, number)).generate_state(1, np.uint64)[0] >> 1)
        sample = pipeline.sample(frames, seed, plan=excerpt.plan)
        made.append(pipeline.sound(sample.decoded, seed % 2**31)[0].numpy())
        measure("plan", excerpt.plan, made[-1])
        measure("plan/codec", excerpt.plan, _through_codec(dataset, pipeline, excerpt))
    for number, excerpt in enumerate(excerpts if len(excerpts) > 1 else ()):
        measure("plan/other", excerpt.plan, made[(number + 1) % len(made)])
    return {name: float(np.mean(v)) for name, v in values.items()} | {"plan/excerpts": float(len(excerpts))}


def _excerpts(dataset: Dataset, store: Store, pipeline: Pipeline, config: EvaluationConfig) -> list[Excerpt]:
    feature, stem = dataset.feature, pipeline.stems[0]
    longest_s = longest_span(dataset, "test", (stem,)) / feature.sample_rate
    rows, length = dataset.windows("test", stem, min(config.music_s, longest_s), MOST_EXCERPTS)
    grid = codec_grid(feature, pipeline.codec.token_frames)
    tokens = feature.segment_frames // pipeline.codec.token_frames
    found: list[Excerpt] = []
    plan, opened = None, -1
    for first in range(0, len(rows), length):
        part = rows.take(np.arange(first, first + length))
        if plan is None or int(part.track[0]) != opened:
            opened = int(part.track[0])
            plan = extract(
                track_sound(dataset, store, opened, stem, feature.sample_rate), feature.sample_rate, grid
            )
        start = int(dataset.start(part)[0]) * tokens
        found.append(Excerpt(plan.crop(start, start + length * tokens), part))
    return found


def _through_codec(dataset: Dataset, pipeline: Pipeline, excerpt: Excerpt) -> NDArray[np.float32]:
    """Returns the excerpt through codec and vocoder: (samples,)."""
    length, size = len(excerpt.rows), dataset.feature.segment_frames
    spectrum = to_windows(reconstructed(dataset, excerpt.rows, length, pipeline), length, length * size)
    return pipeline.vocode(torch.from_numpy(spectrum))[0].numpy()
