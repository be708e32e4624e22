"""What services share: reading sound files, encoding, filtering and writing them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from melodygan_core import audio
from melodygan_core.catalogue.tracks import slug
from melodygan_core.codec import Decoded
from melodygan_core.config import DownloadConfig, FeatureConfig, require
from melodygan_core.errors import InputError, TrackError
from melodygan_core.features import FeatureExtractor, mel_filterbank
from melodygan_core.piece_files import check_sound
from melodygan_core.pipeline import Pipeline
from melodygan_core.progress import Progress, tracked
from melodygan_core.release import Release
from melodygan_core.sandbox import decoder
from melodygan_core.services.output import ServiceResult, SoundFile, output_folder
from melodygan_core.storage import dump_json, replacing, sha256_of

# Sound at the rate of a pipeline: (channels, samples), one or two channels as its features have.
Samples = NDArray[np.float32]

MIN_S, MAX_S = 0.5, 1200.0
# What is made of a quieter sound may be silent.
MIN_AUDIBLE_DB = -60.0
# A filter amplifies no band by more than this over the others: what is not there would become hiss.
_MOST_DB = 20.0


def load_sound(path: Path, feature: FeatureConfig, name: str = "sound") -> Samples:
    """A sound or video file (channels, samples) at the features' rate, with the features' number of channels.

    It is decoded in a child with limits, because files may come from strangers; a playlist is refused.

    Args:
        path: File on this machine.
        feature: Features whose rate the sound gets.
        name: Field of the request that names the file, for errors.

    Raises:
        InputError: no such file, no sound in it, or shorter than half a second or longer than 20 minutes.
    """
    require(path.is_file(), name, str(path), "an existing sound file (wav, flac, ogg, mp3, ...)")
    config = DownloadConfig(max_duration_s=MAX_S)
    with tempfile.TemporaryDirectory(prefix="melodygan-") as scratch:
        try:
            raw, _ = decoder.decode(path.resolve(), Path(scratch), config)
        except TrackError as error:
            raise InputError(f"{path}: {error}") from error
        stereo = np.fromfile(raw, dtype="<f4").reshape(-1, decoder.CHANNELS)
    wav = np.ascontiguousarray(np.nan_to_num(stereo, nan=0.0, posinf=0.0, neginf=0.0).T)
    if feature.channels == 1:
        wav = audio.to_mono(wav)[None]
    length_s = wav.shape[1] / config.sample_rate
    require(
        MIN_S <= length_s <= MAX_S,
        f"the length of {path}",
        f"{length_s:.2f} s",
        f"{MIN_S:g} to {MAX_S:g} s",
    )
    return audio.resample(wav, config.sample_rate, feature.sample_rate)


def log_mel_of(wav: Samples, feature: FeatureConfig) -> Tensor:
    """(channels, samples) -> (frames, n_mels), natural log of magnitude."""
    return features_of(audio.to_mono(wav)[None], feature)["log_mel"].T


def features_of(wav: Samples, feature: FeatureConfig) -> dict[str, Tensor]:
    """(channels, samples) -> every column of features (values, frames)."""
    mid, side = torch.from_numpy(audio.to_mono(wav)), None
    if len(wav) == 2 and not np.array_equal(wav[0], wav[1]):
        side = torch.from_numpy((wav[0] - wav[1]) / 2)
    return FeatureExtractor(feature)(mid, side)


def encode_sound(pipeline: Pipeline, wav: Samples) -> tuple[Tensor, int]:
    """(channels, samples) -> latents (1, tokens, latent_dim), and the frames of the sound.

    The last token is filled with silence.
    """
    feature, size = pipeline.feature, pipeline.codec.token_frames
    samples = wav.shape[1]
    frames = samples // feature.hop_length + 1
    padded_frames = -(-frames // size) * size
    missing = padded_frames * feature.hop_length - 1 - samples
    found = features_of(np.pad(wav, ((0, 0), (0, missing))), feature)
    return pipeline.encode({name: x.T[None, :padded_frames] for name, x in found.items()}), frames


def vocode(pipeline: Pipeline, decoded: Decoded, samples: int) -> Samples:
    """Decoded frames (1, frames, ...) through the vocoder -> (channels, samples)."""
    wav = pipeline.sound(decoded)[0].numpy()
    return np.pad(wav, ((0, 0), (0, max(0, samples - wav.shape[1]))))[:, :samples]


def safe_name(path: Path) -> str:
    """A file name from the name of a stranger's file."""
    return slug(path.stem, 60) or "sound"


def describe_input(path: Path) -> dict[str, str]:
    """What provenance holds of an input file."""
    return {"file": path.name, "sha256": sha256_of(path)}


class MadeSound(NamedTuple):
    """A sound that a service made and that is not written yet.

    Attributes:
        name: Of the file, without suffix.
        wav: (channels, samples) at the pipeline's rate.
        like: (channels, samples) of the sound whose loudness it gets; None for a level that stays.
        figures: What the service measured of it.
    """

    name: str
    wav: Samples
    like: Samples | None
    figures: dict[str, float]


def write_sounds(
    release: Release,
    made: Iterable[MadeSound],
    total: int,
    facts: dict[str, Any],
    out: Path,
    *,
    overwrite: bool,
    progress: Progress | None,
) -> ServiceResult:
    """Writes sounds as they are made, each with its provenance as JSON beside it.

    Args:
        release: Release that made them.
        made: The sounds.
        total: Number of sounds.
        facts: What the provenance of each says of the call; `service` is its name.
        out: A new or empty folder.
        overwrite: Replace a folder that holds something.
        progress: Called at the start and after every sound; None where the making of a sound reports its parts.

    Raises:
        InputError: a folder that is not empty.
        MelodyGANError: a sound is not finite, clipped noise, or silent where the one that it is like is not.
    """
    with output_folder(out, overwrite=overwrite) as folder:
        sounds = [
            _write(release, folder, sound, facts) for sound in tracked(made, total, facts["service"], progress)
        ]
    return ServiceResult(sounds, release.manifest.sources["licences"])


def _write(release: Release, folder: Path, made: MadeSound, facts: dict[str, Any]) -> SoundFile:
    rate, wav, like = release.pipeline.feature.sample_rate, made.wav, made.like
    silence = like is None or audio.peak_db(like) < MIN_AUDIBLE_DB
    check_sound(wav, f"{made.name}.wav", silence=silence)
    if like is not None:
        # Two equal channels are 3 dB louder than one.
        like = audio.to_mono(like)[None] if len(wav) == 1 else like
        wav = audio.normalise_loudness(wav, rate, audio.loudness_lufs(like, rate))
    with replacing(folder / f"{made.name}.wav") as temporary:
        audio.write_wav(temporary, wav, rate)
    sound = SoundFile(
        file=f"{made.name}.wav",
        duration_s=round(wav.shape[1] / rate, 3),
        sample_rate=rate,
        peak_db=round(audio.peak_db(wav), 2),
        loudness_lufs=round(audio.loudness_lufs(wav, rate), 2),
        figures={k: round(float(v), 4) for k, v in made.figures.items()},
    )
    with replacing(folder / f"{made.name}.json") as temporary:
        dump_json(temporary, {**sound.to_dict(), **facts, **release.provenance})
    return sound


def filtered(wav: Samples, gain: Tensor, feature: FeatureConfig) -> Samples:
    """A sound with its bands made louder and softer over time; phase and all detail within a band stay.

    Args:
        wav: (channels, samples)
        gain: (frames, n_mels), natural log; its mean over everything is taken off, and the rest bounded.
        feature: Of the frames and bands.

    Returns:
        (channels, samples), as loud (RMS) as the wav was.
    """
    bound = _MOST_DB / 20 * np.log(10)
    gain = (gain - gain.mean()).clamp(-bound, bound)
    window = torch.hann_window(feature.n_fft)
    size = {"n_fft": feature.n_fft, "hop_length": feature.hop_length, "window": window}
    # The STFT reflects half a window, which a very short sound does not have.
    samples = wav.shape[1]
    padded = np.pad(wav, ((0, 0), (0, max(0, feature.n_fft - samples))))
    spectrum = torch.stft(torch.from_numpy(padded), **size, return_complex=True)
    factor = _to_bins(gain, feature).T.exp()
    factor = F.pad(factor, (0, max(0, spectrum.shape[2] - factor.shape[1])), value=1.0)
    made = torch.istft(spectrum * factor[:, : spectrum.shape[2]], **size, length=padded.shape[1])[:, :samples]
    power, wanted = float(made.square().mean()), float(np.square(wav, dtype=np.float64).mean())
    return made.numpy() * np.float32(np.sqrt(wanted / power)) if power > 0 else made.numpy()


def _to_bins(gain: Tensor, feature: FeatureConfig) -> Tensor:
    """(frames, n_mels) -> (frames, n_fft // 2 + 1): the mean of the bands that a bin lies in."""
    weights = mel_filterbank(feature)
    inside = weights.sum(dim=1) > 0
    bins = torch.arange(len(weights))[inside]
    # Below the lowest band and above the highest, and between bands narrower than a bin, the nearest one's.
    nearest = bins[(torch.arange(len(weights))[:, None] - bins[None]).abs().argmin(dim=1)]
    share = weights / weights.sum(dim=1, keepdim=True).clamp_min(1e-12)
    return gain @ share[nearest].T
