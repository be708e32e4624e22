"""What there is to do: which tracks each per-track stage is to be run for, in runs of many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)
from dagster._core.storage.dagster_run import FINISHED_STATUSES, NOT_FINISHED_STATUSES

from melodygan_core.config import feature_id
from melodygan_dagster.partitions import PER_TRACK, TRACKS, TRACKS_PER_RUN

if TYPE_CHECKING:
    from upath import UPath

    from melodygan_core.storage.store import Store
    from melodygan_dagster.resources import Settings

RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
PARTITION = "dagster/partition"
# Tracks within a run's range that it is not for, separated by commas.
LEFT_OUT = "melodygan/left_out"

# After this hour (UTC) what failed is tried again.
RETRY_HOUR = 4
# A run that ends without a word about its tracks (killed, no disk, no model) is repeated at once, so often.
MAX_RUNS = 3
NEVER = "never, or after `melodygan retry`"
# Runs of a stage that are looked through for what they said of their tracks.
HISTORY = 1000
SPOKEN = (AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED)


@dataclass(frozen=True)
class Batch:
    """The tracks of one run: a range, which is what Dagster knows, less those that it is not for.

    Attributes:
        start: First key of the range.
        end: Last key of it.
        left_out: Keys between them that the run leaves alone.
    """

    start: str
    end: str
    left_out: tuple[str, ...] = ()

    @property
    def tags(self) -> dict[str, str]:
        """The tags of its run."""
        left_out = {LEFT_OUT: ",".join(self.left_out)} if self.left_out else {}
        return {RANGE_START: self.start, RANGE_END: self.end, **left_out}


@dataclass(frozen=True)
class RecentAttempts:
    """What runs of a stage have done lately.

    Attributes:
        underway: Tracks of runs that are waiting or running.
        since_last_night: Tracks that have been tried since then, and are not again before the next one.
    """

    underway: set[str] = field(default_factory=set)
    since_last_night: set[str] = field(default_factory=set)


def keys_of(context: dg.AssetExecutionContext) -> list[str]:
    """The tracks that this run is for."""
    left_out = context.run.tags.get(LEFT_OUT, "").split(",")
    return [k for k in context.partition_keys if k not in left_out]


def made(store: Store, settings: Settings) -> dict[str, set[str]]:
    """Which tracks each per-track stage has been made for with the deployment's config: the store knows."""
    separation = settings.separation()
    table = store.features(feature_id(settings.features(), separation), "")
    folders = {
        "raw_wav": (store.raw_json("").parent, ".json"),
        "stems": (store.stems(separation.model_id, ""), "/stems.json"),
        "features": (table.parent, ".parquet"),
    }
    return {stage: _with_suffix(*where) for stage, where in folders.items()}


def failed_for_good(store: Store) -> set[str]:
    """Tracks that will not be fetched again, until somebody deletes the record of their failure."""
    return _with_suffix(store.raw_error("").parent, ".error.json")


def _with_suffix(folder: UPath, suffix: str) -> set[str]:
    from melodygan_core.storage import listing

    return {name.removesuffix(suffix) for name in listing.names(folder) if name.endswith(suffix)}


def batches(keys: Sequence[str], wanted: Container[str], there: Container[str]) -> Iterator[Batch]:
    """As few runs as possible: each from a wanted key to the last wanted one within a run's worth of keys.

    Args:
        keys: All partitions, in Dagster's order.
        wanted: Those to run for.
        there: Those that a run may meet as well, because it finds them made.
    """
    position = 0
    while position < len(keys):
        if keys[position] not in wanted:
            position += 1
            continue
        window = list(keys[position : position + TRACKS_PER_RUN])
        while window[-1] not in wanted:
            window.pop()
        left_out = tuple(k for k in window if k not in wanted and k not in there)
        yield Batch(window[0], window[-1], left_out)
        position += len(window)


def pending(
    instance: dg.DagsterInstance,
    stage: str,
    in_store: dict[str, set[str]],
    alone: AbstractSet[str] = frozenset(),
    busy: AbstractSet[str] = frozenset(),
) -> list[Batch]:
    """What a stage is to be run for: new tracks, and those whose artifact is not in the store.

    A track without its upstream is left out: it has been named as failed by the stage that did not make it.

    Args:
        instance: Knows the tracks, and which are recorded.
        stage: One of PER_TRACK.
        in_store: See made().
        alone: Tracks not to run for.
        busy: Tracks that no run may meet, because another one is at them.
    """
    keys = list(instance.get_dynamic_partitions(TRACKS))
    there = in_store[stage] & instance.get_materialized_partitions(dg.AssetKey(stage))
    before = PER_TRACK.index(stage) - 1
    possible = set(keys)
    if before >= 0:
        # Not what is there and not recorded: its stage is about to find it, and then all go on together.
        possible = in_store[PER_TRACK[before]] & instance.get_materialized_partitions(
            dg.AssetKey(PER_TRACK[before])
        )
    return list(batches(keys, possible - there - alone - busy, there - busy))


def due(
    instance: dg.DagsterInstance, store: Store, settings: Settings, now: datetime
) -> dict[str, list[Batch]]:
    """What is to be run without a hand, by stage: not what a run is at, nor what failed since last night."""
    in_store, tried = made(store, settings), tried_lately(instance, now)
    found = {}
    for before, stage in zip((None, *PER_TRACK), PER_TRACK, strict=False):
        busy = tried[stage].underway | (tried[before].underway if before else set())
        alone = tried[stage].since_last_night | (set() if before else failed_for_good(store))
        found[stage] = pending(instance, stage, in_store, alone, busy)
    return found


def tried_lately(instance: dg.DagsterInstance, now: datetime) -> dict[str, RecentAttempts]:
    """What runs of each stage, whoever started them, have done since last night."""
    lately = instance.get_runs(dg.RunsFilter(created_after=last_night(now)))
    unfinished = instance.get_runs(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES))
    runs = {run.run_id: run for run in [*lately, *unfinished]}.values()
    keys = list(instance.get_dynamic_partitions(TRACKS))
    position = {key: i for i, key in enumerate(keys)}
    found = {stage: RecentAttempts() for stage in PER_TRACK}
    for stage, tried in found.items():
        said = spoken(instance, stage)
        silent: Counter[str] = Counter()
        for run in runs:
            if run.job_name != f"{stage}_job" and dg.AssetKey(stage) not in (run.asset_selection or ()):
                continue
            tracks = _tracks_of(run.tags, keys, position)
            if run.status not in FINISHED_STATUSES:
                tried.underway.update(tracks)
            elif run.status == dg.DagsterRunStatus.FAILURE and run.run_id not in said:
                silent.update(tracks)
            else:
                tried.since_last_night.update(tracks)
        tried.since_last_night.update(track for track, count in silent.items() if count >= MAX_RUNS)
    return found


def spoken(instance: dg.DagsterInstance, stage: str) -> set[str]:
    """The runs of a stage that came so far as to say what became of their tracks."""
    return {record.run_id for record in _checks(instance, stage) if record.status in SPOKEN}


def _checks(instance: dg.DagsterInstance, stage: str) -> Sequence[AssetCheckExecutionRecord]:
    """What its latest runs said of their tracks, newest first."""
    key = dg.AssetCheckKey(dg.AssetKey(stage), "every_track")
    return instance.event_log_storage.get_asset_check_execution_history(key, limit=HISTORY)


def _tracks_of(tags: Mapping[str, str], keys: Sequence[str], position: Mapping[str, int]) -> list[str]:
    start = tags.get(RANGE_START) or tags.get(PARTITION)
    end = tags.get(RANGE_END) or tags.get(PARTITION)
    if start not in position or end not in position:
        return []
    left_out = tags.get(LEFT_OUT, "").split(",")
    return [k for k in keys[position[start] : position[end] + 1] if k not in left_out]


def failures(instance: dg.DagsterInstance, store: Store, settings: Settings) -> list[dict[str, str]]:
    """Every track that could not be made, for people: where it stopped, why, when it is tried again."""
    from melodygan_core import catalogue

    in_store, for_good = made(store, settings), failed_for_good(store)
    titles = {t.track_id: t.title or t.url for t in catalogue.load(store)}
    rows = {}
    for stage in PER_TRACK:
        # The record of a failure for good is there even if the run that wrote it was killed before it said so.
        recorded = for_good if stage == PER_TRACK[0] else set()
        reasons = {t: str(store.read_json(store.raw_error(t))["reason"]) for t in recorded}
        for track, reason in (_reasons(_checks(instance, stage)) | reasons).items():
            if track in titles and track not in in_store[stage]:
                again = NEVER if track in for_good else f"after {RETRY_HOUR}:00 UTC"
                rows[track] = {
                    "track": track,
                    "title": titles[track],
                    "stage": stage,
                    "reason": reason,
                    "next": again,
                }
    return [rows[track] for track in sorted(rows)]


def _reasons(history: Sequence[AssetCheckExecutionRecord]) -> dict[str, str]:
    """The latest that was said of each track."""
    found: dict[str, str] = {}
    for record in history:
        evaluation = record.evaluation if record.status in SPOKEN else None
        table = evaluation.metadata.get("failed") if evaluation else None
        if isinstance(table, dg.TableMetadataValue):
            for row in table.records:
                found.setdefault(str(row.data["track"]), str(row.data["reason"]))
    return found


def last_night(now: datetime) -> datetime:
    """When failed tracks were last let in again."""
    today = now.astimezone(UTC).replace(hour=RETRY_HOUR, minute=0, second=0, microsecond=0)
    return today if now >= today else today - timedelta(days=1)
