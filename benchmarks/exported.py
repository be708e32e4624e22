"""How fast an exported release makes sound, beside torch in the same process, by one thread each.

    python benchmarks/exported.py [temporal_gan|temporal_flow]

The release has the size of the preset `small` and random weights. Rounds of torch and onnxruntime take turns.
Times are those of the processor, so that other work on the machine changes them little. The time until the
first sound of a new process is measured as well; that one is of the clock.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from library import timed
from untrained import PIPELINE, write_release

from melodygan_core.config import GenerationConfig

PIECE_S = 30.0
ROUNDS = 5


def rates(folder: Path, exported: Path) -> tuple[list[float], list[float], float]:
    """Seconds of sound per second by torch and by onnxruntime, and the RMS of their difference as a share."""
    import torch

    from melodygan_core import generation, release
    from melodygan_core.export.runtime.pipeline import ExportedPipeline

    torch.set_num_threads(1)
    opened, without = release.load(folder, device="cpu").pipeline, ExportedPipeline(exported, threads=1)
    by_torch, by_onnx, errors = [], [], []
    for seed in range(ROUNDS + 1):
        config = GenerationConfig(count=1, duration_s=PIECE_S, seed=seed)
        started = time.process_time()
        (expected,) = generation.pieces(opened, config)
        between = time.process_time()
        (found,) = without.pieces(config)
        ended = time.process_time()
        by_torch.append(PIECE_S / (between - started))
        by_onnx.append(PIECE_S / (ended - between))
        errors.append(np.sqrt(np.mean((found.wav - expected.wav) ** 2) / np.mean(expected.wav**2)))
    # The first round compiles and allocates.
    return by_torch[1:], by_onnx[1:], float(max(errors))


def main() -> None:
    pipeline = sys.argv[1] if len(sys.argv) > 1 else PIPELINE
    with tempfile.TemporaryDirectory() as temporary:
        folder, exported = Path(temporary) / "release", Path(temporary) / "exported"
        write_release(folder, pipeline)
        program = str(Path(sys.executable).with_name("melodygan"))
        print(timed([program, "export", str(folder), "--onnx", str(exported)])[1])
        by_torch, by_onnx, error = rates(folder, exported)
        for name, found in (("torch", by_torch), ("onnxruntime and numpy", by_onnx)):
            print(f"{pipeline}, {name}, 1 thread: {min(found):.1f} to {max(found):.1f} times real time")
        ratio = statistics.median(b / a for a, b in zip(by_torch, by_onnx, strict=True))
        print(f"ratio of the rates, median: {ratio:.2f}; RMS of the difference: {error:.1e} of the sound's")
        for name, source in (("release", folder), ("export", exported)):
            out = Path(temporary) / f"out-{name}"
            arguments = ["generate", str(source), "--count", "1", "--seconds", "10", "--out", str(out)]
            print(f"10 s from a new process, {name}: {timed([program, *arguments])[0]:.1f} s")


if __name__ == "__main__":
    main()
