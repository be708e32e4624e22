"""What every training needs: seed, device, schedule, moving average, resuming, and one loop for all of them."""

from melodygan_core.training.loop import Fitted, Observer, Task, Update, Validation, fit, ignore, means, steps
from melodygan_core.training.optimizer import (
    autocast,
    learning_rate,
    optimizer_for,
    resolve_device,
    seed_everything,
    update,
)
from melodygan_core.training.state import EMA, Best, Resumable

__all__ = [
    "EMA",
    "Best",
    "Fitted",
    "Observer",
    "Resumable",
    "Task",
    "Update",
    "Validation",
    "autocast",
    "fit",
    "ignore",
    "learning_rate",
    "means",
    "optimizer_for",
    "resolve_device",
    "seed_everything",
    "steps",
    "update",
]
