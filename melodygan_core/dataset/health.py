"""What is wrong with a dataset, measured from what lies in the store: its shards, wavs' hashes and features.

Nothing is judged here that was not read back. A shard or a feature file is read once and its figures are kept.
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
from melodygan_core.config import SPLITS, STEMS, FeatureConfig
from melodygan_core.dataset import index, leakage
from melodygan_core.dataset.index import Entry
from melodygan_core.dataset.vectors import MIN_STD, moments
from melodygan_core.storage.store import Artifact, Store

Row = dict[str, Any]

# Fewest usable segments of the mix that a model can be trained, chosen and judged with.
MIN_SEGMENTS = {"train": 16, "validation": 4, "test": 4}
SILENT_SHARE = 0.5
CLIPPED_SHARE = 0.1
# Sites round durations and players cut the ends.
DURATION_TOLERANCE_S, DURATION_TOLERANCE = 3.0, 0.05


@dataclass(frozen=True)
class Health:
    """One row or sentence for each thing that is wrong; empty is well.

    Attributes:
        leaks: Pairs of tracks in two splits with the same or nearly the same sound.
        misshapen: Rows of another size than the config's, or more or fewer than a track's duration makes.
        not_finite: Tracks with values that are no numbers.
        too_few: Splits with too little sound.
        still_bands: Bands that never move in the training tracks of a stem.
        silent: Tracks that are mostly silent, of the whole library.
        clipped: Tracks of which more is clipped than a loud master's, of the whole library.
        duplicates: Tracks whose sound another track stands for.
        wrong_durations: Tracks that are not as long as the catalogue says.
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
    """A version of the dataset for people and checks.

    Attributes:
        splits: One row a split: tracks, groups, segments, duration.
        excluded: One row a track that is not trained on: track, title, reason.
        reasons: How many tracks are left out for each reason, most first.
        tracks_read: Feature files that the last assembly opened.
        health: What is wrong with it.
    """

    splits: list[Row]
    excluded: list[Row]
    reasons: list[Row]
    tracks_read: int
    health: Health


def describe(store: Store, artifact: Artifact) -> Description:
    """Reads a version of the dataset back and says what is in it, and what is wrong with it."""
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

    feature = FeatureConfig(**manifest["feature"])
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


# What is measured once.


def _measure(
    store: Store,
    shards: UPath,
    feature_id: str,
    entries: dict[str, Entry],
    used: set[str],
    sounds: dict[str, str],
) -> dict[str, dict[str, Row]]:
    """Figures of each shard in use, the mix of each track, which sounds are near; only what is new is read."""
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
    """Sizes of a shard's rows, and whose rows hold values that are no numbers."""
    with store.reading(path) as local, pa.memory_map(str(local)) as source:
        table = pa.ipc.open_file(source).read_all()
        bad: Counter[str] = Counter()
        for name in ("log_mel", "mfcc"):
            for chunk in table[name].chunks:
                values = chunk.flatten().to_numpy(zero_copy_only=True).reshape(len(chunk), -1)
                for row in np.flatnonzero(~np.isfinite(values).all(axis=1)):
                    bad[table["track_id"][int(row)].as_py()] += 1
        return {
            "rows": table.num_rows,
            **{f"{n}_width": table.schema.field(n).type.list_size for n in ("log_mel", "mfcc")},
            "not_finite": dict(bad),
        }


def _mix_reasons(path: UPath, store: Store) -> Row:
    with store.reading(path) as local:
        table = features.read(local, ["stem", "reason"])
    stem_of, reason_of = table["stem"].to_pylist(), table["reason"].to_pylist()
    reasons = [r for s, r in zip(stem_of, reason_of, strict=True) if s == "mix"]
    return {"segments": len(reasons), "silent": reasons.count("silent"), "clipped": reasons.count("clipped")}


# What stops training.


def _misshapen(rows: list[Row], feature: FeatureConfig, shards: dict[str, Row]) -> list[Row]:
    wrong = []
    widths = {"log_mel_width": feature.n_mels, "mfcc_width": feature.n_mfcc}
    for row in rows:
        shard = shards[row["shard"]]
        problems = [
            f"{name} is {shard[name]}, {bands * feature.segment_frames} wanted"
            for name, bands in widths.items()
            if shard[name] != bands * feature.segment_frames
        ]
        if row["row_start"] + row["rows"] > shard["rows"]:
            problems.append(f"rows {row['row_start']} to {row['row_start'] + row['rows']} of {shard['rows']}")
        frames = 1 + row["duration_s"] * feature.sample_rate / feature.hop_length
        expected = math.ceil(frames / feature.segment_frames)
        have = (row["rows"] + row["unusable"]) / len(STEMS)
        # Resampling may round a frame away at the edge of a segment.
        if abs(have - expected) > 1:
            problems.append(
                f"{have:g} segments of each stem; {row['duration_s']:.1f} s at {feature.sample_rate} Hz "
                f"make {expected}"
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
    said = []
    mix = STEMS.index("mix")
    for split, least in MIN_SEGMENTS.items():
        members = [r for r in rows if r["split"] == split]
        have = sum(r["rows_by_stem"][mix] for r in members)
        if have < least:
            said.append(
                f"{split} has {have} usable segments of the mix, of {len(members)} tracks; "
                f"at least {least} are needed"
            )
    if said:
        left_out = ", ".join(f"{r['tracks']} for: {r['reason']}" for r in reasons) or "none"
        said.append(f"Add sources, or see why tracks are left out ({left_out})")
    return said


def _still_bands(statistics: dict[str, list[float]], feature: FeatureConfig) -> list[str]:
    said = []
    for stem, values in statistics.items():
        if values[0] == 0:
            continue
        for name, (_, std) in moments(np.asarray(values), feature).items():
            still = np.flatnonzero(~(std > MIN_STD))
            if len(still):
                which = f"{len(still)} of {len(std)} bands of {name}, the first is {still[0]}"
                said.append(f"{which}, never move in the {stem} of the training tracks")
    return said


# What people should know of the library.


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
        said = tracks[track_id].duration_s if track_id in tracks else None
        if not said:
            continue
        if abs(entry.duration_s - said) > max(DURATION_TOLERANCE_S, DURATION_TOLERANCE * said):
            found = {"catalogue_s": round(said, 1), "wav_s": round(entry.duration_s, 1)}
            wrong.append({"track": track_id, "title": tracks[track_id].title, **found})
    return wrong
