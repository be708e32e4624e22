"""The training loop that all models share: task, optimizer, EMA, prefetch, checkpoints, several processes."""

from melodygan_core.training.build import get_or_build
from melodygan_core.training.loop import (
    MAX_SKIPPED_STEPS,
    MetricsCallback,
    Task,
    TrainResult,
    Update,
    Validation,
    fit,
    ignore,
)
from melodygan_core.training.optimizer import (
    allow_tf32,
    autocast,
    learning_rate,
    optimizer_for,
    resolve_device,
    seed_everything,
    update,
)
from melodygan_core.training.prefetch import Batch, prefetch
from melodygan_core.training.preview import Preview, PreviewCallback, PreviewTask
from melodygan_core.training.start import Start
from melodygan_core.training.state import EMA, Best, Progress, TrainState

__all__ = [
    "EMA",
    "MAX_SKIPPED_STEPS",
    "Batch",
    "Best",
    "MetricsCallback",
    "Preview",
    "PreviewCallback",
    "PreviewTask",
    "Progress",
    "Start",
    "Task",
    "TrainResult",
    "TrainState",
    "Update",
    "Validation",
    "allow_tf32",
    "autocast",
    "fit",
    "get_or_build",
    "ignore",
    "learning_rate",
    "optimizer_for",
    "prefetch",
    "resolve_device",
    "seed_everything",
    "update",
]
