"""Which stages are killed how often, and when: for `tests/test_kills.py` and `scripts/kills.py`."""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.killing import (
    RUN_COMMAND,
    Kill,
    kill_one_of_two,
    kill_run_command,
    kill_stage_repeatedly,
)
from tests.reference import Reference

MOST_PROBLEMS = 20
# Of a hundred kills; cheap stages are killed more often.
SHARES = {
    "catalogue": 2, "download": 4, "separation": 3, "features": 10, "dataset": 11, "vocoder": 8,
    "dense_codec": 8, "dense_latents": 10, "dense_gan": 6, "dense_gan_generation": 8,
    "dense_gan_evaluation": 2, "dense_gan_release": 6,
    "temporal_codec": 5, "temporal_refiner": 2, "temporal_latents": 3, "temporal_gan": 6,
    "temporal_gan_generation": 1, "temporal_gan_evaluation": 1, "temporal_gan_release": 1, "gallery": 1,
    RUN_COMMAND: 2,
}  # fmt: skip


def plans(reference: Reference, stage: str, rng: random.Random, most: int) -> Iterator[list[Kill]]:
    """Endless plans of up to `most` kills: two thirds before changes, each as often, then at random moments."""
    duration_s, changes = reference.duration_s[stage], list(range(1, reference.changes[stage] + 1))
    share = -(-most * 2 // 3)
    while True:
        rng.shuffle(changes)
        for start in range(0, len(changes), share):
            # What a killed run has done is not done again: a late change would not come any more.
            before = [Kill(before_change=change) for change in sorted(changes[start : start + share])]
            # Rather early, because the run that is not hit any more is the last one.
            moments = [
                Kill(after_s=rng.uniform(0, duration_s) * rng.random(), children=rng.random() < 0.3)
                for _ in range(rng.randint(0, most - len(before)))
            ]
            yield moments + before if rng.random() < 0.3 else before + moments


def kill_stage(reference: Reference, stage: str, kills: int, rng: random.Random, most: int = 3) -> None:
    """Runs episodes of up to `most` kills until a stage has been killed so many times."""
    plan, results = plans(reference, stage, rng, most), reference.results
    while results.kills_of(stage) < kills:
        try:
            if stage == RUN_COMMAND:
                # From the features on: earlier stages are killed on their own, and take long.
                kill_run_command(reference, "features", [rng.uniform(6, 30) for _ in range(5)])
            elif stage in ("download", "separation", "dense_codec") and rng.random() < 0.1:
                kill_one_of_two(reference, stage, Kill(after_s=rng.uniform(0, reference.duration_s[stage])))
            else:
                kill_stage_repeatedly(reference, stage, next(plan))
        except AssertionError as error:
            results.problems.append(f"{stage}: {error}")
            if len(results.problems) > MOST_PROBLEMS:
                raise
