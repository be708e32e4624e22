"""What each process of test_several_processes.py runs: `torchrun -m tests.core.several STORE`."""

from __future__ import annotations

import math
import sys

import torch
from torch import nn

from melodygan_core import codec, latents, prior, vocoder
from melodygan_core.config import OptimizerConfig, replace
from melodygan_core.storage import Artifact, Store
from melodygan_core.training import distributed, optimizer_for, update
from tests.core import made

# The discriminators start half-way, dropout and gains are random, and the temporal encoder is then frozen.
STEPS = OptimizerConfig(
    max_steps=12, batch_size=8, learning_rate=1e-3, warmup_steps=2, eval_every=3, device="cpu"
)
DENSE_CODEC = replace(made.DENSE_CODEC, dropout=0.3, bfloat16=False, optimizer=STEPS)
TEMPORAL_CODEC = replace(made.TEMPORAL_CODEC, disc_channels=4, bfloat16=False, optimizer=STEPS)
# Adam takes the sign of a gradient near zero, which is that of its last digits.
VOCODER = replace(made.VOCODER, disc_start=0.5, optimizer=replace(STEPS, learning_rate=1e-5))

# The gradient penalty comes in every fourth step and its weight moves; gains and channels are random.
GAN_STEPS = replace(STEPS, learning_rate=1e-4)
DENSE_GAN = replace(made.DENSE_GAN, r1_every=4, optimizer=GAN_STEPS)
TEMPORAL_GAN = replace(
    made.TEMPORAL_GAN, r1_every=4, r1_target=0.0, augment=0.2, bfloat16=False, optimizer=GAN_STEPS
)


def train_all(store: Store) -> list[Artifact]:
    """Trains a vocoder, and each codec with a GAN over its latents, on the dataset in use."""
    table = store.record("feature_table")
    assert table is not None
    trained = [vocoder.train(table, store, VOCODER)]
    for name, codec_config, gan_config in (
        ("dense", DENSE_CODEC, DENSE_GAN),
        ("temporal", TEMPORAL_CODEC, TEMPORAL_GAN),
    ):
        checkpoint = codec.train(name, table, store, codec_config)
        with distributed.main_process_first():
            latent_table = latents.encode(checkpoint, table, store)
        trained += [checkpoint, prior.train("gan", latent_table, checkpoint, store, gan_config)]
    return trained


def check_skipped_update() -> None:
    """An update is skipped in both processes where the loss of one is not finite but all gradients are."""
    module = nn.Linear(2, 1)
    optimizer = optimizer_for(module, STEPS, (0.9, 0.99))
    average = distributed.average_gradients(module)
    for target, skipped in ((0.0, False), (math.inf, True)):
        loss = (module(torch.ones(1, 2)) - (target if distributed.rank() == 1 else 0.0)).abs().mean()
        assert (update(optimizer, average(loss), 1e-3, 1.0) is None) == skipped, (distributed.rank(), target)


if __name__ == "__main__":
    with distributed.process_group():
        assert distributed.world_size() == 2
        check_skipped_update()
        train_all(Store(sys.argv[1]))
