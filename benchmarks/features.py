"""Features of 60 s: ours beside torchaudio, librosa and the FFT alone; and reading a file.

    python benchmarks/features.py

The implementations run in turn, round after round, so that a busy machine slows all of them alike; the best
round counts. Threads are set for torch and for numpy's BLAS. Figures are multiples of real time.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import soundfile
import torch
import torchaudio
from threadpoolctl import threadpool_limits

from melodygan_core import audio
from melodygan_core.config import FeatureConfig
from melodygan_core.features import FeatureExtractor

DURATION_S = 60
ROUNDS = 40
RATE = 44_100
# BLAS's threads spin for a while after their work and would take a core from the next implementation.
REST_S = 0.2
CONFIGS = {
    "22.05 kHz, n_fft 1024, hop 256, 80 mels, 20 MFCC": FeatureConfig(
        sample_rate=22_050, n_fft=1024, hop_length=256, bands="mel"
    ),
    "44.1 kHz, n_fft 2048, hop 512, 128 mels, 40 MFCC": FeatureConfig(
        n_fft=2048, bands="mel", n_mels=128, n_mfcc=40
    ),
    "44.1 kHz, n_fft 4096, hop 512, 80 mels, 20 MFCC; ours with 151 log bands": FeatureConfig(),
}
Way = Callable[[], object]


def torchaudio_way(wav: torch.Tensor, config: FeatureConfig) -> Way:
    sizes = {"n_fft": config.n_fft, "hop_length": config.hop_length, "n_mels": config.n_mels}
    mel = torchaudio.transforms.MelSpectrogram(config.sample_rate, power=1, **sizes)
    mfcc = torchaudio.transforms.MFCC(config.sample_rate, config.n_mfcc, log_mels=True, melkwargs=sizes)
    return lambda: (mel(wav).clamp(min=config.log_floor).log(), mfcc(wav))


def librosa_way(wav: torch.Tensor, config: FeatureConfig) -> Way:
    samples, rate = wav.numpy(), config.sample_rate
    sizes = {"n_fft": config.n_fft, "hop_length": config.hop_length, "n_mels": config.n_mels, "htk": True}

    def run() -> object:
        mel = librosa.feature.melspectrogram(y=samples, sr=rate, power=1.0, norm=None, **sizes)
        mfcc = librosa.feature.mfcc(y=samples, sr=rate, n_mfcc=config.n_mfcc, norm="ortho", **sizes)
        return np.log(np.maximum(mel, config.log_floor)), mfcc

    return run


def floor_way(wav: torch.Tensor, config: FeatureConfig) -> Way:
    """The FFTs alone, of the same frames in the same blocks, without window or padding."""
    framed = wav.unfold(0, config.n_fft, config.hop_length)
    return lambda: [torch.fft.rfft(framed[i : i + 128]) for i in range(0, len(framed), 128)]


def ours_way(wav: torch.Tensor, config: FeatureConfig) -> Way:
    extractor = FeatureExtractor(config)
    return lambda: extractor(wav)


def read_by_torchaudio(path: Path, rate: int) -> Way:
    resample = torchaudio.transforms.Resample(RATE, rate)

    # torchaudio 2.11 reads no files without torchcodec.
    def run() -> object:
        samples, _ = soundfile.read(path, dtype="float32", always_2d=True)
        return resample(torch.from_numpy(samples.T).mean(dim=0))

    return run


def read_by_us(path: Path, rate: int) -> Way:
    def run() -> object:
        wav, from_rate = audio.read_wav(path)
        return audio.resample(audio.to_mono(wav), from_rate, rate)

    return run


READERS = {
    "soundfile + torchaudio Resample": read_by_torchaudio,
    "librosa.load": lambda path, rate: lambda: librosa.load(path, sr=rate),
    "ours": read_by_us,
}
WAYS = {
    "torchaudio MelSpectrogram + MFCC": torchaudio_way,
    "librosa melspectrogram + mfcc": librosa_way,
    "ours": ours_way,
    "rfft in blocks (floor)": floor_way,
}


def measure(config: FeatureConfig, threads: int) -> dict[str, float]:
    """Times real time of each way."""
    wav = 0.1 * torch.randn(DURATION_S * config.sample_rate, generator=torch.Generator().manual_seed(0))
    torch.set_num_threads(threads)
    return timed({name: make(wav, config) for name, make in WAYS.items()}, threads)


def measure_reading(threads: int) -> dict[str, float]:
    """Times real time of reading 44.1 kHz stereo as mono at 22.05 kHz, by each way."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sound.wav"
        noise = np.random.default_rng(0).standard_normal((2, DURATION_S * RATE), dtype=np.float32)
        audio.write_wav(path, 0.1 * noise, RATE)
        return timed({name: make(path, RATE // 2) for name, make in READERS.items()}, threads)


def timed(ways: dict[str, Way], threads: int) -> dict[str, float]:
    """Times real time of each way, the best round."""
    best = dict.fromkeys(ways, float("inf"))
    with threadpool_limits(threads):
        for _ in range(ROUNDS):
            for name, way in ways.items():
                time.sleep(REST_S)
                started = time.perf_counter()
                way()
                best[name] = min(best[name], time.perf_counter() - started)
    return {name: DURATION_S / seconds for name, seconds in best.items()}


def main() -> None:
    for label, config in CONFIGS.items():
        show(label, [measure(config, threads) for threads in (1, 2)])
    show("reading 44.1 kHz stereo, to mono at 22.05 kHz", [measure_reading(threads) for threads in (1, 2)])


def show(label: str, columns: list[dict[str, float]]) -> None:
    print(f"\n{label}; {DURATION_S} s, best of {ROUNDS}")
    print(f"{'way':34s}" + "".join(f"{t} thread{'s' * (t > 1)}: x real time  ours is   " for t in (1, 2)))
    for name in columns[0]:
        cells = (f"{c[name]:22.0f}  {c['ours'] / c[name]:6.2f} x   " for c in columns)
        print(f"{name:34s}" + "".join(cells))


if __name__ == "__main__":
    main()
