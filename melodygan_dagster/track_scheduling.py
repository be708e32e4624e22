"""Plans the runs of per-track stages: which tracks each stage is due for, many tracks per run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from melodygan_core.config import feature_id
from melodygan_dagster import private
from melodygan_dagster.partitions import PER_TRACK, TRACKS, TRACKS_PER_RUN, track_of
from melodygan_dagster.private import PARTITION, RANGE_END, RANGE_START

if TYPE_CHECKING:
    from upath import UPath

    from melodygan_core.storage import Store
    from melodygan_dagster.resources import Settings

# Run tag: tracks of the run's range that the run leaves out, separated by commas.
LEFT_OUT = "melodygan/left_out"

# Failed tracks are tried again after this hour (UTC).
RETRY_HOUR = 4
# A run that ended without reporting on its tracks (killed, disk full, no model) is repeated this often in a
# night.
MAX_RUNS = 3
NEVER = "never, or after `melodygan retry`"
# Executions of a stage's check that are read back for what they reported.
HISTORY = 1000

NOT_FINISHED_STATUSES = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.SUSPENDED,
    dg.DagsterRunStatus.CANCELING,
)


@dataclass(frozen=True)
class Batch:
    """The tracks of one run: a range of partitions, less the tracks that are left out.

    Attributes:
        start: First partition key of the range.
        end: Last partition key of the range, included.
        left_out: Tracks between them that the run leaves out.
    """

    start: str
    end: str
    left_out: tuple[str, ...] = ()

    @property
    def tags(self) -> dict[str, str]:
        """The tags of the batch's run."""
        left_out = {LEFT_OUT: ",".join(self.left_out)} if self.left_out else {}
        return {RANGE_START: self.start, RANGE_END: self.end, **left_out}


@dataclass(frozen=True)
class RecentAttempts:
    """What recent runs of a stage did.

    Attributes:
        underway: Tracks of queued or started runs.
        since_last_night: Tracks that were tried since last night. They are not tried again before the next one.
    """

    underway: set[str] = field(default_factory=set)
    since_last_night: set[str] = field(default_factory=set)


def keys_of(context: dg.AssetExecutionContext) -> list[str]:
    """Returns the track_ids that this run processes."""
    left_out = context.run.tags.get(LEFT_OUT, "").split(",")
    return [t for t in map(track_of, context.partition_keys) if t not in left_out]


def made(store: Store, settings: Settings) -> dict[str, set[str]]:
    """Returns, per stage, the tracks whose artifact is in the store for the deployment's config."""
    separation = settings.separation()
    table = store.features(feature_id(settings.features(), separation), "")
    folders = {
        "raw_wav": (store.raw_json("").parent, ".json"),
        "stems": (store.stems(separation.model_id, ""), "/stems.json"),
        "features": (table.parent, ".parquet"),
    }
    return {stage: _with_suffix(*where) for stage, where in folders.items()}


def failed_for_good(store: Store) -> set[str]:
    """Returns the tracks that are not downloaded again until somebody deletes the record of their failure."""
    return _with_suffix(store.raw_error("").parent, ".error.json")


def _with_suffix(folder: UPath, suffix: str) -> set[str]:
    from melodygan_core.storage import listing

    return {name.removesuffix(suffix) for name in listing.names(folder) if name.endswith(suffix)}


def batches(keys: Sequence[str], wanted: Container[str], present: Container[str]) -> Iterator[Batch]:
    """Yields the fewest runs that cover the wanted tracks, each within TRACKS_PER_RUN neighbouring keys.

    Args:
        keys: All partition keys, in Dagster's order.
        wanted: Tracks to process.
        present: Tracks that a run may include as well, because it skips what is in the store.
    """
    position = 0
    while position < len(keys):
        if track_of(keys[position]) not in wanted:
            position += 1
            continue
        window = list(keys[position : position + TRACKS_PER_RUN])
        while track_of(window[-1]) not in wanted:
            window.pop()
        left_out = tuple(t for t in map(track_of, window) if t not in wanted and t not in present)
        yield Batch(window[0], window[-1], left_out)
        position += len(window)


def pending(
    instance: dg.DagsterInstance,
    stage: str,
    in_store: dict[str, set[str]],
    skip: AbstractSet[str] = frozenset(),
    busy: AbstractSet[str] = frozenset(),
) -> list[Batch]:
    """Returns the runs that a stage needs: for new tracks, and for tracks whose artifact is not in the store.

    A track without its upstream artifact is left out. The stage that did not make that artifact reported it.

    Args:
        instance: Holds the partitions and their materializations.
        stage: One of PER_TRACK.
        in_store: The result of made().
        skip: Tracks not to process.
        busy: Tracks that no run may include, because another run processes them.
    """
    keys = list(instance.get_dynamic_partitions(TRACKS))
    present = in_store[stage] & _materialized(instance, stage)
    before = PER_TRACK.index(stage) - 1
    possible = set(map(track_of, keys))
    if before >= 0:
        # Not what is in the store without a materialization: its stage records it soon, and then all go on
        # together.
        possible = in_store[PER_TRACK[before]] & _materialized(instance, PER_TRACK[before])
    return list(batches(keys, possible - present - skip - busy, present - busy))


def _materialized(instance: dg.DagsterInstance, stage: str) -> set[str]:
    return set(map(track_of, instance.get_materialized_partitions(dg.AssetKey(stage))))


def due(
    instance: dg.DagsterInstance, store: Store, settings: Settings, now: datetime
) -> dict[str, list[Batch]]:
    """Returns, per stage, the runs to request now.

    Tracks of queued or started runs, and tracks that failed since last night, are not due.
    """
    in_store, attempts = made(store, settings), recent_attempts(instance, now)
    found = {}
    for before, stage in zip((None, *PER_TRACK), PER_TRACK, strict=False):
        busy = attempts[stage].underway | (attempts[before].underway if before else set())
        skip = attempts[stage].since_last_night | (set() if before else failed_for_good(store))
        found[stage] = pending(instance, stage, in_store, skip, busy)
    return found


def recent_attempts(instance: dg.DagsterInstance, now: datetime) -> dict[str, RecentAttempts]:
    """Returns, per stage, what its runs did since last night, whoever started them."""
    recent = instance.get_run_records(dg.RunsFilter(created_after=last_night(now)))
    unfinished = instance.get_run_records(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES))
    runs = {r.dagster_run.run_id: r.dagster_run for r in [*recent, *unfinished]}.values()
    keys = list(instance.get_dynamic_partitions(TRACKS))
    position = {key: i for i, key in enumerate(keys)}
    found = {stage: RecentAttempts() for stage in PER_TRACK}
    for stage, attempts in found.items():
        reported = reported_runs(instance, stage)
        unreported: Counter[str] = Counter()
        for run in runs:
            if run.job_name != f"{stage}_job" and dg.AssetKey(stage) not in (run.asset_selection or ()):
                continue
            tracks = _tracks_of(run.tags, keys, position)
            if not run.is_finished:
                attempts.underway.update(tracks)
            elif run.status == dg.DagsterRunStatus.FAILURE and run.run_id not in reported:
                unreported.update(tracks)
            else:
                attempts.since_last_night.update(tracks)
        attempts.since_last_night.update(track for track, count in unreported.items() if count >= MAX_RUNS)
    return found


def reported_runs(instance: dg.DagsterInstance, stage: str) -> set[str]:
    """Returns the ids of the stage's runs that reported on their tracks before they ended."""
    return {run_id for run_id, _ in _reports(instance, stage)}


def _reports(instance: dg.DagsterInstance, stage: str) -> Iterator[tuple[str, dg.AssetCheckEvaluation]]:
    """Yields what the latest runs reported on their tracks, newest first."""
    return private.evaluations(instance, dg.AssetCheckKey(dg.AssetKey(stage), "every_track"), HISTORY)


def _tracks_of(tags: Mapping[str, str], keys: Sequence[str], position: Mapping[str, int]) -> list[str]:
    start = tags.get(RANGE_START) or tags.get(PARTITION)
    end = tags.get(RANGE_END) or tags.get(PARTITION)
    if start not in position or end not in position:
        return []
    left_out = tags.get(LEFT_OUT, "").split(",")
    return [t for t in map(track_of, keys[position[start] : position[end] + 1]) if t not in left_out]


def failures(instance: dg.DagsterInstance, store: Store, settings: Settings) -> list[dict[str, str]]:
    """Returns a row per failed track: its title, the stage that failed, the reason, and the next attempt."""
    from melodygan_core import catalogue

    in_store, for_good = made(store, settings), failed_for_good(store)
    titles = {t.track_id: t.title or t.url for t in catalogue.load(store)}
    rows = {}
    for stage in PER_TRACK:
        # The record of a permanent failure exists even if the run was killed before it reported.
        recorded = for_good if stage == PER_TRACK[0] else set()
        reasons = {t: str(store.read_json(store.raw_error(t))["reason"]) for t in recorded}
        for track, reason in (_reasons(instance, stage) | reasons).items():
            if track in titles and track not in in_store[stage]:
                rows[track] = {
                    "title": titles[track],
                    "stage": stage,
                    "reason": reason,
                    "next": NEVER if track in for_good else f"after {RETRY_HOUR}:00 UTC",
                    "track": track,
                }
    return [rows[track] for track in sorted(rows)]


def _reasons(instance: dg.DagsterInstance, stage: str) -> dict[str, str]:
    """Returns the latest reason that was reported per failed track."""
    found: dict[str, str] = {}
    for _, evaluation in _reports(instance, stage):
        table = evaluation.metadata.get("failed")
        if isinstance(table, dg.TableMetadataValue):
            for row in table.records:
                found.setdefault(str(row.data["track"]), str(row.data["reason"]))
    return found


def last_night(now: datetime) -> datetime:
    """Returns the last time at which failed tracks became due again."""
    today = now.astimezone(UTC).replace(hour=RETRY_HOUR, minute=0, second=0, microsecond=0)
    return today if now >= today else today - timedelta(days=1)
