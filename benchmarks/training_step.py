"""What each training step could be and is: precisions, optimizers, layouts, compiling, beside the plain one.

    python benchmarks/training_step.py [--preset small] [--compile] [--only dense temporal ...]

The real steps of the real tasks on made-up data, each on one batch that stays in memory. The ways go in turn,
round after round; the best round counts, and all is said as a ratio to plain float32 with a loop over weights.
The matrix rate is that of a square product, measured in the same rounds in the precision of the way; products
and convolutions are counted by FlopCounterMode. Last, what a shipped step spends its time on.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from training_input import made_up

from melodygan_core.codec.dense.model import DenseAutoencoder
from melodygan_core.codec.dense.task import DenseTask
from melodygan_core.codec.temporal.model import TemporalAutoencoder
from melodygan_core.codec.temporal.task import TemporalTask
from melodygan_core.config import OptimizerConfig
from melodygan_core.config.presets import PRESETS, Preset
from melodygan_core.dataset import Dataset
from melodygan_core.latents import LatentTable
from melodygan_core.prior.gan.train import BETAS, GanConfig, GanTask, build_setup
from melodygan_core.storage.store import Store
from melodygan_core.training import Task, optimizer_for, resolve_device, seed_everything, update
from melodygan_core.vocoder.task import VocoderTask

ROUNDS, ROUND_S = 3, 1.5
HOURS = 0.7
# Name, and whether critics have joined.
STEPS = {
    "dense": False, "temporal": False, "temporal, critic": True, "vocoder": False, "vocoder, critics": True,
    "dense GAN": True, "temporal GAN": True,
}  # fmt: skip


@dataclass(frozen=True)
class Way:
    """How a step is done."""

    bfloat16: bool = False
    optimizer: str = "loop"
    channels_last: bool = False
    compiled: bool = False


WAYS = {
    "plain": Way(),
    "foreach": Way(optimizer="foreach"),
    "fused": Way(optimizer="fused"),
    "bfloat16, fused": Way(bfloat16=True, optimizer="fused"),
    "channels last, fused": Way(optimizer="fused", channels_last=True),
    "channels last, bfloat16, fused": Way(bfloat16=True, optimizer="fused", channels_last=True),
    "compiled, bfloat16, fused": Way(bfloat16=True, optimizer="fused", compiled=True),
}


def adversary(config: GanConfig, preset: Preset, device: torch.device, *, bfloat16: bool) -> Task:
    """A GAN on latents of noise and an untrained autoencoder."""
    dense = config.family == "dense"
    feature, rng = preset.features, np.random.default_rng(0)
    decoder = (
        DenseAutoencoder(preset.dense.autoencoder, feature)
        if dense
        else TemporalAutoencoder(preset.temporal.autoencoder, feature)
    )
    n, dim = 600, decoder.config.latent_dim
    tokens = 1 if dense else feature.segment_frames // preset.temporal.autoencoder.token_frames
    table = LatentTable(
        latents=rng.standard_normal((n, tokens, dim)).astype(np.float32),
        split=np.repeat(["train", "validation"], n // 2),
        stem=np.full(n, "mix"),
        index=np.arange(n),
        track_id=np.repeat(["a", "b"], n // 2),
        tags=[()] * n,
        mean=np.zeros(dim, np.float32),
        std=np.ones(dim, np.float32),
    )
    setup = build_setup(table, decoder.to(device).eval(), config, device)
    setup.bfloat16 = bfloat16
    return GanTask(setup, config)


def task_for(
    name: str, way: Way, preset: Preset, root: Path, device: torch.device
) -> tuple[Task, OptimizerConfig]:
    """The task of a step, on made-up data, as its preset has it but for the precision."""
    kind = name.split(",", maxsplit=1)[0]
    if kind.endswith("GAN"):
        config = getattr(preset, kind.split()[0]).gan
        return adversary(config, preset, device, bfloat16=way.bfloat16), config.optimizer
    store = Store(str(root))
    made = made_up(store, HOURS, preset.features)
    dataset = Dataset(store, made)
    if kind == "vocoder":
        segment = preset.features.segment_frames * preset.features.hop_length
        for split in ("train", "validation"):
            count = sum(t["rows"] for t in dataset.tracks if t["split"] == split) * segment
            sound = np.random.default_rng(0).normal(0, 3000, count).astype("<i2")
            sound.tofile(store.work("vocoder") / f"{dataset.version}-{split}-mix.i16")
        return VocoderTask(
            dataset, store, preset.vocoder, device, store.work("vocoder")
        ), preset.vocoder.optimizer
    config = replace(getattr(preset, kind).autoencoder, bfloat16=way.bfloat16)
    return {"dense": DenseTask, "temporal": TemporalTask}[kind](dataset, config, device), config.optimizer


def prepared(name: str, way: Way, preset: Preset, root: Path, device: torch.device) -> Callable[[], None]:
    """One step, to be done again and again."""
    seed_everything(0)
    task, config = task_for(name, way, preset, root, device)
    betas = getattr(task, "betas", BETAS)
    optimizers = {part: optimizer_for(module, config, betas) for part, module in task.optimized_modules.items()}
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["fused"], group["foreach"] = way.optimizer == "fused", way.optimizer == "foreach"
    for module in task.optimized_modules.values():
        for weight in module.parameters():
            if way.channels_last and weight.ndim == 4:
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        if way.compiled:
            for child in module.children():
                child.compile()
    batch = {key: t.to(device) for key, t in task.get_batch(0).items()}
    # An odd step, for a GAN's gradient penalty comes at every eighth.
    number = config.max_steps - 1 if STEPS[name] else 1
    # The others have a setting for it.
    wanted = way.bfloat16 and name.startswith("vocoder")

    def precision() -> AbstractContextManager[object]:
        return torch.autocast(device.type, torch.bfloat16) if wanted else nullcontext()

    def losses() -> Iterator[tuple[str, torch.Tensor]]:
        found = task.training_step(number, batch)
        while True:
            with precision():
                one = next(found, None)
            if one is None:
                return
            yield one.part, one.loss

    def step() -> None:
        for part, loss in losses():
            update(optimizers[part], loss, 1e-5, config.clip_norm, number, name)

    return step


def seconds(step: Callable[[], None], device: torch.device) -> float:
    """Mean of a round."""
    count, started = 0, time.perf_counter()
    while count < 2 or time.perf_counter() - started < ROUND_S:
        step()
        count += 1
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / count


def product(device: torch.device, precision: torch.dtype) -> tuple[Callable[[], None], float]:
    """A square matrix product, and its operations."""
    n = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(n, n, device=device, dtype=precision) for _ in range(2))

    def multiply() -> None:
        torch.mm(a, b)

    return multiply, 2.0 * n**3


def held_by(step: Callable[[], None], device: torch.device) -> str:
    """The operations that take most of the time, and their parts of it."""
    gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * gpu) as found:
        for _ in range(3):
            step()
    cost = {e.key: e.self_device_time_total if gpu else e.self_cpu_time_total for e in found.key_averages()}
    largest = sorted(cost, key=lambda key: -cost[key])[:8]
    return ", ".join(f"{key} {cost[key] / sum(cost.values()):.0%}" for key in largest)


def report(name: str, ways: dict[str, Way], preset: Preset, device: torch.device) -> None:
    """Prints the lines of one step."""
    with tempfile.TemporaryDirectory(prefix="melodygan-step-") as root:
        steps = {label: prepared(name, way, preset, Path(root), device) for label, way in ways.items()}
    with FlopCounterMode(display=False) as counter:
        steps["plain"]()
    operations = counter.get_total_flops()
    products = {p: product(device, p) for p in (torch.float32, torch.bfloat16)}
    best = dict.fromkeys([*steps, *products], float("inf"))
    for step in steps.values():
        step()  # Compiles, allocates, makes the optimizer's state.
    for _ in range(ROUNDS):
        for label, step in steps.items():
            best[label] = min(best[label], seconds(step, device))
        for precision, (multiply, _) in products.items():
            best[precision] = min(best[precision], seconds(multiply, device))
    print(f"{name}: {best['plain'] * 1e3:.1f} ms plain, {operations / 1e9:.1f} GFLOP counted")
    for label, way in ways.items():
        precision = torch.bfloat16 if way.bfloat16 else torch.float32
        peak = products[precision][1] / best[precision]
        print(
            f"  {label}: {best['plain'] / best[label]:.2f} x plain, {operations / best[label] / peak:.0%} of "
            f"{peak / 1e9:.0f} GFLOP/s ({str(precision).removeprefix('torch.')} product)"
        )
    shipped = "fused" if name.startswith("vocoder") or name == "dense GAN" else "bfloat16, fused"
    print(f"  {shipped}, time by operation: {held_by(steps[shipped], device)}", flush=True)


def main() -> None:
    """Prints each step's ways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=list(PRESETS), default="small")
    parser.add_argument("--compile", action="store_true", help="Compile, too: on a CPU that takes minutes.")
    parser.add_argument("--only", nargs="+", choices=list(STEPS), default=list(STEPS))
    options = parser.parse_args()
    device = resolve_device("auto")
    ways = {k: w for k, w in WAYS.items() if not w.compiled or options.compile or device.type == "cuda"}
    print(f"{device}, {torch.get_num_threads()} threads, preset {options.preset}")
    for name in options.only:
        report(name, ways, PRESETS[options.preset], device)


if __name__ == "__main__":
    main()
