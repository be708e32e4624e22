"""Two steps that record when they ran, as jobs that child processes can load."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import dagster as dg

from melodygan_dagster.defs.environment import one_step_at_a_time

# Folder that the steps write their times to.
FOLDER = "MELODYGAN_TEST_TIMES"
STEP_S = 0.5


def _busy(name: str) -> None:
    started = time.time()
    time.sleep(STEP_S)
    times = {"started": started, "ended": time.time(), "pid": os.getpid()}
    (Path(os.environ[FOLDER]) / f"{name}.json").write_text(json.dumps(times), "utf-8")


def _job(executor: dg.ExecutorDefinition, pool: str | None) -> dg.JobDefinition:
    def build_asset(name: str) -> dg.AssetsDefinition:
        @dg.asset(name=name, pool=pool)
        def step() -> None:
            _busy(name)

        return step

    assets, jobs = [build_asset("first"), build_asset("second")], [dg.define_asset_job("steps", "*")]
    return dg.Definitions(assets, jobs=jobs, executor=executor).resolve_job_def("steps")


def two_workers_one_pool() -> dg.JobDefinition:
    """Two steps of the pool `gpu`, and an executor that would run both at once."""
    return _job(dg.multiprocess_executor.configured({"max_concurrent": 2}), "gpu")


def default_executor() -> dg.JobDefinition:
    """Two steps of no pool, and the executor of the code location."""
    return _job(one_step_at_a_time, None)


def in_process_one_pool() -> dg.JobDefinition:
    """Two steps of the pool `gpu` in the process of the run."""
    return _job(dg.in_process_executor, "gpu")


def waiting_training() -> dg.JobDefinition:
    """A `training_job` on the executor of the code location; it ends when the file `go` is there."""

    @dg.asset(pool="gpu")
    def model() -> None:
        folder, deadline = Path(os.environ[FOLDER]), time.monotonic() + 120
        (folder / "waits").touch()
        while not (folder / "go").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    jobs = [dg.define_asset_job("training_job", "*")]
    return dg.Definitions([model], jobs=jobs, executor=one_step_at_a_time).resolve_job_def("training_job")
