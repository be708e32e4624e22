"""Features -> dataset: which tracks are trained on, in which split, with which statistics.

A version of the dataset is a small folder, a manifest and a table of tracks, that points at shards.
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
from melodygan_core.dataset import groups, index
from melodygan_core.dataset.index import Entry
from melodygan_core.errors import InputError
from melodygan_core.storage.store import Artifact, Store, dump_json

NAME = "feature_table"
UNREADABLE = "its features cannot be read"


def _assign_splits(ids: set[str], known: dict[str, str], config: DatasetConfig) -> dict[str, str]:
    """The split of every group of tracks; one that has a split keeps it.

    But where test or validation lost groups (a track was forgotten) and no new ones take their place, groups of
    training do: of this dataset's models none has learned from them.

    Raises:
        InputError: too few groups for three splits.
    """
    split_of = {g: known[g] for g in ids if g in known}
    # The hash is the order: it does not depend on titles, sources or the order of arrival within a batch.
    new = sorted(ids - known.keys(), key=lambda g: hashlib.sha256(g.encode()).hexdigest())
    for split, fraction in (("test", config.test_fraction), ("validation", config.validation_fraction)):
        wanted = max(config.min_groups, round(fraction * len(ids)))
        missing = max(0, wanted - sum(s == split for s in split_of.values()))
        split_of |= dict.fromkeys(new[:missing], split)
        new = new[missing:]
    split_of |= dict.fromkeys(new, "train")
    spare = sorted(
        (g for g in ids if split_of[g] == "train"), key=lambda g: hashlib.sha256(g.encode()).hexdigest()
    )
    for split in ("test", "validation"):
        missing = max(0, config.min_groups - sum(s == split for s in split_of.values()))
        taken = spare[: min(missing, max(0, len(spare) - config.min_groups))]
        split_of |= dict.fromkeys(taken, split)
        spare = spare[len(taken) :]
    for split in SPLITS:
        have = sum(s == split for s in split_of.values())
        if have < config.min_groups:
            raise InputError(
                f"{split} has {have} groups of tracks, of {len(ids)} that may be trained on; "
                f"each split needs {config.min_groups}, so at least {3 * config.min_groups} different tracks"
            )
    return split_of


@dataclass(frozen=True)
class _Selection:
    """Tracks that may be trained on, in the order in which they came; for the others a kind and a reason."""

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
            excluded[track.track_id] = ("its features hold values that are no numbers",) * 2
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
    """Tracks whose sound another track stands for."""
    rows = []
    for track_id, group in found.of_track.items():
        if track_id == found.kept[group]:
            continue
        near = track_id in found.bit_error
        rows.append(
            {
                "track": track_id,
                "kind": "nearly the same sound" if near else "same sound",
                "of": found.kept[group],
                "split": split_of[group],
                **({"bit_error": found.bit_error[track_id]} if near else {}),
            }
        )
    return rows


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
        found = groups.update(store, selection.eligible, config.near_duplicates)
        known = store.read_json(store.splits()) if store.splits().exists() else {}
        split_of = _assign_splits(set(found.kept), known, config)
        if not split_of.items() <= known.items():
            store.write_json(store.splits(), known | split_of)
    kept = [e for e in selection.eligible if found.kept[found.of_track[e.track_id]] == e.track_id]

    by_id = {t.track_id: t for t in update.tracks}
    rows = []
    for entry in sorted(kept, key=lambda e: e.track_id):
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
    training = [e for e in kept if split_of[found.of_track[e.track_id]] == "train"]
    statistics = _statistics(training, feature)
    # Not where rows lie: a feature file that was only touched or copied must not train everything again.
    places = ("shard", "row_start")
    content = {
        "rows": [{k: v for k, v in row.items() if k not in places} for row in rows],
        "sums": {e.track_id: hashlib.sha256(e.sums.tobytes()).hexdigest() for e in kept},
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
    """Per stem: frames, and sum and sum of squares of each band, over these tracks."""
    width = 1 + 2 * (config.n_mels + config.n_mfcc)
    total = np.zeros((len(STEMS), width))
    # Sorted, because sums of floats depend on their order and the version on every digit.
    for entry in sorted(entries, key=lambda e: e.track_id):
        total += entry.sums.reshape(len(STEMS), width)
    return {stem: [float(v) for v in total[i]] for i, stem in enumerate(STEMS)}
