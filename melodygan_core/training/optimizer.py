"""Device, precision, optimizer, schedule, and one optimizer update."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from melodygan_core.config import OptimizerConfig
from melodygan_core.errors import InputError
from melodygan_core.training import distributed


def resolve_device(name: str | torch.device) -> torch.device:
    """The device of a name: `auto` is CUDA, else MPS, else the CPU.

    Raises:
        InputError: the device does not exist on this machine.
    """
    if isinstance(name, torch.device):
        return name
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(d for d in ("cuda", "mps", "cpu") if available[d])
    if not available.get(name.split(":")[0], False):
        allowed = ", ".join(d for d, ok in available.items() if ok)
        raise InputError(f"device must be one of auto, {allowed}, got {name!r}")
    return torch.device(name)


def allow_tf32(device: torch.device) -> None:
    """Lets CUDA multiply float32 matrices in TF32: 10 bits of mantissa, several times the rate."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")


def autocast(device: torch.device, *, wanted: bool) -> torch.autocast:
    """Matrix products in bfloat16 if wanted and if the hardware has it, because emulation is slower."""
    if device.type == "cuda":
        supported = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        supported = device.type == "cpu" and (
            torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        )
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted and supported)


def seed_everything(seed: int) -> None:
    """Seeds torch on every device; numpy generators are created and seeded where they are used."""
    torch.manual_seed(seed)


def optimizer_for(module: nn.Module, config: OptimizerConfig, betas: tuple[float, float]) -> torch.optim.AdamW:
    """AdamW (arXiv 1711.05101) with weight decay on matrices only."""
    matrices = [p for p in module.parameters() if p.requires_grad and p.ndim >= 2]
    others = [p for p in module.parameters() if p.requires_grad and p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas, fused=True)


def learning_rate(step: int, config: OptimizerConfig) -> float:
    """Linear warm-up, then a cosine to a tenth of the peak at `max_steps`."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.max_steps - config.warmup_steps)
    return config.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * min(1.0, progress))))


def update(optimizer: torch.optim.Optimizer, loss: Tensor, rate: float, clip_norm: float) -> float | None:
    """Does one optimizer update with clipped gradients, unless loss or gradients are not finite.

    Args:
        optimizer: Of the parameters to update.
        loss: Scalar.
        rate: Learning rate of this update.
        clip_norm: Gradients are scaled to at most this norm.

    Returns:
        Norm of the gradients before clipping. None if the update was skipped: loss or norm was not finite, and
        weights and optimizer state are unchanged.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    params = [p for group in optimizer.param_groups for p in group["params"]]
    gradient_norm = nn.utils.clip_grad_norm_(params, clip_norm)
    # The mean loss, so that all processes take the same decision. One copy from the GPU for both figures.
    norm, mean_loss = torch.stack([gradient_norm, distributed.global_mean(loss)]).cpu().tolist()
    if not (math.isfinite(norm) and math.isfinite(mean_loss)):
        return None
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    return norm
