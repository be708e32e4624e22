"""Kills every stage: `python -m scripts.kills --kills 500` prints a table for docs/reliability.md."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.conftest import serving
from tests.contents import contents
from tests.kill_plans import SHARES, kill_stage
from tests.reference import Results, make_reference


def report(results: Results, command: str, duration_s: float) -> str:
    """The section of docs/reliability.md."""
    kinds = sorted({kind for _, kind in results.kills})
    rows = [
        f"| {stage} | "
        + " | ".join(str(results.kills[stage, kind]) for kind in kinds)
        + f" | {results.kills_of(stage)} |"
        for stage in SHARES
        if results.kills_of(stage)
    ]
    total = " | ".join(str(sum(n for (_, k), n in results.kills.items() if k == kind)) for kind in kinds)
    lines = [
        f"`{command}`: {results.kills.total()} kills in {results.episodes} episodes, "
        f"{duration_s / 60:.0f} minutes.",
        "",
        f"| stage | {' | '.join(kinds)} | all |",
        "|---" * (len(kinds) + 2) + "|",
        *rows,
        f"| all | {total} | {results.kills.total()} |",
        "",
        f"- problems: {len(results.problems)}",
        f"- trainings that resumed from a saved step: {len(results.resumed)}",
        f"- left by killed writers, in total: {results.left_files} files, {results.left_bytes / 1e6:.1f} MB",
        *[f"- {problem}" for problem in results.problems],
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--in-succession", type=int, default=3, help="Most kills of one episode.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path, help="File for the report; rewritten after each stage.")
    parser.add_argument("--stages", nargs="*", choices=[*SHARES], default=[*SHARES])
    options = parser.parse_args()
    started, text = time.monotonic(), ""
    command = f"python -m scripts.kills --kills {options.kills} --seed {options.seed}"
    command += f" --in-succession {options.in_succession}"
    with serving() as site, tempfile.TemporaryDirectory(prefix="melodygan-kills-") as folder:
        reference = make_reference(Path(folder), site)
        rest = options.kills
        for i, stage in enumerate(options.stages):
            shares = sum(SHARES[s] for s in options.stages[i:])
            rng = random.Random(f"{options.seed} {stage}")
            kill_stage(reference, stage, round(rest * SHARES[stage] / shares), rng, options.in_succession)
            rest = options.kills - reference.results.kills.total()
            text = report(reference.results, command, time.monotonic() - started)
            if options.report:
                options.report.write_text(text + "\n", "utf-8")
        assert all(contents(root) == before for root, before in reference.expected_stores()), (
            "a copy changed its original"
        )
    print(text)
    sys.exit(bool(reference.results.problems))


if __name__ == "__main__":
    # Under its own name, so that it is imported once in the process that forks.
    from scripts import kills

    kills.main()
