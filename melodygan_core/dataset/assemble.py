"""Features -> dataset: the tracks of a version, their splits and their statistics.

A version of the dataset is a small folder with a manifest and a table of tracks, which point to the shards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from melodygan_core import features
from melodygan_core.config import (
    SPLITS,
    STEMS,
    VERSIONS,
    DatasetConfig,
    FeatureConfig,
    SeparationConfig,
    config_id,
    to_dict,
)
from melodygan_core.dataset import groups, index, splits
from melodygan_core.dataset.index import Entry
from melodygan_core.errors import InputError
from melodygan_core.storage import Artifact, Store, dump_json

NAME = "feature_table"
UNREADABLE = "its features cannot be read"


@dataclass(frozen=True)
class _Selection:
    """The eligible tracks, oldest first; for every other track the kind and the reason of its exclusion."""

    eligible: list[Entry]
    excluded: dict[str, tuple[str, str]]


def _select(update: index.Update, config: DatasetConfig) -> _Selection:
    eligible: list[Entry] = []
    excluded: dict[str, tuple[str, str]] = {}
    for track in sorted(update.tracks, key=lambda t: (t.first_seen, t.track_id)):
        entry = update.entries.get(track.track_id)
        if track.track_id in update.unreadable:
            excluded[track.track_id] = (UNREADABLE, f"{UNREADABLE}: {update.unreadable[track.track_id]}")
        elif entry is None:
            excluded[track.track_id] = ("no features (not downloaded, not separated, or failed)",) * 2
        elif track.rights == "unknown" and not config.train_on_unknown:
            excluded[track.track_id] = ("rights unknown",) * 2
        elif entry.rows == 0:
            excluded[track.track_id] = ("no usable segment",) * 2
        elif not np.isfinite(entry.sums).all():
            excluded[track.track_id] = ("its features hold values that are not finite",) * 2
        else:
            eligible.append(entry)
    if not eligible:
        reasons = sorted({kind for kind, _ in excluded.values()}) or ["the catalogue is empty"]
        raise InputError(
            f"none of {len(update.tracks)} tracks may be trained on: {'; '.join(reasons)}. "
            "Set `rights: own | licensed | open` in sources.yaml, or train_on_unknown"
        )
    return _Selection(eligible, excluded)


def _duplicates(found: groups.Groups, split_of: dict[str, str]) -> list[dict[str, Any]]:
    """Returns the tracks that another track of their group represents."""
    rows = []
    for track_id, group in found.of_track.items():
        if track_id == found.representative[group]:
            continue
        near = track_id in found.bit_error
        rows.append(
            {
                "track": track_id,
                "kind": "nearly the same sound" if near else "same sound",
                "of": found.representative[group],
                "split": split_of[group],
                **({"bit_error": found.bit_error[track_id]} if near else {}),
            }
        )
    return rows


def assemble(
    store: Store, config: DatasetConfig, feature: FeatureConfig, separation: SeparationConfig
) -> Artifact:
    """Packs new features into shards, assigns splits, and writes this version of the dataset.

    Only new and changed feature files are read. The version is a hash of the content: an unchanged rerun
    returns the same artifact.

    Raises:
        InputError: no track may be trained on, or too few different tracks for three splits.
    """
    shards_id = index.dataset_id(feature, separation)
    folder = store.shards(shards_id)
    with store.lock_for(folder):
        update = index.update(store, folder, config, feature, separation)
        if update.changed:
            index.save(store, folder, update.entries)
        selection = _select(update, config)
        found = groups.update(store, selection.eligible, config.near_duplicates)
        known = store.read_json(store.splits()) if store.splits().exists() else {}
        by_id = {t.track_id: t for t in update.tracks}
        artist_of = splits.artists({g: by_id[t] for g, t in found.representative.items()})
        assigned = splits.assign(set(found.representative), known, artist_of, config)
        split_of = assigned.of_group
        if not split_of.items() <= known.items():
            store.write_json(store.splits(), known | split_of)
    representatives = [
        e for e in selection.eligible if found.representative[found.of_track[e.track_id]] == e.track_id
    ]

    rows = []
    for entry in sorted(representatives, key=lambda e: e.track_id):
        track, group = by_id[entry.track_id], found.of_track[entry.track_id]
        rows.append(
            {
                **{k: v for k, v in vars(entry).items() if k not in ("fingerprint", "sums")},
                "group": group,
                "split": split_of[group],
                "title": track.title,
                "url": track.url,
                "licence": track.licence,
                "rights": track.rights,
                "tags": list(track.tags),
            }
        )
    training = [e for e in representatives if split_of[found.of_track[e.track_id]] == "train"]
    statistics = _statistics(training, feature)
    split_figures = {
        "split_by": assigned.split_by,
        "artists": assigned.artists,
        "artists_in_several_splits": assigned.artists_in_several_splits,
    }
    # Without the position of the rows: a feature file that was only touched must not retrain the models.
    # Without the split figures: a dataset of version 0.1 has none and keeps its version.
    position = ("shard", "row_start")
    content = {
        "rows": [{k: v for k, v in row.items() if k not in position} for row in rows],
        "sums": {e.track_id: hashlib.sha256(e.sums.tobytes()).hexdigest() for e in representatives},
        "statistics": statistics,
    }
    version = config_id(shards_id, config_id(content), VERSIONS["dataset"])
    manifest = {
        "feature": to_dict(feature),
        "feature_id": features.feature_id(feature, separation),
        "separation": separation.model_id,
        "shards": store.uri(folder),
        "statistics": statistics,
        **split_figures,
    }

    def build(out: Path) -> dict[str, Any]:
        pq.write_table(pa.Table.from_pylist(rows), out / "tracks.parquet")
        dump_json(out / "manifest.json", manifest)
        return _metrics(rows) | split_figures

    duplicates = _duplicates(found, split_of)
    excluded = selection.excluded | {
        d["track"]: (f"{d['kind']} as another track", f"{d['kind']} as {d['of']} ({d['split']})")
        for d in duplicates
    }
    report = {
        "tracks_read": update.read,
        "excluded": excluded,
        "duplicates": duplicates,
        "not_compared": found.not_compared,
    }
    store.write_json(store.dataset_report(), report)
    return store.get_or_build(
        NAME,
        store.dataset(version),
        build,
        config=to_dict(config),
        inputs={"features": features.feature_id(feature, separation)},
    )


def _metrics(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    metrics: dict[str, Any] = {"tracks": len(rows)}
    for split in SPLITS:
        members = [r for r in rows if r["split"] == split]
        metrics[f"{split}/tracks"] = len(members)
        metrics[f"{split}/groups"] = len({r["group"] for r in members})
        metrics[f"{split}/segments"] = sum(r["rows"] for r in members)
        metrics[f"{split}/duration_s"] = round(sum(r["duration_s"] for r in members), 1)
    return metrics


def _statistics(entries: Sequence[Entry], config: FeatureConfig) -> dict[str, Any]:
    """Returns per stem the number of frames, and the sum and the sum of squares of each band."""
    width = 1 + 2 * sum(config.columns.values())
    total = np.zeros((len(STEMS), width))
    # Sorted, because a sum of floats depends on the order, and the version on every digit.
    for entry in sorted(entries, key=lambda e: e.track_id):
        total += entry.sums.reshape(len(STEMS), width)
    return {stem: [float(v) for v in total[i]] for i, stem in enumerate(STEMS)}
