"""Plans of all tracks of a dataset, at the rate of a codec's latents: the artifact `plan_table`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tqdm.auto import tqdm

from melodygan_core import codec as codecs
from melodygan_core.codec import Codec
from melodygan_core.config import VERSIONS, config_id, require
from melodygan_core.dataset import Dataset
from melodygan_core.errors import InputError, damage_errors
from melodygan_core.latents import LatentTable
from melodygan_core.plan.extract import extract
from melodygan_core.plan.files import plan_of_columns, plan_table
from melodygan_core.plan.grid import codec_grid, token_grid
from melodygan_core.plan.plan import CHANNELS, COLUMNS, PARTS, UNVOICED, Plan, channels
from melodygan_core.storage import Artifact, Store
from melodygan_core.vocoder.waveforms import track_sound

FILE = "plans.parquet"
# Mean confidence of the beat from which a track counts as having one.
_HAS_BEAT = 0.3


def name_of(codec: str) -> str:
    """The asset's name."""
    return f"{codec}/plan_table"


def tabulate(checkpoint: Artifact, dataset: Artifact, store: Store) -> Artifact:
    """Extracts the plan of every track, for each of the codec's stems.

    Args:
        checkpoint: What `codec.train` returned: its tokens are the plan's. Another training of the same codec
            has the same plans.
        dataset: Names the tracks.
        store: Has their sound, and receives the table.
    """
    with store.reading(store.at(checkpoint.uri)) as local:
        codec = codecs.load(local, "cpu")
    feature = codec.feature
    settings = {
        "token_frames": codec.token_frames,
        "sample_rate": feature.sample_rate,
        "hop_length": feature.hop_length,
        "segment_frames": feature.segment_frames,
        "stems": list(codec.stems),
    }
    version = config_id(settings, dataset.version, VERSIONS["plan"])
    return store.get_or_build(
        name_of(checkpoint.group),
        store.model(checkpoint.group, "plans", version),
        lambda folder: _write(codec, Dataset(store, dataset), store, folder / FILE),
        config=settings,
        inputs={"feature_table": dataset.version},
    )


def _write(codec: Codec, dataset: Dataset, store: Store, path: Path) -> dict[str, Any]:
    """Writes one row group per track and stem; returns the figures."""
    figures: list[dict[str, float]] = []
    writer: pq.ParquetWriter | None = None
    try:
        pairs = [(number, stem) for number in range(len(dataset.tracks)) for stem in codec.stems]
        for number, stem in tqdm(pairs, desc="plans", unit="stem", mininterval=1.0):
            plan = _plan(codec, dataset, store, number, stem)
            figures.append(_figures(plan))
            rows = _labelled(plan, dataset.tracks[number]["track_id"], stem)
            if writer is None:
                writer = pq.ParquetWriter(path, rows.schema, compression="zstd")
            writer.write_table(rows, row_group_size=max(1, len(rows)))
    finally:
        if writer is not None:
            writer.close()
    return _summary(figures)


def _plan(codec: Codec, dataset: Dataset, store: Store, number: int, stem: str) -> Plan:
    feature = codec.feature
    wav = track_sound(dataset, store, number, stem, feature.sample_rate)
    # Whole segments, as the latents have them.
    segments = -(-(1 + len(wav) // feature.hop_length) // feature.segment_frames)
    tokens = segments * (feature.segment_frames // codec.token_frames)
    return extract(wav, feature.sample_rate, codec_grid(feature, codec.token_frames), tokens)


def _labelled(plan: Plan, track_id: str, stem: str) -> pa.Table:
    rows = plan_table(plan)
    rows = rows.add_column(0, "stem", pa.array([stem] * len(plan), pa.string()))
    return rows.add_column(0, "track_id", pa.array([track_id] * len(plan), pa.string()))


def _figures(plan: Plan) -> dict[str, float]:
    audible = plan.loudness > 0
    return {
        "tokens": float(len(plan)),
        "audible": float(audible.sum()),
        "voiced": float((plan.melody != UNVOICED).sum()),
        "beat": float(plan.beat_confidence[audible].mean()) if audible.any() else 0.0,
        "bar": float(plan.bar_confidence[audible].mean()) if audible.any() else 0.0,
        "sections": float(len(np.unique(plan.section))),
        "finite": float(bool(np.isfinite(channels(plan)).all())),
    }


def _summary(figures: list[dict[str, float]]) -> dict[str, Any]:
    values = {name: np.array([row[name] for row in figures]) for name in figures[0]}
    audible = max(1.0, float(values["audible"].sum()))
    return {
        "plans": len(figures),
        "tokens": int(values["tokens"].sum()),
        "finite": bool(values["finite"].all()),
        "voiced_share": float(values["voiced"].sum()) / audible,
        "beat_confidence": float(values["beat"].mean()),
        "bar_confidence": float(values["bar"].mean()),
        "share_with_beat": float((values["beat"] >= _HAS_BEAT).mean()),
        "sections_per_track": float(values["sections"].mean()),
    }


def track_plan(table: Artifact, store: Store, track_id: str, stem: str) -> Plan:
    """Returns the plan of a track of a table.

    Raises:
        InputError: the table has no such track or stem.
        DamagedError: the table cannot be read.
    """
    path = store.at(table.uri) / FILE
    with store.reading(path) as local, damage_errors(path):
        wanted = [("track_id", "==", track_id), ("stem", "==", stem)]
        rows = pq.read_table(local, columns=list(COLUMNS), filters=wanted)
    require(len(rows) > 0, "track", track_id, f"a track of {table.name} with the stem {stem}")
    return _from_rows(rows, table)


def _from_rows(rows: pa.Table, table: Artifact) -> Plan:
    settings = table.config
    grid = token_grid(settings["token_frames"], settings["hop_length"] / settings["sample_rate"])
    return plan_of_columns(rows, grid, frozenset(PARTS))


def _plans(table: Artifact, store: Store) -> Iterator[tuple[tuple[str, str], Plan]]:
    """Yields (track, stem) and plan, one row group after the other."""
    path = store.at(table.uri) / FILE
    with store.reading(path) as local, damage_errors(path):
        source = pq.ParquetFile(local)
        for number in range(source.metadata.num_row_groups):
            rows = source.read_row_group(number)
            key = (rows["track_id"][0].as_py(), rows["stem"][0].as_py())
            yield key, _from_rows(rows, table)


def aligned(table: Artifact, latents: LatentTable, store: Store) -> NDArray[np.float16]:
    """Returns the plan channels (n, tokens, CHANNELS) of each row of a latent table.

    They lie in a nameless file that goes with them, not in memory.

    Args:
        table: What `tabulate` returned, for the codec of the latents.
        latents: Its rows are the wanted ones.
        store: Of the table.

    Raises:
        InputError: a row's track or stem has no plan, or the tokens differ.
    """
    count, tokens = latents.latents.shape[:2]
    settings = table.config
    own = settings["segment_frames"] // settings["token_frames"]
    require(own == tokens, table.name, f"{own} tokens per segment", f"of {tokens}, as the latents")
    rows_of: dict[tuple[str, str], list[int]] = {}
    for row, key in enumerate(zip(latents.track_id.tolist(), latents.stem.tolist(), strict=True)):
        rows_of.setdefault(key, []).append(row)
    with tempfile.TemporaryFile(dir=store.work("scratch")) as file:
        made = np.memmap(file, np.float16, "w+", shape=(count, tokens, CHANNELS))
        for key, plan in _plans(table, store):
            rows = np.array(rows_of.pop(key, ()), np.int64)
            if len(rows):
                made[rows] = channels(plan).reshape(-1, tokens, CHANNELS)[latents.index[rows]]
    if rows_of:
        track_id, stem = next(iter(rows_of))
        raise InputError(f"{table.name} must have the plan of {stem} of {track_id}: make the table again")
    return made
