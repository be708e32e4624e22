"""Config of one training run."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field

from melodygan_core.config.base import ConfigModel, Rule
from melodygan_core.config.values import MAX_SEED

TrainingDevice = Annotated[
    str,
    Field(max_length=16),
    Rule(
        "auto, cpu, cuda, mps or one GPU such as cuda:1",
        lambda name: re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,3})?", name) is not None,
    ),
]


class OptimizerConfig(ConfigModel):
    """One training run: its length, its learning rate and when it stops."""

    max_steps: int = Field(4000, ge=1, le=10_000_000, description="Most optimizer updates.")
    batch_size: int = Field(128, ge=1, le=65_536, description="Examples per update.")
    learning_rate: float = Field(
        3e-4,
        gt=0,
        le=10,
        description="Peak learning rate; linear warm-up, then cosine decay to a tenth of it.",
    )
    warmup_steps: int = Field(
        100, ge=0, le=1_000_000, description="Updates until the learning rate reaches its peak."
    )
    weight_decay: float = Field(
        1e-2, ge=0, le=10, description="Weight decay of AdamW; biases and norms have none."
    )
    clip_norm: float = Field(1.0, gt=0, le=1e6, description="Gradients are scaled to at most this norm.")
    eval_every: int = Field(100, ge=1, le=1_000_000, description="Updates between two validations.")
    patience: int = Field(
        10, ge=1, le=1_000_000, description="Validations without an improvement after which training stops."
    )
    checkpoint_every_s: float = Field(
        30.0, ge=0, le=86_400, description="Seconds between two saved training states."
    )
    # One below the largest seed: a prior is checked for collapse with the seed after its own.
    seed: int = Field(
        0, ge=0, le=MAX_SEED - 1, description="Random seed of initialisation, shuffling and noise."
    )
    device: TrainingDevice = Field("auto", description="Device that the model is trained on.")
