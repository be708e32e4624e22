"""Reads mutated files of every format: `python -m scripts.mutations --count 10000` prints a table.

docs/reliability.md says what is asked of each reader.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from melodygan_core import release
from melodygan_core.progress import bar
from melodygan_core.storage import Store
from tests import stages
from tests.core.made import GENERATION, Trained, make_dense
from tests.mutation_targets import FORMATS, targets
from tests.mutations import OUTCOMES, Mutations, chosen, mutate

# Sound is decoded by a process of its own each.
SHARES = {"audio": 0.1, "YAML": 0.25, "JSON": 0.25, "safetensors": 0.15, "Parquet": 0.2, "Arrow": 0.05}
BATCH = 100


def make_store(folder: Path) -> Trained:
    """A pipeline with a release."""
    pipeline = make_dense(Store(str(folder / "store")))
    made = release.publish(
        pipeline.artifacts, pipeline.evaluation, pipeline.dataset, pipeline.store, GENERATION, None
    ).artifact
    parts = (
        pipeline.dataset,
        pipeline.codec,
        pipeline.latents,
        pipeline.prior,
        pipeline.vocoder,
        pipeline.samples,
    )
    for artifact in (*parts, pipeline.evaluation, made):
        pipeline.store.write_record(artifact)
    return pipeline


def report(found: Mutations, command: str, duration_s: float) -> str:
    """The section of docs/reliability.md."""
    rows = []
    for name in (*FORMATS, "all"):
        counts = [
            sum(n for (form, out), n in found.outcomes.items() if out == outcome and name in (form, "all"))
            for outcome in OUTCOMES
        ]
        rows.append(f"| {name} | {sum(counts)} | {' | '.join(map(str, counts))} |")
    lines = [
        f"`{command}`: {duration_s / 60:.0f} minutes.",
        "",
        f"| format | inputs | {' | '.join(OUTCOMES)} |",
        "|---" * (len(OUTCOMES) + 2) + "|",
        *rows,
        "",
        f"- problems: {len(found.problems)}",
        *[f"- {problem}" for problem in found.problems[:200]],
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path, help="File for the report; rewritten after each batch.")
    parser.add_argument("--formats", nargs="*", choices=FORMATS, default=FORMATS)
    options = parser.parse_args()
    started, found, text = time.monotonic(), Mutations(), ""
    command = f"python -m scripts.mutations --count {options.count} --seed {options.seed}"
    stages.start_server()
    with tempfile.TemporaryDirectory(prefix="melodygan-mutations-") as folder:
        pipeline = make_store(Path(folder))
        shares = {name: SHARES[name] for name in options.formats}
        (Path(folder) / "targets").mkdir()
        all_targets = targets(pipeline, Path(folder) / "targets")
        inputs = chosen(all_targets, options.count, Random(options.seed), shares)
        batches = [inputs[i : i + BATCH] for i in range(0, len(inputs), BATCH)]
        for number, batch in enumerate(bar(batches, len(batches), "mutations")):
            place = Path(folder) / f"batch-{number}"
            place.mkdir()
            mutate(pipeline, batch, place, found)
            text = report(found, command, time.monotonic() - started)
            if options.report:
                options.report.write_text(text + "\n", "utf-8")
    print(text)
    sys.exit(bool(found.problems))


if __name__ == "__main__":
    # Under its own name, so that it is imported once in the process that forks.
    from scripts import mutations

    mutations.main()
