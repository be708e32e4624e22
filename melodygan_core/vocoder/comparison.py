"""Compares vocoders on spectra of test tracks: distance to the truth, speed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from melodygan_core import metrics
from melodygan_core.dataset import Dataset
from melodygan_core.features import FeatureExtractor
from melodygan_core.storage import Store
from melodygan_core.vocoder.bands import LogBands
from melodygan_core.vocoder.losses import stft_distance
from melodygan_core.vocoder.waveforms import WaveformDataset, longest_span

TEST_WINDOWS = 150
WINDOW_S = 3.0
# Windows that a vocoder makes at once.
BATCH = 16


def _ignore(name: str, real: Tensor, fake: Tensor) -> None:
    """A listener that does nothing."""


@torch.no_grad()
def compare(
    dataset: Dataset,
    store: Store,
    stems: Sequence[str],
    vocoders: Mapping[str, Callable[[Tensor], Tensor]],
    device: torch.device,
    work: Path,
    windows: int = TEST_WINDOWS,
    heard: Callable[[str, Tensor, Tensor], None] = _ignore,
) -> dict[str, float | str | None]:
    """Runs vocoders on the same spectra of test tracks and measures their sound.

    All distances are to the real sound of the same windows, and so is `kad`, which is 0 for the real sound
    itself. `excess_kad` is the KAD to validation tracks minus that of the real sound. Both are computed by
    track. `kad` compares the same tracks and needs two of them; `excess_kad` compares with other music and
    needs five tracks in both splits. Without these they are None. `times_real_time` is the throughput in
    batches of BATCH windows, with the copies to and from the device.

    Args:
        dataset: Has the test tracks.
        store: Has their sound.
        stems: Which stems.
        vocoders: Name to spectrum (batch, n_bands, frames) -> wav; models in evaluation mode, on the device.
        device: Where they are measured.
        work: Folder of the decoded sound.
        windows: Most windows of test tracks, and of validation tracks.
        heard: Called with the name of each vocoder, the real sound and its own, (windows, samples) each.

    Returns:
        `test/<name>/{kad,excess_kad,log_bands_l1,stft,times_real_time}`; `test/kad_groups`, the
        number of test tracks; `test/device`, where all were measured.
    """
    feature = dataset.feature
    samples = min(
        round(WINDOW_S * feature.frame_rate) * feature.hop_length,
        *(longest_span(dataset, split, stems) for split in ("test", "validation")),
    )
    splits = [WaveformDataset(dataset, store, split, stems, samples, work) for split in ("test", "validation")]
    real, others = (split.evenly_spaced(windows) for split in splits)
    real_tracks, other_tracks = (split.evenly_spaced_tracks(windows) for split in splits)
    spectrum_of, extract = LogBands(feature), FeatureExtractor(feature)
    spectrum = spectrum_of(real)

    def embedded(wavs: Tensor) -> np.ndarray:
        return metrics.embed(np.stack([extract(w)["log_mel"].numpy() for w in wavs]), feature.frame_rate)

    reference, original = embedded(others), embedded(real)
    figures: dict[str, float | str | None] = {
        "test/device": device.type,
        "test/kad_groups": float(metrics.fewest_groups(real_tracks)),
    }

    def kad_to_real(embeddings: np.ndarray) -> float | None:
        if metrics.fewest_groups(real_tracks) < metrics.MIN_GROUPS:
            return None
        return metrics.kad(original, embeddings, real_tracks, real_tracks, shared_groups=True)

    def excess_kad(embeddings: np.ndarray) -> float | None:
        if metrics.too_few_groups(real_tracks, other_tracks):
            return None
        fake_kad, real_kad = (
            metrics.kad(reference, e, other_tracks, real_tracks) for e in (embeddings, original)
        )
        return fake_kad - real_kad

    for name, vocode in vocoders.items():
        fake, elapsed_s = _vocoded(name, vocode, spectrum, device)
        heard(name, real, fake)
        embeddings = embedded(fake)
        figures |= {
            f"test/{name}/kad": kad_to_real(embeddings),
            f"test/{name}/excess_kad": excess_kad(embeddings),
            f"test/{name}/log_bands_l1": float(F.l1_loss(spectrum_of(fake), spectrum)),
            f"test/{name}/stft": float(stft_distance(fake, real, feature.sample_rate)),
            f"test/{name}/times_real_time": fake.numel() / feature.sample_rate / elapsed_s,
        }
    return figures


def _vocoded(
    name: str, vocode: Callable[[Tensor], Tensor], spectrum: Tensor, device: torch.device
) -> tuple[Tensor, float]:
    """Wavs of spectra, on the CPU, and the seconds that they took."""
    # The first call on a GPU loads its kernels.
    vocode(spectrum[:1].to(device)).cpu()
    started = time.monotonic()
    # A copy to the CPU waits until the GPU is done.
    batches = tqdm(spectrum.split(BATCH), desc=f"{name} vocoder", unit="batch")
    wavs = [vocode(batch.to(device)).cpu() for batch in batches]
    return torch.cat(wavs), time.monotonic() - started
