"""Lets 8 processes do the same work at once, 50 times: `python -m scripts.crowd --processes 8 --count 50`.

docs/reliability.md says what is asked of the stores.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from melodygan_core.progress import bar
from tests.conftest import serving
from tests.crowd import Crowd, plan, run_together
from tests.reference import make_reference
from tests.stages import STAGES


def report(crowd: Crowd, command: str, duration_s: float) -> str:
    """The section of docs/reliability.md."""
    lines = [
        f"`{command}`: {crowd.rounds} rounds, {crowd.runs.total()} runs of a stage, "
        f"{duration_s / 60:.0f} minutes.",
        "",
        "| stage | runs |",
        "|---|---|",
        *[f"| {stage} | {crowd.runs[stage]} |" for stage in STAGES if crowd.runs[stage]],
        "",
        f"- problems: {len(crowd.problems)}",
        *[f"- {problem}" for problem in crowd.problems],
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--count", type=int, default=50, help="Rounds, in each of which all processes run.")
    parser.add_argument("--report", type=Path, help="File for the report; rewritten after each round.")
    options = parser.parse_args()
    started, text, crowd = time.monotonic(), "", Crowd()
    command = f"python -m scripts.crowd --processes {options.processes} --count {options.count}"
    with serving() as site, tempfile.TemporaryDirectory(prefix="melodygan-crowd-") as folder:
        reference = make_reference(Path(folder), site)
        rounds = plan(options.count, STAGES)
        for crowd in bar(run_together(reference, rounds, options.processes), len(rounds), "crowd"):
            text = report(crowd, command, time.monotonic() - started)
            if options.report:
                options.report.write_text(text + "\n", "utf-8")
    print(text)
    sys.exit(bool(crowd.problems))


if __name__ == "__main__":
    # Under its own name, so that it is imported once in the process that forks.
    from scripts import crowd

    crowd.main()
