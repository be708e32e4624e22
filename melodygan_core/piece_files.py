"""Generated pieces as arrays, and the files that they become. Nothing here needs torch."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from melodygan_core import audio
from melodygan_core.config import FeatureConfig, GenerationConfig, to_dict
from melodygan_core.errors import InputError, MelodyGANError
from melodygan_core.progress import Progress, tracked
from melodygan_core.storage import dump_json, replacing
from melodygan_core.storage.files import named_errors

# Music lies around full scale at the vocoder's output; what is far above is noise at the vocoder's limit.
MAX_PEAK_DB = 40.0
# Less than half the smallest step of 16 bits.
MIN_PEAK_DB = -96.0


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One generated piece.

    Attributes:
        index: Which of its seed.
        condition: Name of its condition; empty for none.
        latents: (tokens, latent_dim).
        vectors: (tokens, values) feature vectors, of a codec that has them; None otherwise.
        wav: (channels, samples) float32, at the level that the vocoder gave it.
    """

    index: int
    condition: str
    latents: NDArray[np.float32]
    vectors: NDArray[np.float32] | None
    wav: NDArray[np.float32]


def piece_seed(seed: int, index: int) -> int:
    """The seed of piece `index` of a request's seed: 63 bits."""
    return int(np.random.SeedSequence((seed, index)).generate_state(1, np.uint64)[0] >> 1)


def random_condition(seed: int, conditions: int) -> int:
    """The condition of a piece for which none is asked.

    Args:
        seed: Of the piece; see piece_seed.
        conditions: How many there are, at least 1.
    """
    return int(np.random.default_rng(seed).integers(conditions))


def frames_of(duration_s: float, feature: FeatureConfig) -> int:
    """Frames of a piece of so many seconds: one more than hops, as in a centred STFT."""
    return math.ceil(duration_s * feature.frame_rate) + 1


def condition_index(conditions: tuple[str, ...], name: str) -> int:
    """The index of a condition.

    Raises:
        InputError: unknown; the message lists the known ones.
    """
    if name not in conditions:
        known = ", ".join(conditions) if conditions else "none: this model was trained without conditions"
        raise InputError(f"condition must be {known}, got {name!r}")
    return conditions.index(name)


def check_sound(wav: NDArray[np.float32], name: str, *, silence: bool = False) -> None:
    """Checks that a sound of a vocoder can be music.

    Args:
        wav: Of any shape, as the vocoder gave it.
        name: What it is, for the error.
        silence: Whether it may be silent.

    Raises:
        MelodyGANError: it is not finite, clipped noise, or silent.
    """
    advice = "its models are damaged or diverged: take another seed or release"
    if not np.isfinite(wav).all():
        raise MelodyGANError(f"{name} must be finite, got NaN or infinite samples; {advice}")
    peak_db = audio.peak_db(wav)
    if peak_db > MAX_PEAK_DB:
        raise MelodyGANError(
            f"{name} must peak at {MAX_PEAK_DB:g} dB of full scale or below, got {peak_db:.0f} dB: noise;"
            f" {advice}"
        )
    if peak_db < MIN_PEAK_DB and not silence:
        raise MelodyGANError(f"{name} must be audible, got silence; {advice}")


def _write_table(path: Path, name: str, values: list[NDArray[np.float32]], samples: list[int]) -> None:
    """Writes one row per position of a sample: `sample`, `position`, and its values as a list."""
    flat = np.concatenate(values)
    column = pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1), pa.float32()), flat.shape[1])
    owner = [s for s, v in zip(samples, values, strict=True) for _ in range(len(v))]
    position = [i for v in values for i in range(len(v))]
    table = pa.table({"sample": owner, "position": position, name: column})
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def write_pieces(
    made: Iterable[Piece],
    config: GenerationConfig,
    sample_rate: int,
    folder: Path,
    provenance: dict[str, Any],
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Writes `sample-000.wav` and its `.json` per piece, and all latents and vectors as Parquet.

    All pieces of one call have one loudness: where one is limited by its peak, all are lowered with it.

    Args:
        made: The pieces, `config.count` of them.
        config: How many, how long, which seed.
        sample_rate: Of their sound, in Hz.
        folder: Exists; files of the same names are replaced.
        provenance: Goes into every sample's JSON (model and data versions, sources, licences).
        progress: Called after every piece.

    Returns:
        One summary per sample.
    """
    silent: list[Piece] = []
    levels: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory(prefix="melodygan-") as scratch:
        # The level of all is known when the last one is made: until then sounds wait on disk, not in memory.
        for piece in tracked(made, config.count, "generate", progress):
            levels.append((audio.loudness_lufs(piece.wav, sample_rate), audio.peak_db(piece.wav)))
            with named_errors(Path(scratch)):
                np.save(Path(scratch) / f"{piece.index}.npy", piece.wav)
            silent.append(replace(piece, wav=piece.wav[:, :0]))
        loudness, peaks = ([level[k] for level in levels] for k in (0, 1))
        gains = audio.matched_gains(loudness, peaks, config.loudness_lufs)
        summaries = []
        for piece, gain_db in zip(silent, gains, strict=True):
            wav = audio.amplify(np.load(Path(scratch) / f"{piece.index}.npy"), gain_db)
            facts = {"generation": to_dict(config), **provenance}
            summaries.append(_write_piece(replace(piece, wav=wav), sample_rate, config.seed, folder, facts))
    indices = [s["index"] for s in summaries]
    _write_table(folder / "latents.parquet", "latents", [p.latents for p in silent], indices)
    vectors = [p.vectors for p in silent if p.vectors is not None]
    if vectors:
        _write_table(folder / "vectors.parquet", "vectors", vectors, indices)
    return summaries


def sample_name(index: int) -> str:
    """The name of a piece's files, without their suffix."""
    return f"sample-{index:03d}"


def _write_piece(piece: Piece, rate: int, seed: int, folder: Path, facts: dict[str, Any]) -> dict[str, Any]:
    name, wav = sample_name(piece.index), piece.wav
    with replacing(folder / f"{name}.wav") as temporary:
        audio.write_wav(temporary, wav, rate)
    summary = {
        "file": f"{name}.wav",
        "index": piece.index,
        "seed": seed,
        "condition": piece.condition,
        "duration_s": round(wav.shape[1] / rate, 3),
        "sample_rate": rate,
        "channels": len(wav),
        "peak_db": round(audio.peak_db(wav), 2),
        "loudness_lufs": round(audio.loudness_lufs(wav, rate), 2),
    }
    with replacing(folder / f"{name}.json") as temporary:
        dump_json(temporary, {**summary, **facts})
    return summary
