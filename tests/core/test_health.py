"""Problems of a dataset are found in the files of the store."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from melodygan_core import dataset
from melodygan_core.catalogue.tracks import save
from melodygan_core.config import feature_id
from melodygan_core.dataset import Health, health, index
from melodygan_core.storage import Artifact, Store
from tests.core.made import SEPARATION, TINY, assemble, put_features, put_tracks, track

NAMES = [f"t{i}" for i in range(9)]
MEASURED = set(Health.__annotations__) - {"not_compared"}


def shards_of(store: Store, made: Artifact) -> Any:
    return store.at(store.read_json(store.at(made.uri) / "manifest.json")["shards"])


def rewrite(path: Any, column: str, change: Any) -> None:
    """Changes the values of a column of a shard in place, as a fault of the disk would."""
    table = pa.ipc.open_file(pa.OSFile(str(path))).read_all().combine_chunks()
    kind = table.schema.field(column).type
    values = table[column].chunk(0).flatten().to_numpy().reshape(table.num_rows, -1).copy()
    values = change(values, table["track_id"].to_pylist())
    kind = pa.list_(kind.value_field, values.shape[1])
    array = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), type=kind)
    table = table.set_column(table.schema.get_field_index(column), pa.field(column, kind), array)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def found(store: Store, made: Artifact) -> dict[str, Any]:
    """Returns the problems by the name of their list, without empty lists."""
    everything = vars(dataset.describe(store, made).health)
    return {name: everything[name] for name in MEASURED if everything[name]}


def test_a_good_dataset_has_no_problems(store: Store) -> None:
    put_tracks(store, NAMES)
    assert found(store, assemble(store)) == {}


def test_a_value_that_is_not_finite_is_found_in_the_shard(store: Store) -> None:
    put_tracks(store, NAMES)
    made = assemble(store)
    [shard] = shards_of(store, made).glob("*.arrow")

    def spoil(values: np.ndarray, tracks: list[str]) -> np.ndarray:
        values[tracks.index("t4"), 5] = np.nan
        values[tracks.index("t4") + 1, 0] = np.inf
        return values

    rewrite(shard, "mfcc", spoil)
    assert found(store, made) == {"not_finite": [{"track": "t4", "title": "Title of t4", "rows": 2}]}


def test_features_that_are_not_finite_exclude_their_own_track_only(store: Store) -> None:
    put_tracks(store, NAMES)
    path = store.features(feature_id(TINY, SEPARATION), "t2")
    table = pq.read_table(str(path))
    values = table["log_mel"].combine_chunks().flatten().to_numpy().copy()
    values[7] = np.nan
    kind = table.schema.field("log_mel").type
    array = pa.FixedSizeListArray.from_arrays(pa.array(values), type=kind)
    table = table.set_column(table.schema.get_field_index("log_mel"), table.schema.field("log_mel"), array)
    pq.write_table(table, str(path))
    made = assemble(store)
    assert found(store, made) == {}
    [row] = dataset.describe(store, made).excluded
    assert (row["track"], row["reason"]) == ("t2", "its features hold values that are not finite")


def test_rows_of_another_size_are_found(store: Store) -> None:
    put_tracks(store, NAMES)
    made = assemble(store)
    [shard] = shards_of(store, made).glob("*.arrow")
    rewrite(shard, "log_mel", lambda values, _: values[:, :16])
    wrong = found(store, made)
    assert wrong.keys() == {"misshapen"}
    assert {row["problem"] for row in wrong["misshapen"]} == {"log_mel_width must be 24, got 16"}
    assert [row["track"] for row in wrong["misshapen"]] == NAMES


def test_features_of_another_rate_than_the_wav_are_found(store: Store) -> None:
    for name in NAMES:
        put_features(store, name, segments=8)
    save(store, [track(n) for n in NAMES])
    # Half as many rows as the duration gives at this rate.
    provenance = store.read_json(store.raw_json("t1")) | {"duration_s": 16 * TINY.segment_s}
    store.write_json(store.raw_json("t1"), provenance)
    wrong = found(store, assemble(store))
    assert wrong.keys() == {"misshapen"}
    [row] = wrong["misshapen"]
    assert row["track"] == "t1"
    assert row["problem"].startswith("each stem must have 17 segments for 0.2 s at 22050 Hz, got 8")


def test_too_few_segments_say_what_is_missing_and_what_to_do(store: Store) -> None:
    for name in NAMES:
        put_features(store, name, segments=1)
    save(store, [*(track(n) for n in NAMES), track("later"), track("unknown", rights="unknown")])
    put_features(store, "unknown")
    assert found(store, assemble(store)) == {
        "too_few": [
            "train has 5 usable segments of the mix, of 5 tracks; at least 16 are needed",
            "validation has 2 usable segments of the mix, of 2 tracks; at least 4 are needed",
            "test has 2 usable segments of the mix, of 2 tracks; at least 4 are needed",
            "Add sources, or see why tracks are excluded "
            "(1 for: no features (not downloaded, not separated, or failed), 1 for: rights unknown)",
        ]
    }


def test_a_constant_band_is_found(store: Store) -> None:
    put_tracks(store, NAMES)
    made = assemble(store)
    path = store.at(made.uri) / "manifest.json"
    manifest = store.read_json(path)
    frames, total = manifest["statistics"]["mix"][0], manifest["statistics"]["mix"]
    # The second mel of the mix is always 3: its sum, and behind the sums of three mels its square.
    total[2], total[5] = 3 * frames, 9 * frames
    store.write_json(path, manifest)
    assert found(store, made) == {
        "still_bands": [
            "1 of 3 bands of log_mel (the first is 1) are constant in the mix of the training tracks"
        ]
    }


# The library.


def reason(store: Store, name: str, reasons: dict[int, str]) -> None:
    """Marks segments of the mix of a track."""
    path = store.features(feature_id(TINY, SEPARATION), name)
    table = pq.read_table(str(path))
    stem, at = table["stem"].to_pylist(), table["index"].to_pylist()
    row_reasons = [reasons.get(i, "") if s == "mix" else "" for s, i in zip(stem, at, strict=True)]
    for column, values in (("reason", row_reasons), ("usable", [not r for r in row_reasons])):
        field = table.schema.field(column)
        table = table.set_column(table.schema.get_field_index(column), field, pa.array(values, field.type))
    pq.write_table(table, str(path))


def test_silence_clipping_and_wrong_durations_name_the_track(store: Store) -> None:
    for name in NAMES:
        put_features(store, name, segments=10)
    rows = [track(n, duration_s=10 * TINY.segment_s + (2.5 if n == "t3" else 0)) for n in NAMES]
    rows[6] = track("t6", duration_s=200.0)
    save(store, [*rows, track("not-fetched", duration_s=200.0)])
    reason(store, "t0", dict.fromkeys(range(6), "silent"))
    reason(store, "t1", dict.fromkeys(range(5), "silent"))
    reason(store, "t2", dict.fromkeys(range(2), "clipped"))
    reason(store, "t5", {0: "clipped"})
    assert found(store, assemble(store)) == {
        "silent": [{"track": "t0", "title": "Title of t0", "share": 0.6}],
        "clipped": [{"track": "t2", "title": "Title of t2", "share": 0.2}],
        "wrong_durations": [{"track": "t6", "title": "Title of t6", "catalogue_s": 200.0, "wav_s": 0.1}],
    }


def test_saved_measurements_are_not_repeated(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put_tracks(store, NAMES)
    reason(store, NAMES[0], dict.fromkeys(range(3), "silent"))
    first = found(store, assemble(store))
    assert first.keys() == {"silent"}
    read: list[str] = []
    scan, mix = health._scan, health._mix_reasons
    monkeypatch.setattr(health, "_scan", lambda store, path: (read.append(path.name), scan(store, path))[1])
    monkeypatch.setattr(
        health, "_mix_reasons", lambda path, store: (read.append(path.stem), mix(path, store))[1]
    )
    [cached] = store.dataset_health("x").parent.iterdir()
    written = [(p, p.stat().st_ino) for p in (cached, store.groups())]
    assert found(store, assemble(store)) == first
    assert read == []
    assert [(p, p.stat().st_ino) for p, _ in written] == written
    put_features(store, "new")
    save(store, [track(n) for n in [*NAMES, "new"]])
    made = assemble(store)
    assert found(store, made) == first
    shard = index.load(store, shards_of(store, made))["new"].shard
    assert read == [shard, "new"]
    # Without the saved figures everything is measured again, with the same result.
    cached.unlink()
    assert found(store, made) == first
    assert len(read) == 2 + 2 + 10
