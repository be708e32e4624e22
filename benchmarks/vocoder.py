"""Seconds of sound per second: the neural vocoder of each preset beside Griffin-Lim, in one run.

    python benchmarks/vocoder.py

Both take the same spectra of 10 s of noise, in turn, round after round; the best round counts. The weights are
untrained, which costs as much time as trained ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from melodygan_core.config.presets import PRESETS
from melodygan_core.features import FeatureExtractor
from melodygan_core.vocoder import GriffinLim, NeuralVocoder

DURATION_S = 10
ROUNDS = 5


def main() -> None:
    """Prints a table."""
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for name, preset in PRESETS.items():
            feature = preset.features
            noise = torch.randn(DURATION_S * feature.sample_rate, generator=torch.Generator().manual_seed(0))
            spectrum = FeatureExtractor(feature)(0.1 * noise)[feature.spectrum][None]
            neural = NeuralVocoder(preset.vocoder, feature).eval()
            griffin_lim = GriffinLim(feature, preset.griffin_lim)
            ways: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
                "neural": neural,
                "griffin_lim": griffin_lim,
            }
            best = dict.fromkeys(ways, float("inf"))
            with torch.no_grad():
                for _ in range(ROUNDS):
                    for way, make in ways.items():
                        started = time.perf_counter()
                        make(spectrum)
                        best[way] = min(best[way], time.perf_counter() - started)
            rates = {way: DURATION_S / elapsed_s for way, elapsed_s in best.items()}
            print(
                f"{threads} threads, {name}: neural {rates['neural']:.0f}x real time, Griffin-Lim "
                f"{rates['griffin_lim']:.0f}x, ratio {rates['neural'] / rates['griffin_lim']:.1f}"
            )


if __name__ == "__main__":
    main()
