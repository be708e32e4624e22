"""What every training needs: seed, device, schedule, moving average, resuming, and one loop for all of them."""

from melodygan_core.training.build import get_or_build
from melodygan_core.training.loop import (
    MetricsCallback,
    Task,
    TrainResult,
    Update,
    Validation,
    fit,
    ignore,
    means,
    steps,
)
from melodygan_core.training.optimizer import (
    autocast,
    learning_rate,
    optimizer_for,
    resolve_device,
    seed_everything,
    update,
)
from melodygan_core.training.prefetch import Batch, prefetch
from melodygan_core.training.state import EMA, Best, TrainState

__all__ = [
    "EMA",
    "Batch",
    "Best",
    "MetricsCallback",
    "Task",
    "TrainResult",
    "TrainState",
    "Update",
    "Validation",
    "autocast",
    "fit",
    "get_or_build",
    "ignore",
    "learning_rate",
    "means",
    "optimizer_for",
    "prefetch",
    "resolve_device",
    "seed_everything",
    "steps",
    "update",
]
