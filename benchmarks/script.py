"""A script as people write it: URLs to a trained autoencoder with four well-known tools, one after the other.

    python benchmarks/script.py FOLDER MODELS URL...

It uses yt-dlp's command, audio-separator's command, librosa and a plain PyTorch loop; `pipeline.py` compares
the graph with it. It makes what the graph makes of the same URLs (log-mel and MFCC of mix and stems, an
autoencoder of the same layers, steps and batches), without the graph's limits, checks and splits.
"""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import librosa
import numpy as np
import torch
from torch import nn

from melodygan_core.config.presets import PRESETS
from melodygan_core.sandbox.ffmpeg import on_path
from melodygan_core.separation import centre

FEATURE, MODEL = PRESETS["demo"].features, PRESETS["demo"].codecs["dense"]
SIZES = {"n_fft": FEATURE.n_fft, "hop_length": FEATURE.hop_length, "n_mels": FEATURE.n_mels, "htk": True}


def program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def download(url: str, folder: Path) -> Path:
    before = set(folder.glob("*.wav"))
    subprocess.run([program("yt-dlp"), "-q", "-x", "--audio-format", "wav", "-P", str(folder), url], check=True)
    (made,) = set(folder.glob("*.wav")) - before
    return made


def separate(wav: Path, folder: Path, models: Path) -> list[Path]:
    command = [program("audio-separator"), str(wav), "-m", centre.MODEL_FILE, "--log_level", "error"]
    command += ["--model_file_dir", str(centre.write_model(models)), "--output_dir", str(folder)]
    for name, value in centre.separator_parameters().items():
        command += [f"--mdx_{name}", str(value)]
    subprocess.run(command, check=True)
    return sorted(folder.glob(f"{wav.stem}_*.wav"))


def segments(wav: Path) -> np.ndarray:
    """Binned log-mel and MFCC of each segment: (segments, values)."""
    samples, rate = librosa.load(wav, sr=FEATURE.sample_rate)
    mel = librosa.feature.melspectrogram(y=samples, sr=rate, power=1.0, norm=None, **SIZES)
    mfcc = librosa.feature.mfcc(y=samples, sr=rate, n_mfcc=FEATURE.n_mfcc, norm="ortho", **SIZES)
    frames = np.concatenate([np.log(np.maximum(mel, FEATURE.log_floor)), mfcc]).T
    usable = frames[: len(frames) // FEATURE.segment_frames * FEATURE.segment_frames]
    binned = usable.reshape(-1, MODEL.time_bins, FEATURE.segment_frames // MODEL.time_bins, usable.shape[1])
    return binned.mean(axis=2).reshape(len(binned), -1)


def train(vectors: torch.Tensor) -> nn.Module:
    widths = [vectors.shape[1], *MODEL.hidden_sizes, *MODEL.hidden_sizes[-2::-1], vectors.shape[1]]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.LayerNorm(after), nn.GELU()]
    model = nn.Sequential(*layers[:-2])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(MODEL.optimizer.max_steps):
        batch = vectors[torch.randint(len(vectors), (MODEL.optimizer.batch_size,))]
        loss = nn.functional.mse_loss(model(batch), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            print(step, loss.item(), file=sys.stderr)
    return model


def main(folder: Path, models: Path, urls: list[str]) -> None:
    raw, stems = folder / "raw", folder / "stems"
    for path in (raw, stems):
        path.mkdir(parents=True)
    features = []
    with on_path():
        for url in urls:
            wav = download(url, raw)
            features += [segments(path) for path in (wav, *separate(wav, stems, models))]
    np.save(folder / "features.npy", np.concatenate(features))
    vectors = torch.from_numpy(np.concatenate(features)).float()
    model = train((vectors - vectors.mean(0)) / vectors.std(0).clamp(min=1e-3))
    torch.save(model.state_dict(), folder / "autoencoder.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
