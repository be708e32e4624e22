"""The neural vocoder beside Griffin-Lim: the same log-mels of test tracks, distances to the truth, speed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from melodygan_core import metrics
from melodygan_core.dataset import Dataset
from melodygan_core.features import FeatureExtractor
from melodygan_core.storage.store import Store
from melodygan_core.vocoder.griffin_lim import GriffinLim
from melodygan_core.vocoder.losses import stft_distance
from melodygan_core.vocoder.neural import NeuralVocoder
from melodygan_core.vocoder.task import LogMel
from melodygan_core.vocoder.waveforms import WaveformDataset, longest

WINDOWS = 150
WINDOW_S = 3.0


@torch.no_grad()
def beside_griffin_lim(dataset: Dataset, store: Store, vocoder: NeuralVocoder, work: Path) -> dict[str, float]:
    """Both on the same log-mels of test tracks, on this machine's CPU.

    All distances are to the true sound of the same windows, and so is `kad`: below 0 where the set cannot be
    told from its original. `excess_kad` is how far the KAD to validation tracks is from that of the true sound.

    Returns:
        `test/{neural,griffin_lim}/{kad,excess_kad,log_mel_l1,stft,times_real_time}`.
    """
    feature, stems = dataset.feature, vocoder.config.stems
    samples = min(
        round(WINDOW_S * feature.frame_rate) * feature.hop_length,
        *(longest(dataset, split, stems) for split in ("test", "validation")),
    )
    truth, others = (
        WaveformDataset(dataset, store, split, stems, samples, work).evenly_spaced(WINDOWS)
        for split in ("test", "validation")
    )
    log_mel_of, extract = LogMel(feature), FeatureExtractor(feature)
    log_mel = log_mel_of(truth)

    def embedded(wavs: Tensor) -> np.ndarray:
        return metrics.embed(np.stack([extract(w)[0].numpy() for w in wavs]), feature.frame_rate)

    reference, original, figures = embedded(others), embedded(truth), {}
    sigma = metrics.median_distance(reference)
    floor = metrics.kad(reference, original, sigma)
    ways: dict[str, Callable[[Tensor], Tensor]] = {"neural": vocoder, "griffin_lim": GriffinLim(feature)}
    for name, way in ways.items():
        started = time.monotonic()
        made = torch.cat([way(part) for part in tqdm(log_mel.split(1), desc=f"{name} vocoder", unit="window")])
        elapsed_s = time.monotonic() - started
        embeddings = embedded(made)
        figures |= {
            f"test/{name}/kad": metrics.kad(original, embeddings),
            f"test/{name}/excess_kad": metrics.kad(reference, embeddings, sigma) - floor,
            f"test/{name}/log_mel_l1": float(F.l1_loss(log_mel_of(made), log_mel)),
            f"test/{name}/stft": float(stft_distance(made, truth)),
            f"test/{name}/times_real_time": made.numel() / feature.sample_rate / elapsed_s,
        }
    return figures
