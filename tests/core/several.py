"""What each process of test_several_processes.py runs: `torchrun -m tests.core.several STORE`."""

from __future__ import annotations

import sys
from dataclasses import replace

from melodygan_core import autoencoder, processes, vocoder
from melodygan_core.config import OptimizerConfig
from melodygan_core.store import Artifact, Store
from tests.core.made import AUTOENCODER, TEMPORAL_AUTOENCODER, VOCODER

# Critics join half way, dropout and levels are drawn, and the temporal encoder stays as it is from then on.
STEPS = OptimizerConfig(
    max_steps=12, batch_size=8, learning_rate=1e-3, warmup_steps=2, eval_every=3, device="cpu"
)
DENSE = replace(AUTOENCODER, dropout=0.3, optimizer=STEPS)
TEMPORAL = replace(TEMPORAL_AUTOENCODER, critic_channels=4, bfloat16=False, optimizer=STEPS)
# Of a gradient that is nearly nothing Adam takes the sign, which is that of its last digits.
SOUND = replace(VOCODER, adversarial_from=0.5, optimizer=replace(STEPS, learning_rate=1e-5))


def train_all(store: Store) -> list[Artifact]:
    """A dense and a temporal autoencoder and a vocoder, on the dataset in use."""
    table = store.record("feature_table")
    assert table is not None
    return [
        autoencoder.train(table, store, DENSE),
        autoencoder.train(table, store, TEMPORAL),
        vocoder.train(table, store, SOUND),
    ]


if __name__ == "__main__":
    with processes.together():
        assert processes.count() == 2
        train_all(Store(sys.argv[1]))
