"""Where and how weights are updated: seed, device, optimizer, schedule."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from melodygan_core.config import OptimizerConfig
from melodygan_core.errors import InputError, MelodyGANError


def resolve_device(name: str) -> torch.device:
    """`auto` is CUDA, else MPS, else the CPU.

    Raises:
        InputError: the device is not there.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(d for d in ("cuda", "mps", "cpu") if there[d])
    if not there.get(name.split(":")[0], False):
        raise InputError(f"device is {name!r}; allowed: auto, {', '.join(d for d, ok in there.items() if ok)}")
    return torch.device(name)


def autocast(device: torch.device, *, wanted: bool) -> torch.autocast:
    """Matrix products in bfloat16, if wanted and if the device has them: emulated they are slower."""
    if device.type == "cuda":
        there = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        there = device.type == "cpu" and (
            torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        )
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted and there)


def seed_everything(seed: int) -> None:
    """Seeds torch on every device; numpy generators are made where they are used."""
    torch.manual_seed(seed)


def optimizer_for(module: nn.Module, config: OptimizerConfig, betas: tuple[float, float]) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only."""
    matrices = [p for p in module.parameters() if p.requires_grad and p.ndim >= 2]
    others = [p for p in module.parameters() if p.requires_grad and p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas, fused=True)


def learning_rate(step: int, config: OptimizerConfig) -> float:
    """Linear warm-up, then cosine to a tenth of the peak at max_steps."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.max_steps - config.warmup_steps)
    return config.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * min(1.0, progress))))


def update(
    optimizer: torch.optim.Optimizer, loss: Tensor, rate: float, clip_norm: float, step: int, name: str
) -> float:
    """One optimizer update with clipped gradients.

    Returns:
        The gradients' norm before clipping.

    Raises:
        MelodyGANError: the gradients are not finite; the weights are left as they were.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    params = [p for group in optimizer.param_groups for p in group["params"]]
    norm = float(nn.utils.clip_grad_norm_(params, clip_norm))
    if not math.isfinite(norm):
        raise MelodyGANError(
            f"{name} diverged at step {step}: loss {float(loss.detach())}, gradient norm {norm}"
        )
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    return norm
