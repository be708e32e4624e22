"""Features -> dataset: which tracks are trained on, in which split, with which statistics.

A version of the dataset is a small folder, a manifest and a table of tracks, that points at shards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
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
from melodygan_core.dataset import index
from melodygan_core.dataset.index import Entry
from melodygan_core.errors import InputError
from melodygan_core.store import Artifact, Store, dump_json

NAME = "feature_table"


def _assign_splits(groups: set[str], known: dict[str, str], config: DatasetConfig) -> dict[str, str]:
    """The split of every group of tracks; one that has a split keeps it for ever.

    Raises:
        InputError: too few groups for three splits.
    """
    split_of = {g: known[g] for g in groups if g in known}
    # The hash is the order: it does not depend on titles, sources or the order of arrival within a batch.
    new = sorted(groups - known.keys(), key=lambda g: hashlib.sha256(g.encode()).hexdigest())
    for split, fraction in (("test", config.test_fraction), ("validation", config.validation_fraction)):
        wanted = max(config.min_groups, round(fraction * len(groups)))
        missing = max(0, wanted - sum(s == split for s in split_of.values()))
        split_of |= dict.fromkeys(new[:missing], split)
        new = new[missing:]
    split_of |= dict.fromkeys(new, "train")
    for split in SPLITS:
        have = sum(s == split for s in split_of.values())
        if have < config.min_groups:
            raise InputError(
                f"{split} has {have} groups of tracks, of {len(groups)} that may be trained on; "
                f"each split needs {config.min_groups}, so at least {3 * config.min_groups} different tracks"
            )
    return split_of


@dataclass(frozen=True)
class _Selection:
    eligible: list[Entry]
    excluded: dict[str, str]


def _select(update: index.Update, config: DatasetConfig) -> _Selection:
    eligible, excluded = [], {}
    for track in update.tracks:
        entry = update.entries.get(track.track_id)
        if entry is None:
            absent = "no features (not downloaded, not separated, or failed)"
            excluded[track.track_id] = update.unreadable.get(track.track_id, absent)
        elif track.rights == "unknown" and not config.train_on_unknown:
            excluded[track.track_id] = "rights unknown"
        elif entry.rows == 0:
            excluded[track.track_id] = "no usable segment"
        else:
            eligible.append(entry)
    if not eligible:
        reasons = sorted(set(excluded.values())) or ["the catalogue is empty"]
        raise InputError(
            f"none of {len(update.tracks)} tracks may be trained on: {'; '.join(reasons)}. "
            "Set `rights: own | licensed | open` in sources.yaml, or train_on_unknown"
        )
    return _Selection(eligible, excluded)


def assemble(
    store: Store, config: DatasetConfig, feature: FeatureConfig, separation: SeparationConfig
) -> Artifact:
    """Packs what is new, assigns splits and writes the manifest of this version of the dataset.

    Only tracks whose feature files are new or changed are read. The version is a hash of what the dataset
    contains: an unchanged rerun returns the same artifact.

    Raises:
        InputError: nothing may be trained on, or too few different tracks for three splits.
    """
    shards_id = index.dataset_id(feature, separation)
    folder = store.shards(shards_id)
    with store.lock("dataset"):
        update = index.update(store, folder, config, feature, separation)
        if update.changed:
            index.save(store, folder, update.entries)
        selection = _select(update, config)
        known = store.read_json(store.splits()) if store.splits().exists() else {}
        split_of = _assign_splits({e.group for e in selection.eligible}, known, config)
        if not split_of.items() <= known.items():
            store.write_json(store.splits(), known | split_of)

    by_id = {t.track_id: t for t in update.tracks}
    rows = []
    for entry in sorted(selection.eligible, key=lambda e: e.track_id):
        track = by_id[entry.track_id]
        rows.append(
            {
                **{k: v for k, v in asdict(entry).items() if k not in ("fingerprint", "sums")},
                "split": split_of[entry.group],
                "title": track.title,
                "url": track.url,
                "licence": track.licence,
                "rights": track.rights,
                "tags": list(track.tags),
            }
        )
    training = [e for e in selection.eligible if split_of[e.group] == "train"]
    statistics = _statistics(training, feature)
    # Not where rows lie: a feature file that was only touched or copied must not train everything again.
    places = ("shard", "row_start")
    content = {
        "rows": [{k: v for k, v in row.items() if k not in places} for row in rows],
        "sums": {e.track_id: config_id(e.sums) for e in selection.eligible},
        "statistics": statistics,
    }
    version = config_id(shards_id, config_id(content), VERSIONS["dataset"])
    manifest = {
        "feature": to_dict(feature),
        "feature_id": features.feature_id(feature, separation),
        "separation": separation.model_id,
        "shards": store.uri(folder),
        "statistics": statistics,
    }

    def build(out: Path) -> dict[str, Any]:
        pq.write_table(pa.Table.from_pylist(rows), out / "tracks.parquet")
        dump_json(out / "manifest.json", manifest)
        return _metrics(rows)

    store.write_json(store.dataset_report(), {"tracks_read": update.read, "excluded": selection.excluded})
    return store.once(
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
    """Per stem: frames, and sum and sum of squares of each band, over these tracks."""
    width = 1 + 2 * (config.n_mels + config.n_mfcc)
    total = np.zeros((len(STEMS), width))
    # Sorted, because sums of floats depend on their order and the version on every digit.
    for entry in sorted(entries, key=lambda e: e.track_id):
        total += np.asarray(entry.sums).reshape(len(STEMS), width)
    return {stem: [float(v) for v in total[i]] for i, stem in enumerate(STEMS)}


@dataclass(frozen=True)
class Description:
    """A version of the dataset for people and checks.

    Attributes:
        splits: One row a split: tracks, groups, segments, duration.
        excluded: One row a track that is not trained on, with the reason.
        leaking_groups: Hashes of sound that is in more than one split; there must be none.
        tracks_read: Feature files that the last assembly opened.
    """

    splits: list[dict[str, Any]]
    excluded: list[dict[str, Any]]
    leaking_groups: list[str]
    tracks_read: int


def describe(store: Store, artifact: Artifact) -> Description:
    """Reads a version of the dataset back and says what is in it."""
    folder = store.at(artifact.uri)
    with store.reading(folder / "tracks.parquet") as path:
        rows = pq.read_table(path, columns=["track_id", "split"]).to_pylist()
    splits_of: dict[str, set[str]] = {}
    for row in rows:
        # From the sound as it lies there now: the groups that made the splits may be older.
        audio = str(store.read_json(store.raw_json(row["track_id"]))["sha256"])
        splits_of.setdefault(audio, set()).add(row["split"])
    figures = ("tracks", "groups", "segments", "duration_s")
    report = store.read_json(store.dataset_report())
    return Description(
        splits=[{"split": s, **{f: artifact.metrics[f"{s}/{f}"] for f in figures}} for s in SPLITS],
        excluded=[{"track": t, "reason": r} for t, r in sorted(report["excluded"].items())],
        leaking_groups=sorted(g for g, s in splits_of.items() if len(s) > 1),
        tracks_read=int(report["tracks_read"]),
    )
