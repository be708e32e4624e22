"""Problems of a dataset, measured from the store: shards, hashes of wavs, features.

Every figure is read back from the files. A shard or a feature file is read once and its figures are saved.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm.auto import tqdm
from upath import UPath

from melodygan_core import catalogue, features
from melodygan_core.config import SPLITS, STEMS, FeatureConfig, stored_features
from melodygan_core.dataset import index, leakage
from melodygan_core.dataset.index import Entry
from melodygan_core.dataset.vectors import MIN_STD, moments
from melodygan_core.storage import Artifact, Store

Row = dict[str, Any]

# Fewest usable segments of the mix to train, to select a checkpoint and to evaluate.
MIN_SEGMENTS = {"train": 16, "validation": 4, "test": 4}
SILENT_SHARE = 0.5
CLIPPED_SHARE = 0.1
# Sites round durations and players cut the ends.
DURATION_TOLERANCE_S, DURATION_TOLERANCE = 3.0, 0.05


@dataclass(frozen=True)
class Health:
    """One row or sentence per problem; empty lists mean that there is none.

    Attributes:
        leaks: Pairs of tracks in two splits with the same or nearly the same sound.
        misshapen: Tracks whose rows do not have the size of the config or the number that their duration gives.
        not_finite: Tracks with values that are not finite.
        too_few: Splits with too few usable segments.
        still_bands: Bands that are constant in the training tracks of a stem.
        silent: Tracks of the library that are mostly silent.
        clipped: Tracks of the library with more clipped segments than a loud master has.
        duplicates: Tracks that another track of their group represents.
        wrong_durations: Tracks whose duration differs from the catalogue.
        not_compared: Tracks without a fingerprint, with the reason.
    """

    leaks: list[Row]
    misshapen: list[Row]
    not_finite: list[Row]
    too_few: list[str]
    still_bands: list[str]
    silent: list[Row]
    clipped: list[Row]
    duplicates: list[Row]
    wrong_durations: list[Row]
    not_compared: list[Row]


@dataclass(frozen=True)
class Description:
    """A description of a version of the dataset for reports and checks.

    Attributes:
        splits: One row per split: tracks, groups, segments, duration_s.
        excluded: One row per excluded track: track, title, reason.
        reasons: Number of excluded tracks per reason, most first.
        tracks_read: Number of feature files that the last assembly opened.
        health: Its problems.
    """

    splits: list[Row]
    excluded: list[Row]
    reasons: list[Row]
    tracks_read: int
    health: Health


def describe(store: Store, artifact: Artifact) -> Description:
    """Reads a version of the dataset back and returns its content and its problems."""
    folder = store.at(artifact.uri)
    manifest = store.read_json(folder / "manifest.json")
    with store.reading(folder / "tracks.parquet") as path:
        rows: list[Row] = pq.read_table(path).to_pylist()
    report = store.read_json(store.dataset_report())
    tracks = {t.track_id: t for t in catalogue.load(store)}
    titles = {t: track.title for t, track in tracks.items()}
    excluded = [
        {"track": t, "title": titles.get(t, ""), "reason": reason}
        for t, (_, reason) in sorted(report["excluded"].items())
    ]
    counted = Counter(kind for kind, _ in report["excluded"].values()).most_common()
    reasons = [{"reason": kind, "tracks": n} for kind, n in counted]

    feature = stored_features(manifest["feature"])
    shards = store.at(manifest["shards"])
    entries = index.load(store, shards)
    sounds = leakage.sounds_of(store, [r["track_id"] for r in rows])
    measured = _measure(store, shards, manifest["feature_id"], entries, {r["shard"] for r in rows}, sounds)
    silent, clipped = (
        _of_mix(measured["tracks"], titles, kind, share)
        for kind, share in (("silent", SILENT_SHARE), ("clipped", CLIPPED_SHARE))
    )
    figures = ("tracks", "groups", "segments", "duration_s")
    return Description(
        splits=[{"split": s, **{f: artifact.metrics[f"{s}/{f}"] for f in figures}} for s in SPLITS],
        excluded=excluded,
        reasons=reasons,
        tracks_read=int(report["tracks_read"]),
        health=Health(
            leaks=leakage.leaks(rows, sounds, measured[leakage.NEAR]),
            misshapen=_misshapen(rows, feature, measured["shards"]),
            not_finite=_not_finite(rows, measured["shards"]),
            too_few=_too_few(rows, reasons),
            still_bands=_still_bands(manifest["statistics"], feature),
            silent=silent,
            clipped=clipped,
            duplicates=[{**d, "title": titles.get(d["track"], "")} for d in report["duplicates"]],
            wrong_durations=_wrong_durations(entries, tracks),
            not_compared=[
                {"track": t, "title": titles.get(t, ""), "reason": r} for t, r in report["not_compared"].items()
            ],
        ),
    )


# Measurements, saved per shard and track.


def _measure(
    store: Store,
    shards: UPath,
    feature_id: str,
    entries: dict[str, Entry],
    used: set[str],
    sounds: dict[str, str],
) -> dict[str, dict[str, Row]]:
    """Returns the figures of each shard in use, of each mix, and the near-duplicates; reads new files only."""
    path = store.dataset_health(shards.name)
    old = {"shards": {}, "tracks": {}, leakage.NEAR: {}} | (store.read_json(path) if path.exists() else {})
    by_shard = {name: old["shards"].get(name) or _scan(store, shards / name) for name in sorted(used)}
    by_track: dict[str, Row] = {}
    stale = {t for t, e in entries.items() if old["tracks"].get(t, {}).get("file") != e.fingerprint}
    for track_id, entry in tqdm(entries.items(), desc="levels", unit="track", disable=not stale):
        by_track[track_id] = old["tracks"].get(track_id, {})
        if track_id in stale:
            by_track[track_id] = {
                "file": entry.fingerprint,
                **_mix_reasons(store.features(feature_id, track_id), store),
            }
    new = {"shards": by_shard, "tracks": by_track, leakage.NEAR: leakage.near(store, sounds, old[leakage.NEAR])}
    if new != old:
        store.write_json(path, new)
    return new


def _scan(store: Store, path: UPath) -> Row:
    """Returns the sizes of the rows of a shard, and per track the number of rows that are not finite."""
    with store.reading(path) as local, pa.memory_map(str(local)) as source:
        table = pa.ipc.open_file(source).read_all()
        bad: Counter[str] = Counter()
        columns = [f.name for f in table.schema if pa.types.is_fixed_size_list(f.type)]
        for name in columns:
            for part in table[name].chunks:
                values = part.flatten().to_numpy(zero_copy_only=True).reshape(len(part), -1)
                for row in np.flatnonzero(~np.isfinite(values).all(axis=1)):
                    bad[table["track_id"][int(row)].as_py()] += 1
        return {
            "rows": table.num_rows,
            **{f"{n}_width": table.schema.field(n).type.list_size for n in columns},
            "not_finite": dict(bad),
        }


def _mix_reasons(path: UPath, store: Store) -> Row:
    with store.reading(path) as local:
        table = features.read(local, ["stem", "reason"])
    stem_of, reason_of = table["stem"].to_pylist(), table["reason"].to_pylist()
    reasons = [r for s, r in zip(stem_of, reason_of, strict=True) if s == "mix"]
    return {"segments": len(reasons), "silent": reasons.count("silent"), "clipped": reasons.count("clipped")}


# Problems that stop training.


def _misshapen(rows: list[Row], feature: FeatureConfig, shards: dict[str, Row]) -> list[Row]:
    wrong = []
    widths = {f"{name}_width": bands for name, bands in feature.columns.items()}
    for row in rows:
        shard = shards[row["shard"]]
        problems = [
            f"{name} must be {bands * feature.segment_frames}, got {shard.get(name, 0)}"
            for name, bands in widths.items()
            if shard.get(name, 0) != bands * feature.segment_frames
        ]
        if row["row_start"] + row["rows"] > shard["rows"]:
            problems.append(f"rows {row['row_start']} to {row['row_start'] + row['rows']} of {shard['rows']}")
        frames = 1 + row["duration_s"] * feature.sample_rate / feature.hop_length
        expected = math.ceil(frames / feature.segment_frames)
        have = (row["rows"] + row["unusable"]) / len(STEMS)
        # Resampling may drop a frame at the edge of a segment.
        if abs(have - expected) > 1:
            problems.append(
                f"each stem must have {expected} segments for {row['duration_s']:.1f} s at "
                f"{feature.sample_rate} Hz, got {have:g}"
            )
        wrong += [{"track": row["track_id"], "title": row["title"], "problem": p} for p in problems]
    return wrong


def _not_finite(rows: list[Row], shards: dict[str, Row]) -> list[Row]:
    return [
        {"track": r["track_id"], "title": r["title"], "rows": bad}
        for r in rows
        if (bad := shards[r["shard"]]["not_finite"].get(r["track_id"], 0))
    ]


def _too_few(rows: list[Row], reasons: list[Row]) -> list[str]:
    problems = []
    mix = STEMS.index("mix")
    for split, least in MIN_SEGMENTS.items():
        members = [r for r in rows if r["split"] == split]
        have = sum(r["rows_by_stem"][mix] for r in members)
        if have < least:
            problems.append(
                f"{split} has {have} usable segments of the mix, of {len(members)} tracks; "
                f"at least {least} are needed"
            )
    if problems:
        left_out = ", ".join(f"{r['tracks']} for: {r['reason']}" for r in reasons) or "none"
        problems.append(f"Add sources, or see why tracks are excluded ({left_out})")
    return problems


def _still_bands(statistics: dict[str, list[float]], feature: FeatureConfig) -> list[str]:
    problems = []
    for stem, values in statistics.items():
        if values[0] == 0:
            continue
        for name, (_, std) in moments(np.asarray(values), feature).items():
            # Stems may be mono: those of a model for one channel, or vocals in the middle.
            if name == "stereo":
                continue
            still = np.flatnonzero(~(std > MIN_STD))
            if len(still):
                which = f"{len(still)} of {len(std)} bands of {name} (the first is {still[0]})"
                problems.append(f"{which} are constant in the {stem} of the training tracks")
    return problems


# Problems of the library that do not stop training.


def _of_mix(tracks: dict[str, Row], titles: dict[str, str], kind: str, limit: float) -> list[Row]:
    found = [
        {"track": t, "title": titles.get(t, ""), "share": round(m[kind] / m["segments"], 3)}
        for t, m in tracks.items()
        if m["segments"] and m[kind] / m["segments"] > limit
    ]
    return sorted(found, key=lambda r: (-r["share"], r["track"]))


def _wrong_durations(entries: dict[str, Entry], tracks: dict[str, catalogue.Track]) -> list[Row]:
    wrong = []
    for track_id, entry in sorted(entries.items()):
        listed_s = tracks[track_id].duration_s if track_id in tracks else None
        if not listed_s:
            continue
        if abs(entry.duration_s - listed_s) > max(DURATION_TOLERANCE_S, DURATION_TOLERANCE * listed_s):
            found = {"catalogue_s": round(listed_s, 1), "wav_s": round(entry.duration_s, 1)}
            wrong.append({"track": track_id, "title": tracks[track_id].title, **found})
    return wrong
