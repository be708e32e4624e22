"""How fast a release generates sound, and how long the first sound takes.

    python benchmarks/generation.py

The pipeline `temporal_gan` at the size of the preset `small`. Its weights are untrained, which costs as much
time as trained ones. The start-up times of the commands and of the code location are measured as well.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

from library import timed, timed_python
from untrained import PIPELINE, write_release

from melodygan_core.config import replace

THREADS = (1, 2)
PIECE_S = 60.0
ROUNDS = 5
START_UP = {
    "import torch": "import torch",
    "import dagster": "import dagster",
    "with the code location": "import dagster; import melodygan_dagster.definitions as d; d.defs()",
}


def throughput(folder: Path, threads: int) -> None:
    """Prints seconds of sound per second, of the slowest and of the fastest round."""
    import torch

    from melodygan_core import generation, release

    torch.set_num_threads(threads)
    opened = release.load(folder)
    rates = []
    for seed in range(ROUNDS):
        config = replace(opened.generation, count=1, duration_s=PIECE_S, seed=seed)
        started = time.perf_counter()
        (piece,) = generation.pieces(opened.pipeline, config)
        rates.append(len(piece.wav) / opened.pipeline.feature.sample_rate / (time.perf_counter() - started))
    print(json.dumps({"slowest": min(rates), "fastest": max(rates)}))


def first_audio(folder: Path, out: Path) -> None:
    """Prints how long importing torch takes, and how long after it the first sound is written, in seconds."""
    started = time.perf_counter()
    import torch  # noqa: F401

    imported = time.perf_counter() - started
    from melodygan_core.cli import main

    main(["generate", str(folder), "--count", "1", "--seconds", "10", "--out", str(out)], standalone_mode=False)
    print(
        json.dumps({"import torch": imported, "first sound after it": time.perf_counter() - started - imported})
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "release"
        write_release(folder)
        for threads in THREADS:
            _, found = timed_python(__file__, "throughput", str(folder), str(threads))
            rates = f"{found['slowest']:.0f} to {found['fastest']:.0f} times real time"
            print(f"{PIPELINE}, {threads} thread{'s' * (threads > 1)}: {rates}")
        best: dict[str, float] = {}
        program = str(Path(sys.executable).with_name("melodygan"))
        for attempt in range(ROUNDS):
            _, found = timed_python(__file__, "first", str(folder), str(Path(temporary) / f"out-{attempt}"))
            for name, code in START_UP.items():
                found[name] = timed([sys.executable, "-c", code])[0]
            found["melodygan --help"] = timed([program, "--help"])[0]
            complete = {**os.environ, "_MELODYGAN_COMPLETE": "bash_complete"}
            complete |= {"COMP_WORDS": "melodygan gen", "COMP_CWORD": "1"}
            found["shell completion"] = timed([program], env=complete)[0]
            best = {name: min(value, best.get(name, value)) for name, value in found.items()}
    print(f"seconds, best of {ROUNDS}: " + ", ".join(f"{name} {value:.2f}" for name, value in best.items()))
    plain, loaded = best["import dagster"], best["with the code location"]
    print(f"the code location adds {loaded - plain:.2f} s to import dagster")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["throughput", folder, threads]:
            throughput(Path(folder), int(threads))
        case ["first", folder, out]:
            first_audio(Path(folder), Path(out))
        case _:
            main()
