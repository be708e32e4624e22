"""Everything that this package uses of Dagster's private modules, with the reason for each.

Dagster may change these names in any release, so no other module imports from `dagster._core`.
`tests/dagster/test_private.py` calls each of them and fails when an upgrade changes one.

- `AssetJob`, `AssetGraph`: types of public functions' results that Dagster does not export.
- `RANGE_START`, `RANGE_END`, `PARTITION`, `REPOSITORY`: run tags. Dagster documents the tags of a range, but
  exports none of the names.
- `data_version_tags`, `data_version_of`, `provenance_tags`: a logged `AssetMaterialization` carries its
  version and its inputs' versions as tags. Only a returned `MaterializeResult` gets them from Dagster, and a
  run over many tracks cannot return one result per track.
- `evaluations`, `failed_blocking_checks`: `DagsterInstance` has no public method that reads the results of
  asset checks.
- `worker_processes`: the process of a run is recorded in engine events only.
- `failure_reason`, `is_interrupted`: a step's error, without the sentences that Dagster wraps around it.
- `OneSentenceFailure`: Dagster stores the traceback of every exception of a step, of a `dg.Failure` too. It
  makes one exception, whose error comes from another process and is stored as it is.
- `webserver`: `dagster-webserver` can only bind a port of its own, where nothing guards it.
- `free_pool_slots`: a killed run keeps its place in a pool until somebody frees it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    DATA_VERSION_IS_USER_PROVIDED_TAG,
    DATA_VERSION_TAG,
    DEFAULT_DATA_VERSION,
    extract_data_version_from_entry,
    get_input_data_version_tag,
    get_input_event_pointer_tag,
)
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.errors import DagsterUserCodeProcessError
from dagster._core.events import EngineEventData
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
    REPOSITORY_LABEL_TAG,
)
from dagster._utils.error import SerializableErrorInfo

if TYPE_CHECKING:
    from starlette.types import ASGIApp

AssetJob: TypeAlias = UnresolvedAssetJobDefinition
AssetGraph: TypeAlias = BaseAssetGraph

RANGE_START, RANGE_END = ASSET_PARTITION_RANGE_START_TAG, ASSET_PARTITION_RANGE_END_TAG
PARTITION = PARTITION_NAME_TAG
REPOSITORY = REPOSITORY_LABEL_TAG

_EVALUATED = (AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED)
# Limits of `dagster-webserver` for its connections to Postgres: milliseconds, seconds, connections.
_STATEMENT_TIMEOUT_MS, _POOL_RECYCLE_S, _MAX_OVERFLOW = 15_000, 3_600, 20
# Milliseconds between two requests of an open page for what changed.
_POLL_MS = 2_000
_PROCESS_EVENTS = (dg.DagsterEventType.RUN_START, dg.DagsterEventType.STEP_START)


class OneSentenceFailure(dg.Failure):
    """A `dg.Failure` that the UI shows as its description, without a stack trace or a cause.

    It is a `DagsterUserCodeProcessError` for `isinstance` only, as unittest.mock does it. With that class as a
    base, an `except DagsterError` of Dagster would catch it before the asset's retry policy is asked.

    Args:
        description: What went wrong, in one sentence.
        metadata: Shown beside it.
        allow_retries: Whether the asset's retry policy applies, if it has one. Dagster then says that the
            retries are used up, and shows a stack trace under it.
    """

    def __init__(
        self,
        description: str,
        metadata: Mapping[str, dg.MetadataValue] | None = None,
        *,
        allow_retries: bool = False,
    ) -> None:
        super().__init__(description, metadata, allow_retries)
        # Dagster stores the only entry in place of the exception's traceback.
        self.user_code_process_error_infos = [SerializableErrorInfo(description, [], "Failure")]

    @property
    def __class__(self) -> type[Exception]:
        return DagsterUserCodeProcessError


def data_version_tags(version: str) -> dict[str, str]:
    """Returns the tags that give a logged event its data version."""
    return {DATA_VERSION_TAG: version, DATA_VERSION_IS_USER_PROVIDED_TAG: "true"}


def data_version_of(event: dg.AssetMaterialization | None) -> str:
    """Returns the data version of a materialization; empty if there is none."""
    return (event.tags or {}).get(DATA_VERSION_TAG, "") if event else ""


def provenance_tags(
    instance: dg.DagsterInstance, version: str, code_version: str, inputs: Mapping[dg.AssetKey, str | None]
) -> dict[str, str]:
    """Returns the tags that Dagster gives to a returned result, for a materialization that is logged.

    Args:
        instance: Holds the inputs' latest versions.
        version: Data version of the materialization.
        code_version: Code version of the asset.
        inputs: Upstream asset to the partition that was read; None for an unpartitioned asset.
    """
    tags = data_version_tags(version) | {CODE_VERSION_TAG: code_version}
    for key, partition in inputs.items():
        record = instance.get_latest_data_version_record(key, partition_key=partition)
        if record is not None:
            found = extract_data_version_from_entry(record.event_log_entry) or DEFAULT_DATA_VERSION
            tags[get_input_data_version_tag(key)] = found.value
            tags[get_input_event_pointer_tag(key)] = str(record.storage_id)
    return tags


def evaluations(
    instance: dg.DagsterInstance, key: dg.AssetCheckKey, limit: int
) -> Iterator[tuple[str, dg.AssetCheckEvaluation]]:
    """Yields the id of the run and the result of each finished execution of a check, newest first."""
    for record in instance.event_log_storage.get_asset_check_execution_history(key, limit=limit):
        if record.status in _EVALUATED and record.evaluation is not None:
            yield record.run_id, record.evaluation


def failed_blocking_checks(
    instance: dg.DagsterInstance, graph: AssetGraph, assets: Sequence[dg.AssetKey]
) -> list[str]:
    """Returns the names of the assets' blocking checks that did not pass the last time, or never ran."""
    blocking = [key for key in graph.get_check_keys_for_assets(set(assets)) if graph.get(key).blocking]
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(blocking)
    passed = AssetCheckExecutionRecordStatus.SUCCEEDED
    return sorted(key.name for key in blocking if key not in latest or latest[key].status != passed)


def worker_processes(instance: dg.DagsterInstance, run_id: str) -> dict[int, float]:
    """Returns the processes of a run: pid to a Unix time, in seconds, at which the process was alive."""
    found: dict[int, float] = {}
    for entry in instance.all_logs(run_id, of_type={dg.DagsterEventType.ENGINE_EVENT, *_PROCESS_EVENTS}):
        event = entry.dagster_event
        if event is None:
            continue
        # Of engine events only the metadata counts: the daemon writes some of them, with its own pid.
        if event.event_type in _PROCESS_EVENTS and event.pid is not None:
            found.setdefault(event.pid, entry.timestamp)
        data = event.event_specific_data
        if isinstance(data, EngineEventData) and "pid" in data.metadata:
            found.setdefault(int(str(data.metadata["pid"].value)), entry.timestamp)
    return found


def failure_reason(event: dg.DagsterEvent) -> str:
    """Returns the message of the error that ended a step, without class names and Dagster's own wrappers.

    Args:
        event: A step failure.
    """
    data = event.step_failure_data
    if data.user_failure_data is not None and data.user_failure_data.description:
        return data.user_failure_data.description
    error = data.error
    if error is None:
        return "failed"
    # Dagster's wrappers say only that an error occurred. A cause further down is a detail of the project's
    # error.
    while error.cause is not None and (error.cls_name or "").startswith("Dagster"):
        error = error.cause
    # The message is `module.Class: text`. These classes add nothing to the text.
    message = error.message.strip()
    known = message.startswith("melodygan_core.errors.") or error.cls_name == "DagsterAssetCheckFailedError"
    return message.partition(": ")[2] if known else message


def is_interrupted(event: dg.DagsterEvent) -> bool:
    """Whether a step ended because a person or the system stopped this process (Ctrl+C, SIGTERM).

    Args:
        event: A step failure.
    """
    error = event.step_failure_data.error
    while error is not None:
        if error.cls_name == dg.DagsterExecutionInterruptedError.__name__:
            return True
        error = error.cause
    return False


def free_pool_slots(instance: dg.DagsterInstance, run_id: str) -> None:
    """Gives back the places in pools that a run holds or waits for."""
    if instance.event_log_storage.supports_global_concurrency_limits:
        instance.event_log_storage.free_concurrency_slots_for_run(run_id)


@contextmanager
def webserver(instance: dg.DagsterInstance, workspace: Path) -> Iterator[ASGIApp]:
    """Yields Dagster's web app, as `dagster-webserver` serves it.

    Args:
        instance: What the app shows.
        workspace: A workspace.yaml with the code locations.
    """
    # Costs a second, which only `melodygan ui` has to pay.
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import WorkspaceFileTarget
    from dagster_webserver.app import create_app_from_workspace_process_context
    from dagster_webserver.version import __version__

    instance.optimize_for_webserver(_STATEMENT_TIMEOUT_MS, _POOL_RECYCLE_S, _MAX_OVERFLOW)
    target = WorkspaceFileTarget([str(workspace)])
    with WorkspaceProcessContext(instance, target, version=__version__) as context:
        yield create_app_from_workspace_process_context(context, live_data_poll_rate=_POLL_MS)
