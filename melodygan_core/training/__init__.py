"""What every training needs: seed, device, schedule, moving average, resuming, and one loop for all of them."""

from melodygan_core.training.batches import Batch, ahead
from melodygan_core.training.loop import Fitted, Observer, Task, Update, Validation, fit, ignore, means, steps
from melodygan_core.training.optimizer import (
    autocast,
    learning_rate,
    optimizer_for,
    resolve_device,
    seed_everything,
    update,
)
from melodygan_core.training.result import once
from melodygan_core.training.state import EMA, Best, Resumable

__all__ = [
    "EMA",
    "Batch",
    "Best",
    "Fitted",
    "Observer",
    "Resumable",
    "Task",
    "Update",
    "Validation",
    "ahead",
    "autocast",
    "fit",
    "ignore",
    "learning_rate",
    "means",
    "once",
    "optimizer_for",
    "resolve_device",
    "seed_everything",
    "steps",
    "update",
]
