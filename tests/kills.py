"""Kills every stage: `python -m tests.kills --kills 500 [--seed N]` prints a table for docs/reliability.md."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import serving
from tests.contents import contents
from tests.killing import WHOLE, Ground, Kill, Tally, episode, lay, pair, whole

MOST_PROBLEMS = 20
# Of a hundred kills; what is cheap is killed more often.
SHARES = {
    "catalogue": 2, "download": 4, "separation": 3, "features": 10, "dataset": 11, "vocoder": 8,
    "autoencoder": 8, "latents": 10, "gan": 6, "generation": 8, "evaluation": 2, "release": 6,
    "temporal_autoencoder": 6, "temporal_latents": 4, "temporal_gan": 6, "temporal_generation": 1,
    "temporal_evaluation": 1, "temporal_release": 1, "gallery": 1, WHOLE: 2,
}  # fmt: skip


def plans(ground: Ground, stage: str, rng: random.Random) -> Iterator[list[Kill]]:
    """For ever: a kill at a change of a file, each in turn and in random order, and two at random moments."""
    duration_s, changes = ground.duration_s[stage], list(range(1, ground.changes[stage] + 1))
    while True:
        rng.shuffle(changes)
        for change in changes:
            moments = [
                Kill(after_s=rng.uniform(0, duration_s), group=rng.random() < 0.3)
                for _ in range(rng.randint(0, 2))
            ]
            plan = [Kill(before_change=change), *moments]
            rng.shuffle(plan)
            yield plan


def kill_stage(ground: Ground, stage: str, kills: int, rng: random.Random) -> None:
    """At least that many kills of a stage."""
    plan = plans(ground, stage, rng)
    while ground.tally.of(stage) < kills:
        try:
            if stage == WHOLE:
                # From the start of the features on: what is before is killed by itself, and takes long.
                whole(ground, "features", [rng.uniform(6, 30) for _ in range(5)])
            elif stage in ("download", "separation", "autoencoder") and rng.random() < 0.1:
                pair(ground, stage, Kill(after_s=rng.uniform(0, ground.duration_s[stage])))
            else:
                episode(ground, stage, next(plan))
        except AssertionError as error:
            ground.tally.problems.append(f"{stage}: {error}")
            if len(ground.tally.problems) > MOST_PROBLEMS:
                raise


def report(tally: Tally, command: str, duration_s: float) -> str:
    """The section of docs/reliability.md."""
    kinds = sorted({kind for _, kind in tally.kills})
    rows = [
        f"| {stage} | "
        + " | ".join(str(tally.kills[stage, kind]) for kind in kinds)
        + f" | {tally.of(stage)} |"
        for stage in SHARES
        if tally.of(stage)
    ]
    total = " | ".join(str(sum(n for (_, k), n in tally.kills.items() if k == kind)) for kind in kinds)
    lines = [
        f"`{command}`: {tally.kills.total()} kills in {tally.episodes} episodes, "
        f"{duration_s / 60:.0f} minutes.",
        "",
        f"| stage | {' | '.join(kinds)} | all |",
        "|---" * (len(kinds) + 2) + "|",
        *rows,
        f"| all | {total} | {tally.kills.total()} |",
        "",
        f"- problems: {len(tally.problems)}",
        f"- trainings that went on from a saved step: {len(tally.resumed)}",
        f"- left by killed writers, all told: {tally.left_files} files, {tally.left_bytes / 1e6:.1f} MB",
        *[f"- {problem}" for problem in tally.problems],
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path, help="Rewritten after each stage, too.")
    parser.add_argument("--stages", nargs="*", choices=[*SHARES], default=[*SHARES])
    options = parser.parse_args()
    started, text = time.monotonic(), ""
    command = f"python -m tests.kills --kills {options.kills} --seed {options.seed}"
    with serving() as site, tempfile.TemporaryDirectory(prefix="melodygan-kills-") as folder:
        ground = lay(Path(folder), site)
        rest = options.kills
        for i, stage in enumerate(options.stages):
            shares = sum(SHARES[s] for s in options.stages[i:])
            kill_stage(
                ground, stage, round(rest * SHARES[stage] / shares), random.Random(f"{options.seed} {stage}")
            )
            rest = options.kills - ground.tally.kills.total()
            text = report(ground.tally, command, time.monotonic() - started)
            if options.report:
                options.report.write_text(text + "\n", "utf-8")
        assert all(contents(root) == before for root, before in ground.begun()), "a copy changed its original"
    print(text)
    sys.exit(bool(ground.tally.problems))


if __name__ == "__main__":
    # Under its own name, so that it is imported once in the process that forks.
    from tests import kills

    kills.main()
