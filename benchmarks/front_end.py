"""How much pitch a front-end keeps: the demo's songs through bands and Griffin-Lim, by constant-Q magnitudes.

    python benchmarks/front_end.py

Nothing is trained. Figures are correlations with the original, which has 1 (`evaluation.pitch`): the ceiling of
every codec and vocoder over such bands, but for what a vocoder knows of music.
"""

from __future__ import annotations

import numpy as np
import torch

from melodygan_core.config import FeatureConfig, GriffinLimConfig
from melodygan_core.config.presets import preset
from melodygan_core.demo import songs
from melodygan_core.evaluation.pitch import pitch_figures
from melodygan_core.features import FeatureExtractor
from melodygan_core.vocoder import GriffinLim

SONGS, DURATION_S = 4, 5.0
FRONT_ENDS = {
    "80 mel, n_fft 1024, 22.05 kHz (version 0.1)": FeatureConfig(
        sample_rate=22_050, n_fft=1024, hop_length=256, bands="mel"
    ),
    "128 mel, n_fft 2048, 44.1 kHz": FeatureConfig(n_fft=2048, bands="mel", n_mels=128),
    "log bands of `demo`": preset("demo").features,
    "log bands of `small`": preset("small").features,
    "log bands of `base`": preset("base").features,
}


def main() -> None:
    """Prints a table."""
    registers = ("40-160", "160-640", "640-2560")
    print("| front-end | bands | " + " | ".join(f"{r} Hz" for r in registers) + " |")
    for name, feature in FRONT_ENDS.items():
        extract, vocode = FeatureExtractor(feature), GriffinLim(feature, GriffinLimConfig())
        pairs = []
        for index in range(SONGS):
            song = songs.render(index, sample_rate=feature.sample_rate, duration_s=DURATION_S)
            wav = song.mix.mean(axis=0).astype(np.float32)
            bands = extract(torch.from_numpy(wav))[feature.spectrum]
            pairs.append((wav, vocode(bands[None])[0].numpy()))
        found = pitch_figures(pairs, feature.sample_rate)
        figures = " | ".join(f"{found[f'pitch/{r}']:.2f}" for r in registers)
        print(f"| {name} | {feature.n_bands} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
