"""The index of shards: which rows of which shard belong to a track, updated incrementally.

`shards/<dataset_id>/` holds `index.parquet` and Arrow shards, named by their content; a shard never changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tqdm.auto import tqdm
from upath import UPath

from melodygan_core import catalogue, features
from melodygan_core.config import STEMS, VERSIONS, DatasetConfig, FeatureConfig, SeparationConfig, config_id
from melodygan_core.errors import DamagedError, InputError, MelodyGANError, damage_errors, storage_reason
from melodygan_core.storage import Store, list_files


@dataclass
class Entry:
    """One track of the index: the position of its usable rows and their sums.

    `fingerprint` identifies the feature file, `group` the content of the raw wav.
    """

    track_id: str
    fingerprint: str
    group: str
    duration_s: float
    shard: str = ""
    row_start: int = 0
    rows: int = 0
    rows_by_stem: list[int] = field(default_factory=lambda: [0] * len(STEMS))
    unusable: int = 0
    # (stem, (count, sum, sum of squares)) over frames, flattened: float64, 3 x (1 + 2 x values of all columns).
    # Not compared: they follow from the feature file, which the fingerprint identifies.
    sums: NDArray[np.float64] = field(default_factory=lambda: np.empty(0), compare=False)


SCHEMA = pa.schema(
    [
        ("track_id", pa.string()),
        ("fingerprint", pa.string()),
        ("group", pa.string()),
        ("duration_s", pa.float64()),
        ("shard", pa.string()),
        ("row_start", pa.int64()),
        ("rows", pa.int64()),
        ("rows_by_stem", pa.list_(pa.int64())),
        ("unusable", pa.int64()),
        ("sums", pa.list_(pa.float64())),
    ]
)


def dataset_id(config: FeatureConfig, separation: SeparationConfig) -> str:
    """Returns the hash of everything that determines the content of a shard."""
    return config_id(features.feature_id(config, separation), VERSIONS["dataset"])


def _listing(folder: UPath) -> dict[str, str]:
    # Size and time reveal a rewritten file without reading it.
    return {
        name.removesuffix(".parquet"): f"{stat.bytes}-{stat.modified}"
        for name, stat in list_files(folder).items()
        if name.endswith(".parquet") and not name.startswith(".")
    }


def _sums(table: pa.Table, config: FeatureConfig) -> NDArray[np.float64]:
    return _sums_of(table, [features.values_of(table, config, name) for name in config.columns])


def _sums_of(table: pa.Table, values: Sequence[NDArray[np.float16]]) -> NDArray[np.float64]:
    """The sums of an entry, from columns of features (rows, frames, bands)."""
    stem_of = np.asarray(table["stem"].to_pylist())
    result: list[float] = []
    for stem in STEMS:
        mask = stem_of == stem
        frames = [v[mask].reshape(-1, v.shape[-1]).astype(np.float64) for v in values]
        result.append(float(len(frames[0])))
        for f in frames:
            result += [*f.sum(axis=0), *(f * f).sum(axis=0)]
    return np.asarray(result)


def adds_up(rows: pa.Table, entry: Entry) -> bool:
    """Returns whether the rows of a shard match the sums of their track."""
    # The sums are a count and two values per band for each stem; the sizes follow.
    bands = (len(entry.sums) // len(STEMS) - 1) // 2
    names = [field.name for field in rows.schema if pa.types.is_fixed_size_list(field.type)]
    columns = [rows[name].combine_chunks() for name in names]
    frames = sum(column.type.list_size for column in columns) // bands
    values = [
        column.flatten().to_numpy(zero_copy_only=True).reshape(-1, frames, column.type.list_size // frames)
        for column in columns
    ]
    # The order of summation depends on the processor: the last digits may differ on another machine.
    return np.allclose(_sums_of(rows, values), entry.sums, rtol=1e-11, atol=0.0, equal_nan=True)


def sound_of(provenance: Mapping[str, Any]) -> str:
    """Returns the name of the content of a wav: two tracks with one name have equal wavs."""
    return str(provenance["sha256"])[:16]


def _read_track(
    store: Store, track_id: str, fingerprint: str, config: FeatureConfig, separation: SeparationConfig
) -> tuple[Entry, pa.Table]:
    wanted = features.feature_id(config, separation)
    with store.reading(store.features(wanted, track_id)) as path:
        table = features.read(path)
        made_by = (pq.read_schema(path).metadata or {}).get(b"feature_id", b"").decode()
    if made_by != wanted:
        raise InputError(f"feature_id of {track_id} must be {wanted!r}, got {made_by!r}")
    provenance = store.read_json(store.raw_json(track_id))
    usable = table.filter(pc.field("usable"))
    stem_of = usable["stem"].to_pylist()
    entry = Entry(
        track_id=track_id,
        fingerprint=fingerprint,
        group=sound_of(provenance),
        duration_s=float(provenance["duration_s"]),
        rows=usable.num_rows,
        rows_by_stem=[stem_of.count(s) for s in STEMS],
        unusable=table.num_rows - usable.num_rows,
        sums=_sums(usable, config),
    )
    return entry, usable.select(["track_id", "stem", "index", "start_s", *config.columns])


def pack(store: Store, folder: UPath, batch: list[tuple[Entry, pa.Table]]) -> None:
    """Writes one shard with the rows of some tracks, and sets the position in their entries."""
    table = pa.concat_tables([t for _, t in batch]).combine_chunks()
    start = 0
    name_hash = hashlib.sha256()
    for entry, rows in batch:
        entry.row_start, start = start, start + rows.num_rows
        name_hash.update(f"{entry.track_id} {entry.group} {entry.rows} ".encode())
        name_hash.update(entry.sums.tobytes())
    name = f"{name_hash.hexdigest()[:16]}.arrow"
    if not (folder / name).exists():
        with (
            store.writing(folder / name) as path,
            pa.OSFile(str(path), "wb") as sink,
            pa.ipc.new_file(sink, table.schema) as writer,
        ):
            # One record batch, so that every row of a shard is one slice of one memory map.
            writer.write_table(table, max_chunksize=max(1, table.num_rows))
    for entry, _ in batch:
        entry.shard = name


@dataclass(frozen=True)
class Update:
    """The result of packing.

    Attributes:
        entries: Every packed track of the catalogue.
        tracks: The catalogue.
        read: Number of feature files that were opened.
        unreadable: Tracks with a damaged feature file, with the reason.
        changed: Whether the entries differ from the saved index.
    """

    entries: dict[str, Entry]
    tracks: list[catalogue.Track]
    read: int
    unreadable: dict[str, str]
    changed: bool


def update(
    store: Store, folder: UPath, config: DatasetConfig, feature: FeatureConfig, separation: SeparationConfig
) -> Update:
    """Packs the tracks whose feature files are new or changed, and returns all entries."""
    tracks = catalogue.load(store)
    old = load(store, folder)
    unreadable: dict[str, str] = {}
    present = _listing(store.features(features.feature_id(feature, separation), "x").parent)
    known = {t.track_id for t in tracks}
    entries = {t: e for t, e in old.items() if t in known and t in present}
    # Sorted, because the order of a folder listing is arbitrary and the tracks of a shard determine its name.
    new = sorted(
        t for t in present if t in known and (t not in entries or entries[t].fingerprint != present[t])
    )
    for start in tqdm(
        range(0, len(new), config.shard_tracks), desc="feature_table", unit="shard", disable=not new
    ):
        batch = []
        for track_id in new[start : start + config.shard_tracks]:
            entries.pop(track_id, None)
            try:
                batch.append(_read_track(store, track_id, present[track_id], feature, separation))
            except InputError:
                raise  # Features of another config: leaving these out would hide the mistake.
            except (MelodyGANError, OSError, KeyError, ValueError, pa.ArrowException) as error:
                if storage_reason(error):
                    raise  # Not the track's fault: the next run can read the file.
                # A damaged file excludes its own track only; the report names the track and not the file.
                cause = error.__cause__ if isinstance(error, DamagedError) else error
                unreadable[track_id] = f"{type(cause).__name__}: {cause}"
        if batch:
            pack(store, folder, batch)
        entries.update({e.track_id: e for e, _ in batch})
    return Update(entries, tracks, len(new), unreadable, changed=entries != old)


def load(store: Store, folder: UPath) -> dict[str, Entry]:
    """Returns the saved index; empty before the first save.

    Raises:
        DamagedError: the index cannot be read.
    """
    path = folder / "index.parquet"
    if not path.exists():
        return {}
    with store.reading(path) as local, damage_errors(path):
        table = pq.read_table(local)
        # Hundreds of sums per track: as Python numbers, thousands of tracks would take seconds.
        column = table["sums"].combine_chunks()
        figures, ends = column.flatten().to_numpy(), column.value_lengths().to_numpy().cumsum()
        rows = table.drop_columns(["sums"]).to_pylist()
        return {
            row["track_id"]: Entry(**row, sums=figures[start:end])
            for row, start, end in zip(rows, [0, *ends[:-1]], ends, strict=True)
        }


def save(store: Store, folder: UPath, entries: dict[str, Entry]) -> None:
    """Writes the index; the shards that it names must exist already."""
    with store.writing(folder / "index.parquet") as path:
        pq.write_table(pa.Table.from_pylist([vars(e) for e in entries.values()], SCHEMA), path)
