"""How fast sound comes out of a release, and how soon the first of it.

    python benchmarks/generation.py

The `temporal` family with the neural vocoder, at the size of the preset `small`; weights are untrained, because
what they are costs nothing. Also what the commands and the code location cost before they do anything.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from library import timed, timed_python

THREADS = (1, 2)
PIECE_S = 60.0
ROUNDS = 5
# A process says when each of its steps was done; the clock is the system's, so that its start is known, too.
START_UP = {
    "import torch": "import torch",
    "import dagster": "import dagster",
    "with the code location": "import dagster; import melodygan_dagster.definitions as d; d.defs()",
}


def write_release(folder: Path) -> None:
    """A release of untrained models."""
    import torch

    from melodygan_core import vocoder
    from melodygan_core.codec import TemporalAutoencoder
    from melodygan_core.config import to_dict
    from melodygan_core.config.presets import PRESETS
    from melodygan_core.prior.gan import temporal
    from melodygan_core.training.checkpoint import save_weights

    preset = PRESETS["small"]
    feature, latent_dim = to_dict(preset.features), preset.temporal.autoencoder.latent_dim
    torch.manual_seed(0)
    parts: dict[str, tuple[dict[str, torch.nn.Module], dict[str, object]]] = {
        "autoencoder": (
            {"model": TemporalAutoencoder(preset.temporal.autoencoder, preset.features)},
            {"family": "temporal", "config": to_dict(preset.temporal.autoencoder), "feature": feature},
        ),
        "gan": (
            {"generator": temporal.Generator(preset.temporal.gan, latent_dim, 0)},
            {
                "family": "temporal",
                "config": to_dict(preset.temporal.gan),
                "conditions": [],
                "mean": [0.0] * latent_dim,
                "std": [1.0] * latent_dim,
            },
        ),
        "vocoder": (
            {"model": vocoder.NeuralVocoder(preset.vocoder, preset.features)},
            {"config": to_dict(preset.vocoder), "feature": feature},
        ),
    }
    for name, (modules, config) in parts.items():
        (folder / name).mkdir(parents=True)
        save_weights(folder / name, modules, config)
    description = {
        "family": "temporal",
        "version": "untrained",
        "models": {},
        "sources": {"tracks": [], "licences": [], "stems": ["mix"], "dataset": ""},
        "generation": to_dict(preset.generation) | {"vocoder": "neural"},
    }
    (folder / "config.json").write_text(json.dumps(description), "utf-8")


def throughput(folder: Path, threads: int) -> None:
    """Prints seconds of sound a second, the slowest and the fastest round."""
    import torch

    from melodygan_core import generation, release

    torch.set_num_threads(threads)
    opened = release.load(folder)
    models, config = opened.models, opened.generation
    rates = []
    for seed in range(ROUNDS):
        started = time.perf_counter()
        (piece,) = generation.pieces(models, replace(config, count=1, duration_s=PIECE_S, seed=seed))
        rates.append(len(piece.wav) / models.feature.sample_rate / (time.perf_counter() - started))
    print(json.dumps({"slowest": min(rates), "fastest": max(rates)}))


def first_audio(folder: Path, out: Path) -> None:
    """Prints when torch was there and when the first sound was written, in seconds after this was called."""
    started = time.perf_counter()
    import torch  # noqa: F401

    imported = time.perf_counter() - started
    from melodygan_dagster.cli import main

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
            said = f"{found['slowest']:.0f} to {found['fastest']:.0f} times real time"
            print(f"temporal with the neural vocoder, {threads} thread{'s' * (threads > 1)}: {said}")
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
