"""Cuts the power after every write, rename and sync: `python -m scripts.power_loss` prints a table.

It needs strace. docs/reliability.md describes the model of the disk and what is asked of the store.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from melodygan_core.progress import bar
from tests.conftest import serving
from tests.disk_model import LOSSES
from tests.power_loss import Losses, lose_power, record_stages
from tests.stages import STAGES
from tests.syscalls import require_strace


def report(found: dict[str, Losses], command: str, duration_s: float) -> str:
    """The section of docs/reliability.md."""
    rows, total = [], [0] * (3 + len(LOSSES))
    for stage, losses in found.items():
        figures = [losses.calls, losses.cuts, *(losses.states[loss] for loss in LOSSES), losses.reruns]
        total = [a + b for a, b in zip(total, figures, strict=True)]
        findings = ", ".join(f"{n} {kind}" for kind, n in sorted(losses.findings.items())) or "-"
        rows.append(f"| {stage} | {' | '.join(map(str, figures))} | {findings} |")
    problems = [problem for losses in found.values() for problem in losses.problems]
    titles = ["stage", "calls", "power cuts", *(f"stores, {loss}" for loss in LOSSES), "run again", "findings"]
    lines = [
        f"`{command}`: {duration_s / 60:.0f} minutes.",
        "",
        f"| {' | '.join(titles)} |",
        "|---" * len(titles) + "|",
        *rows,
        f"| all | {' | '.join(map(str, total))} | |",
        "",
        f"- problems: {len(problems)}",
        *[f"- {problem}" for problem in problems[:100]],
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--count", type=int, default=8, help="Most stores per stage from which it is run again."
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path, help="File for the report; rewritten after each stage.")
    parser.add_argument("--stages", nargs="*", choices=STAGES, default=STAGES)
    options = parser.parse_args()
    try:
        require_strace()
    except RuntimeError as error:
        sys.exit(str(error))
    started, found, text = time.monotonic(), {}, ""
    command = f"python -m scripts.power_loss --count {options.count} --seed {options.seed}"
    with serving() as site, tempfile.TemporaryDirectory(prefix="melodygan-power-") as folder:
        last = max(STAGES.index(stage) for stage in options.stages)
        reference = record_stages(Path(folder), site, STAGES[: last + 1])
        for stage in bar(options.stages, len(options.stages), "power loss"):
            found[stage] = lose_power(reference, stage, Random(f"{options.seed} {stage}"), options.count)
            text = report(found, command, time.monotonic() - started)
            if options.report:
                options.report.write_text(text + "\n", "utf-8")
    print(text)
    sys.exit(any(losses.problems for losses in found.values()))


if __name__ == "__main__":
    # Under its own name, so that it is imported once in the process that forks.
    from scripts import power_loss

    power_loss.main()
