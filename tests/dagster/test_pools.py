"""The real executors and the shipped dagster.yaml: steps that share a GPU never overlap."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from melodygan_dagster import private
from melodygan_dagster.defs.environment import one_step_at_a_time
from tests.dagster import pool_steps


@pytest.fixture
def times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[dict[str, float]]]:
    """Reads when each step ran and in which process, first step first."""
    monkeypatch.setenv(pool_steps.FOLDER, str(tmp_path))

    def read() -> list[dict[str, float]]:
        found = [json.loads((tmp_path / f"{n}.json").read_text("utf-8")) for n in ("first", "second")]
        return sorted(found, key=lambda step: step["started"])

    return read


@pytest.mark.parametrize("job", [pool_steps.two_workers_one_pool, pool_steps.default_executor])
@pytest.mark.slow
def test_steps_never_overlap_and_have_a_process_each(
    job: Callable[[], dg.JobDefinition],
    instance: dg.DagsterInstance,
    times: Callable[[], list[dict[str, float]]],
) -> None:
    with dg.execute_job(dg.reconstructable(job), instance) as result:
        assert result.success
    first, second = times()
    assert first["ended"] <= second["started"]
    assert len({first["pid"], second["pid"], os.getpid()}) == 3


def test_automatic_runs_and_trainings_use_the_default_executor(definitions: dg.Definitions) -> None:
    automatic = definitions.resolve_implicit_global_asset_job_def()
    for job in (automatic, *(definitions.resolve_job_def(n) for n in ("training_job", "dense_gan_job"))):
        assert job.executor_def is one_step_at_a_time, job.name


@pytest.mark.slow
def test_a_pool_is_free_between_steps_and_blocked_by_a_dead_run_until_it_is_reported(
    instance: dg.DagsterInstance, times: Callable[[], list[dict[str, float]]]
) -> None:
    storage = instance.event_log_storage
    storage.initialize_concurrency_limit_to_default("gpu")
    assert storage.claim_concurrency_slot("gpu", "killed", "step").is_claimed

    def run() -> None:
        pool_steps.in_process_one_pool().execute_in_process(instance=instance)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(3.0)
    assert thread.is_alive()
    with pytest.raises(FileNotFoundError):
        times()
    private.free_pool_slots(instance, "killed")
    thread.join(60)
    first, second = times()
    assert first["ended"] <= second["started"]
    assert storage.get_concurrency_info("gpu").active_slot_count == 0
