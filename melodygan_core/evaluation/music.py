"""Pulse, harmony, melody and form of generated pieces, beside real music and real music out of order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tqdm.auto import tqdm

from melodygan_core.config import EvaluationConfig
from melodygan_core.dataset import Dataset
from melodygan_core.generation import Piece
from melodygan_core.metrics import music
from melodygan_core.storage import Artifact, Store
from melodygan_core.vocoder.waveforms import longest_span, track_sound

# Of a generated set, in the order of tables and pictures. `reference` is test tracks.
SETS = ("reference", "real_baseline", "shuffled", "generated")
REFERENCE, SHUFFLED, GENERATED = "reference", "shuffled", "generated"
# In shorter excerpts there is no pulse to measure.
MIN_EXCERPT_S = 4.0
VALUES = "music.parquet"

Excerpt = tuple[object, NDArray[np.floating]]


def music_figures(
    dataset: Dataset,
    store: Store,
    stem: str,
    made: Sequence[Piece],
    config: EvaluationConfig,
    folder: Path,
) -> dict[str, Any]:
    """Measures excerpts of test and validation tracks, of shuffled test tracks and of generated pieces.

    All excerpts have one length: `config.music_s`, or less where no piece or no track is so long. At most
    `config.music_excerpts` of each set are measured, evenly over its tracks or pieces. Writes every value to
    `music.parquet`.

    Args:
        dataset: With the real tracks.
        store: Has their sound.
        stem: The first stem of the models.
        made: The generated pieces.
        config: Length and number of excerpts, seed of the shuffling.
        folder: Of the evaluation.

    Returns:
        `music`: Rows of `metrics.music.compare_music`.
        `music/excerpt_s`: Length of the excerpts.
        `music/mean_ks/SET`: Mean distance of each set to the test tracks over all measures that have one.
        `music/ks/MEASURE`: That of the generated set.
        `music/note`: Why nothing, or only a part, was measured; empty if everything was.
    """
    feature = dataset.feature
    excerpt_s = min(
        config.music_s,
        min(piece.wav.shape[-1] for piece in made) / feature.sample_rate,
        *(longest_span(dataset, s, (stem,)) / feature.sample_rate for s in ("test", "validation")),
    )
    if excerpt_s < MIN_EXCERPT_S:
        write_values({}, folder / VALUES)
        note = f"excerpts too short ({excerpt_s:.1f} s of at least {MIN_EXCERPT_S:g} s)"
        return {"music": [], "music/excerpt_s": excerpt_s, "music/note": note}
    # Less than a frame short, so that rounding asks for no segment more than there is.
    size = int(excerpt_s * feature.sample_rate)
    rate, most = feature.sample_rate, config.music_excerpts
    real = {
        name: _real_excerpts(dataset, store, split, stem, size, most)
        for name, split in (("reference", "test"), ("real_baseline", "validation"))
    }
    shuffled = [
        (track, music.time_shuffled(wav, rate, config.seed + k))
        for k, (track, wav) in enumerate(real[REFERENCE])
    ]
    picked = np.unique(np.linspace(0, len(made) - 1, min(len(made), most)).round().astype(int))
    generated: list[Excerpt] = [(f"piece {k}", made[k].wav[..., :size]) for k in picked]
    excerpts = real | {SHUFFLED: shuffled, GENERATED: generated}
    sets = {name: _measured(name, excerpts[name], rate) for name in SETS}
    write_values(music.values_of(sets, REFERENCE), folder / VALUES)
    rows = music.compare_music(sets, REFERENCE)
    means = {name: music.mean_ks(rows, name) for name in SETS if name != REFERENCE}
    notes = sorted({str(row["note"]) for row in rows if row["note"]})
    return {
        "music": rows,
        "music/excerpt_s": size / rate,
        "music/note": "; ".join(notes),
        **{f"music/mean_ks/{name}": value for name, value in means.items() if value is not None},
        **{f"music/ks/{r['measure']}": r["ks"] for r in rows if r["set"] == GENERATED and r["ks"] is not None},
    }


def _real_excerpts(
    dataset: Dataset, store: Store, split: str, stem: str, size: int, most: int
) -> list[Excerpt]:
    """Excerpts of `size` samples of usable sound, each with its track."""
    feature = dataset.feature
    rows, length = dataset.windows(split, stem, size / feature.sample_rate, most)
    starts = dataset.start(rows)[::length] * feature.segment_frames * feature.hop_length
    found: list[Excerpt] = []
    opened, sound = -1, np.empty(0, np.float32)
    for track, start in zip(rows.track[::length].tolist(), starts.tolist(), strict=True):
        if track != opened:
            opened, sound = track, track_sound(dataset, store, track, stem, feature.sample_rate)
        excerpt = sound[..., start : start + size]
        # The last segment of a track may be padded.
        missing = size - excerpt.shape[-1]
        found.append((track, np.pad(excerpt, [*[(0, 0)] * (excerpt.ndim - 1), (0, missing)])))
    return found


def _measured(name: str, excerpts: Sequence[Excerpt], rate: int) -> music.MeasuredSet:
    progress = tqdm(excerpts, desc=f"music of {name}", unit="excerpt", mininterval=1.0)
    return music.MeasuredSet(
        [music.measure(wav, rate) for _, wav in progress], [group for group, _ in excerpts]
    )


def write_values(values: dict[str, dict[str, list[float]]], path: Path) -> None:
    """Writes set, measure and value, one row per excerpt and measure."""
    rows = [
        {"set": name, "measure": measure, "value": value}
        for name, measures in values.items()
        for measure, found in measures.items()
        for value in found
    ]
    schema = pa.schema([("set", pa.string()), ("measure", pa.string()), ("value", pa.float64())])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)


def music_values(evaluation: Artifact, store: Store) -> dict[str, dict[str, list[float]]]:
    """Returns the values of an evaluation: measure, set, one value per excerpt; none of one without them.

    Args:
        evaluation: Of a pipeline.
        store: That holds it.
    """
    path = store.at(evaluation.uri) / VALUES
    if not path.exists():
        return {}
    with store.reading(path) as local:
        rows = pq.read_table(local).to_pylist()
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        found.setdefault(row["measure"], {}).setdefault(row["set"], []).append(row["value"])
    return found


def music_table(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns one row per measure: medians and quartiles of real and generated music, and distances to real."""
    by_key = {(row["measure"], row["set"]): row for row in rows}
    table = []
    for measure in music.MEASURES:
        cells = {name: by_key[measure, name] for name in SETS if (measure, name) in by_key}
        if len(cells) < len(SETS):
            continue
        real, generated = cells[REFERENCE], cells[GENERATED]
        notes = [row["note"] for row in cells.values() if row["note"]]
        table.append(
            {
                "measure": measure,
                "unit": music.UNITS.get(measure, ""),
                "real": real["median"],
                "real_low": real["low"],
                "real_high": real["high"],
                "generated": generated["median"],
                **{f"ks_{name}": cells[name]["ks"] for name in SETS if name != REFERENCE},
                "note": notes[0] if notes else "",
            }
        )
    return table
