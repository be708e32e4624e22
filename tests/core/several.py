"""What each process of test_several_processes.py runs: `torchrun -m tests.core.several STORE`."""

from __future__ import annotations

import sys
from dataclasses import replace

from melodygan_core import autoencoder, gan, latents, processes, vocoder
from melodygan_core.config import OptimizerConfig
from melodygan_core.store import Artifact, Store
from tests.core.made import AUTOENCODER, GAN, TEMPORAL_AUTOENCODER, TEMPORAL_GAN, VOCODER

# Critics join half way, dropout and levels are drawn, and the temporal encoder stays as it is from then on.
STEPS = OptimizerConfig(
    max_steps=12, batch_size=8, learning_rate=1e-3, warmup_steps=2, eval_every=3, device="cpu"
)
DENSE = replace(AUTOENCODER, dropout=0.3, bfloat16=False, optimizer=STEPS)
TEMPORAL = replace(TEMPORAL_AUTOENCODER, critic_channels=4, bfloat16=False, optimizer=STEPS)
# Of a gradient that is nearly nothing Adam takes the sign, which is that of its last digits.
SOUND = replace(VOCODER, adversarial_from=0.5, optimizer=replace(STEPS, learning_rate=1e-5))


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
        checkpoint = autoencoder.train(table, store, encoding)
        with processes.leader_first():
            encoded = latents.encode(checkpoint, table, store)
        made += [checkpoint, gan.train(encoded, checkpoint, store, adversary)]
    return made


if __name__ == "__main__":
    with processes.together():
        assert processes.count() == 2
        train_all(Store(sys.argv[1]))
