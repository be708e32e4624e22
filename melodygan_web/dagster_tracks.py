"""What the library asks of Dagster: look for new tracks, try one again, why tracks and sources failed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from melodygan_core.errors import InputError, TransientError
from melodygan_web.dagster_runs import Ask
from melodygan_web.library import Problem

# The stages of a track, in order, as Dagster names their assets.
STAGES = ("raw_wav", "stems", "features")
_REPOSITORY = {"repositoryLocationName": "melodygan", "repositoryName": "__repository__"}
_PARTITIONS = "tracks"
_RANGE = "dagster/asset_partition_range"
# Runs of a stage that are read for what failed.
_HISTORY = 40
_LAUNCH = """mutation StudioLaunch($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on Error { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}"""
_KEYS = """query StudioTracks {
  assetNodeOrError(assetKey: {path: ["raw_wav"]}) { __typename ... on AssetNode { partitionKeys } }
}"""
_FAILED = """query StudioFailed($limit: Int!, $check: String!) {
  raw_wav: assetCheckExecutions(assetKey: {path: ["raw_wav"]}, checkName: $check, limit: $limit) { ...F }
  stems: assetCheckExecutions(assetKey: {path: ["stems"]}, checkName: $check, limit: $limit) { ...F }
  features: assetCheckExecutions(assetKey: {path: ["features"]}, checkName: $check, limit: $limit) { ...F }
  catalogue: assetCheckExecutions(assetKey: {path: ["catalogue"]}, checkName: "sources_reached", limit: 1) {
    ...F
  }
}
fragment F on AssetCheckExecution {
  evaluation { metadataEntries { label ... on TableMetadataEntry { table { records } } } }
}"""
_DELETE = """mutation StudioForget($repository: RepositorySelector!, $name: String!, $keys: [String!]!) {
  deleteDynamicPartitions(repositorySelector: $repository, partitionsDefName: $name, partitionKeys: $keys) {
    __typename ... on Error { message }
  }
}"""


def launch(ask: Ask, job: str, tags: dict[str, str] | None = None) -> str:
    """Starts a job of this deployment, and returns the id of its run.

    Args:
        ask: Sends a query.
        job: Name of the job.
        tags: Of the run.

    Raises:
        TransientError: Dagster does not answer, or does not start it.
    """
    metadata = {"tags": [{"key": k, "value": v} for k, v in (tags or {}).items()]}
    selector = {**_REPOSITORY, "jobName": job}
    params = {"selector": selector, "runConfigData": {}, "executionMetadata": metadata}
    answer = ask(_LAUNCH, {"params": params})["launchRun"]
    if answer["__typename"] != "LaunchRunSuccess":
        reasons = [answer.get("message"), *(e["message"] for e in answer.get("errors", []))]
        reason = "; ".join(filter(None, reasons)) or answer["__typename"]
        raise TransientError(f"Dagster must start {job}, and did not: {reason[:300]}")
    return answer["run"]["runId"]


def look_for_tracks(ask: Ask) -> str:
    """Starts the run that lists the tracks of all sources; Dagster's sensor fetches new ones.

    Raises:
        TransientError: Dagster does not answer, or does not start it.
    """
    return launch(ask, "catalogue_job")


def try_again(ask: Ask, track_id: str, stage: str) -> str:
    """Starts a run of one stage for one track, and returns its id.

    Raises:
        InputError: Dagster does not know the track, or there is no such stage.
        TransientError: Dagster does not answer, or does not start it.
    """
    if stage not in STAGES:
        raise InputError(f"stage must be {', '.join(STAGES)}, got {stage!r}")
    [key] = _keys(ask, [track_id]) or [""]
    if not key:
        raise InputError(f"track must be one that Dagster lists, got {track_id!r}: look for new tracks first")
    return launch(ask, f"{stage}_job", {f"{_RANGE}_start": key, f"{_RANGE}_end": key})


def drop_partitions(ask: Ask, track_ids: Sequence[str]) -> int:
    """Removes the partitions of tracks, and returns how many there were.

    Raises:
        TransientError: Dagster does not answer, or does not remove them.
    """
    keys = _keys(ask, track_ids)
    if keys:
        variables = {"repository": _REPOSITORY, "name": _PARTITIONS, "keys": keys}
        answer = ask(_DELETE, variables)["deleteDynamicPartitions"]
        if answer["__typename"] != "DeleteDynamicPartitionsSuccess":
            raise TransientError(f"Dagster must remove {', '.join(keys)}, and answered {answer}")
    return len(keys)


def failures(ask: Ask) -> tuple[list[Problem], dict[str, str]]:
    """What failed last: tracks by stage, the latest reason of each; and source as written to reason.

    A track may have been made since; whoever asks looks into the store for that.

    Raises:
        TransientError: Dagster does not answer.
    """
    answer = ask(_FAILED, {"limit": _HISTORY, "check": "every_track"})
    problems: dict[tuple[str, str], Problem] = {}
    for stage in STAGES:
        for row in (row for found in answer[stage] for row in _rows(found)):
            problem = Problem(
                str(row.get("track", "")),
                str(row.get("title", "")),
                stage,
                str(row.get("reason", "")),
                bool(row.get("permanent")),
            )
            problems.setdefault((stage, problem.track_id), problem)
    sources = {
        str(row.get("source", "")): str(row.get("reason", ""))
        for found in answer["catalogue"][:1]
        for row in _rows(found)
    }
    return list(problems.values()), sources


def _rows(execution: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Rows of the table `failed` of a check."""
    for entry in (execution.get("evaluation") or {}).get("metadataEntries", []):
        if entry.get("label") == "failed":
            yield from (json.loads(record) for record in entry.get("table", {}).get("records", []))


def _keys(ask: Ask, track_ids: Sequence[str]) -> list[str]:
    """Partition keys of tracks: the track_id is the last word of its key."""
    found = ask(_KEYS, {})["assetNodeOrError"]
    if found["__typename"] != "AssetNode":
        raise TransientError(f"Dagster must list the tracks, and answered {found['__typename']}")
    return [key for key in found["partitionKeys"] if key.rpartition(" ")[2] in track_ids]
