"""What each process of test_several_processes.py runs: `torchrun -m tests.core.several STORE`."""

from __future__ import annotations

import sys
from dataclasses import replace

from melodygan_core import codec, latents, vocoder
from melodygan_core.config import OptimizerConfig
from melodygan_core.prior import gan
from melodygan_core.storage.store import Artifact, Store
from melodygan_core.training import distributed
from tests.core.made import AUTOENCODER, GAN, TEMPORAL_AUTOENCODER, TEMPORAL_GAN, VOCODER

# Critics join half way, dropout and levels are drawn, and the temporal encoder stays as it is from then on.
STEPS = OptimizerConfig(
    max_steps=12, batch_size=8, learning_rate=1e-3, warmup_steps=2, eval_every=3, device="cpu"
)
DENSE = replace(AUTOENCODER, dropout=0.3, bfloat16=False, optimizer=STEPS)
TEMPORAL = replace(TEMPORAL_AUTOENCODER, disc_channels=4, bfloat16=False, optimizer=STEPS)
# Of a gradient that is nearly nothing Adam takes the sign, which is that of its last digits.
SOUND = replace(VOCODER, disc_start=0.5, optimizer=replace(STEPS, learning_rate=1e-5))


# The gradient penalty comes at every fourth step, its weight moves, and levels and channels are drawn.
DUEL = replace(STEPS, learning_rate=1e-4)
DENSE_GAN = replace(GAN, r1_every=4, optimizer=DUEL)
TEMPORAL_GAN_ = replace(TEMPORAL_GAN, r1_every=4, r1_target=0.0, augment=0.2, bfloat16=False, optimizer=DUEL)


def train_all(store: Store) -> list[Artifact]:
    """A vocoder, and of each family an autoencoder and a GAN, on the dataset in use."""
    table = store.record("feature_table")
    assert table is not None
    made = [vocoder.train(table, store, SOUND)]
    for encoding, adversary in ((DENSE, DENSE_GAN), (TEMPORAL, TEMPORAL_GAN_)):
        checkpoint = codec.train(table, store, encoding)
        with distributed.main_process_first():
            encoded = latents.encode(checkpoint, table, store)
        made += [checkpoint, gan.train(encoded, checkpoint, store, adversary)]
    return made


if __name__ == "__main__":
    with distributed.process_group():
        assert distributed.world_size() == 2
        train_all(Store(sys.argv[1]))
