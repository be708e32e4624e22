"""Variants of each training step: precisions, optimizers, memory layouts and compilation, beside the plain one.

    python benchmarks/training_step.py [--preset small] [--compile] [--only dense temporal ...]

The steps of the real tasks on synthetic data, each on one batch in memory. The variants run in turn, round
after round; the best round counts, and results are ratios to plain float32 with a loop over the weights. The
matrix rate is that of a square product, measured in the same rounds in the precision of the variant; products
and convolutions are counted by FlopCounterMode. Last comes the time of a shipped step by operation.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from training_input import write_dataset

from melodygan_core.config import Config, OptimizerConfig, replace
from melodygan_core.config.presets import PRESETS
from melodygan_core.config.registry import codec_component, prior_component
from melodygan_core.dataset import Dataset
from melodygan_core.latents import LatentTable
from melodygan_core.prior.gan import GanTask
from melodygan_core.storage import Store
from melodygan_core.training import optimizer_for, resolve_device, seed_everything, update
from melodygan_core.vocoder.task import VocoderTask

ROUNDS, ROUND_S = 3, 1.5
HOURS = 0.7
# Name, and whether the discriminator has started.
STEPS = {
    "dense": False, "temporal": False, "temporal, discriminator": True, "vocoder": False,
    "vocoder, discriminator": True, "dense GAN": True, "temporal GAN": True,
}  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """How a step is computed."""

    bfloat16: bool = False
    optimizer: str = "loop"
    channels_last: bool = False
    compiled: bool = False


VARIANTS = {
    "plain": Variant(),
    "foreach": Variant(optimizer="foreach"),
    "fused": Variant(optimizer="fused"),
    "bfloat16, fused": Variant(bfloat16=True, optimizer="fused"),
    "channels last, fused": Variant(optimizer="fused", channels_last=True),
    "channels last, bfloat16, fused": Variant(bfloat16=True, optimizer="fused", channels_last=True),
    "compiled, bfloat16, fused": Variant(bfloat16=True, optimizer="fused", compiled=True),
}


def gan_task(codec: str, config: Any, preset: Config, device: torch.device, *, bfloat16: bool) -> GanTask:
    """A GAN over random latents of an untrained codec."""
    feature, rng = preset.features, np.random.default_rng(0)
    decoder = codec_component(codec).load().model(preset.codecs[codec], feature)
    rows, dim, tokens = 600, decoder.latent_dim, feature.segment_frames // decoder.token_frames
    table = LatentTable(
        latents=rng.standard_normal((rows, tokens, dim)).astype(np.float32),
        split=np.repeat(["train", "validation"], rows // 2),
        stem=np.full(rows, "mix"),
        index=np.arange(rows),
        track_id=np.repeat(["a", "b"], rows // 2),
        tags=[()] * rows,
        mean=np.zeros(dim, np.float32),
        std=np.ones(dim, np.float32),
    )
    task = prior_component(codec, "gan").load().task(table, decoder.to(device).eval(), config, device)
    task.setup.bfloat16 = bfloat16
    return task


def task_for(
    name: str, variant: Variant, preset: Config, root: Path, device: torch.device
) -> tuple[Any, OptimizerConfig]:
    """The task of a step on synthetic data, with its preset's config except for the precision."""
    kind = name.split(",", maxsplit=1)[0]
    codec, _, prior = kind.partition(" ")
    if prior:
        config = preset.priors[codec]["gan"]
        return gan_task(codec, config, preset, device, bfloat16=variant.bfloat16), config.optimizer
    store = Store(str(root))
    dataset = Dataset(store, write_dataset(store, HOURS, preset.features))
    if kind == "vocoder":
        segment, work = preset.features.segment_frames * preset.features.hop_length, store.work("vocoder")
        # The sound that the task would decode.
        for split in ("train", "validation"):
            count = sum(t["rows"] for t in dataset.tracks if t["split"] == split) * segment
            sound = np.random.default_rng(0).normal(0, 3000, count).astype("<i2")
            sound.tofile(work / f"{dataset.version}-{split}-mix.i16")
        return VocoderTask(dataset, store, preset.vocoder, device, work), preset.vocoder.optimizer
    config = replace(preset.codecs[codec], bfloat16=variant.bfloat16)
    return codec_component(codec).load().task(dataset, config, device), config.optimizer


def prepared(
    name: str, variant: Variant, preset: Config, root: Path, device: torch.device
) -> Callable[[], None]:
    """Returns a function that does one step."""
    seed_everything(0)
    task, config = task_for(name, variant, preset, root, device)
    optimizers = {
        part: optimizer_for(module, config, task.betas) for part, module in task.optimized_modules.items()
    }
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["fused"], group["foreach"] = variant.optimizer == "fused", variant.optimizer == "foreach"
    for module in task.optimized_modules.values():
        for weight in module.parameters():
            if variant.channels_last and weight.ndim == 4:
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        if variant.compiled:
            for child in module.children():
                child.compile()
    batch = {key: t.to(device) for key, t in task.get_batch(0).items()}
    # An odd step, because a GAN's gradient penalty comes in every eighth.
    number = config.max_steps - 1 if STEPS[name] else 1
    # The other tasks have a setting for it.
    wanted = variant.bfloat16 and name.startswith("vocoder")

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
            update(optimizers[part], loss, 1e-5, config.clip_norm)

    return step


def seconds(step: Callable[[], None], device: torch.device) -> float:
    """Mean duration of a step in one round, in seconds."""
    count, started = 0, time.perf_counter()
    while count < 2 or time.perf_counter() - started < ROUND_S:
        step()
        count += 1
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / count


def product(device: torch.device, precision: torch.dtype) -> tuple[Callable[[], None], float]:
    """Returns a function that multiplies square matrices, and its number of operations."""
    n = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(n, n, device=device, dtype=precision) for _ in range(2))

    def multiply() -> None:
        torch.mm(a, b)

    return multiply, 2.0 * n**3


def time_by_operation(step: Callable[[], None], device: torch.device) -> str:
    """The operations that take most of the time, with their shares of it."""
    gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * gpu) as found:
        for _ in range(3):
            step()
    cost = {e.key: e.self_device_time_total if gpu else e.self_cpu_time_total for e in found.key_averages()}
    largest = sorted(cost, key=lambda key: -cost[key])[:8]
    return ", ".join(f"{key} {cost[key] / sum(cost.values()):.0%}" for key in largest)


def report(name: str, variants: dict[str, Variant], preset: Config, device: torch.device) -> None:
    """Prints the lines of one step."""
    with tempfile.TemporaryDirectory(prefix="melodygan-step-") as root:
        steps = {
            label: prepared(name, variant, preset, Path(root), device) for label, variant in variants.items()
        }
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
    for label, variant in variants.items():
        precision = torch.bfloat16 if variant.bfloat16 else torch.float32
        peak = products[precision][1] / best[precision]
        print(
            f"  {label}: {best['plain'] / best[label]:.2f} x plain, {operations / best[label] / peak:.0%} of "
            f"{peak / 1e9:.0f} GFLOP/s ({str(precision).removeprefix('torch.')} product)"
        )
    shipped = "fused" if name.startswith("vocoder") or name == "dense GAN" else "bfloat16, fused"
    print(f"  {shipped}, time by operation: {time_by_operation(steps[shipped], device)}", flush=True)


def main() -> None:
    """Prints the variants of each step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=list(PRESETS), default="small")
    parser.add_argument(
        "--compile", action="store_true", help="Measure compilation, too; it takes minutes on a CPU."
    )
    parser.add_argument("--only", nargs="+", choices=list(STEPS), default=list(STEPS))
    options = parser.parse_args()
    device = resolve_device("auto")
    variants = {k: v for k, v in VARIANTS.items() if not v.compiled or options.compile or device.type == "cuda"}
    print(f"{device}, {torch.get_num_threads()} threads, preset {options.preset}")
    for name in options.only:
        report(name, variants, PRESETS[options.preset], device)


if __name__ == "__main__":
    main()
