"""Lets calls of all stages fail as a full or broken disk does: `python -m scripts.io_errors --count 200`.

It needs a C compiler (Linux). docs/reliability.md says what is asked of message and store.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

from melodygan_core.progress import bar
from tests.conftest import serving
from tests.io_errors import CALLS, Faults, choose, fail, run_counted
from tests.reference import write_sources
from tests.stages import STAGES

OUTCOMES = ("one sentence", "nothing", "did not come", "traceback")


def report(faults: Faults, command: str, duration_s: float) -> str:
    """The section of docs/reliability.md."""
    rows = []
    for call in CALLS:
        of_call = [(code, outcome, n) for (c, code, outcome), n in faults.outcomes.items() if c == call]
        by_code: Counter[str] = Counter()
        by_outcome: Counter[str] = Counter()
        for code, outcome, n in of_call:
            by_code[code] += n
            by_outcome[outcome] += n
        numbers = [str(by_code[code]) for code in ("ENOSPC", "EIO", "EACCES")]
        ends = [str(by_outcome[outcome]) for outcome in OUTCOMES]
        rows.append(f"| {call} | {by_code.total()} | {' | '.join(numbers)} | {' | '.join(ends)} |")
    lines = [
        f"`{command}`: {faults.stages.total()} failed calls in {len(faults.stages)} stages, "
        f"{duration_s / 60:.0f} minutes.",
        "",
        f"| call | all | ENOSPC | EIO | EACCES | {' | '.join(OUTCOMES)} |",
        "|---" * (5 + len(OUTCOMES)) + "|",
        *rows,
        "",
        f"- problems: {len(faults.problems)}",
        *[f"- {problem}" for problem in faults.problems],
        *[f"- nothing seen: {unseen}" for unseen in faults.unseen],
        *[f"- {code}: {message}" for code, message in faults.messages.items()],
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path, help="File for the report; rewritten after each failed call.")
    parser.add_argument("--stages", nargs="*", choices=STAGES, default=STAGES)
    options = parser.parse_args()
    started, faults, text = time.monotonic(), Faults(), ""
    command = f"python -m scripts.io_errors --count {options.count} --seed {options.seed}"
    with serving() as site, tempfile.TemporaryDirectory(prefix="melodygan-io-") as folder:
        last = max(STAGES.index(stage) for stage in options.stages)
        try:
            reference = write_sources(Path(folder), site)
            counts = run_counted(reference, STAGES[: last + 1], options.stages)
        except RuntimeError as error:
            sys.exit(str(error))
        chosen = choose(counts, options.count, Random(options.seed))
        for stage, fault in bar(chosen, len(chosen), "I/O errors"):
            fail(reference, stage, fault, faults)
            text = report(faults, command, time.monotonic() - started)
            if options.report:
                options.report.write_text(text + "\n", "utf-8")
    print(text)
    sys.exit(bool(faults.problems))


if __name__ == "__main__":
    # Under its own name, so that it is imported once in the process that forks.
    from scripts import io_errors

    io_errors.main()
