"""Finds and reports runs whose processes were killed, so that nobody is left to end them."""

from __future__ import annotations

import platform
from collections.abc import Iterable

import dagster as dg
import psutil

from melodygan_dagster import private

# Tag of the runs of `melodygan run`: another machine may share the instance, and its processes are invisible
# here.
HOST = "melodygan/host"
# Events and process start times are rounded differently.
SLACK_S = 5.0


def host_tag() -> dict[str, str]:
    """Returns the run tag that names this machine."""
    return {HOST: platform.node()}


def find(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Returns the started runs of this machine that have no living process.

    The code server reports the sudden end of a run that it launched. It cannot if it ended as well (power cut,
    everything killed), and no server watches a `melodygan run`.
    """
    # Other launchers know the health of their workers, and run monitoring asks them.
    if not isinstance(instance.run_launcher, dg.DefaultRunLauncher):
        return []
    started = instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
    dead = []
    for run in (record.dagster_run for record in started):
        processes = private.worker_processes(instance, run.run_id)
        here = run.tags.get(HOST, platform.node()) == platform.node()
        if here and processes and not any(is_running(pid, since) for pid, since in processes.items()):
            dead.append(run)
    return dead


def report(instance: dg.DagsterInstance, dead: Iterable[dg.DagsterRun]) -> None:
    """Marks runs as failed and frees their places in pools; what they recorded stays."""
    for run in dead:
        current = instance.get_run_by_id(run.run_id)
        if current is not None and not current.is_finished:
            pids = ", ".join(str(pid) for pid in private.worker_processes(instance, run.run_id))
            instance.report_run_failed(
                run,
                f"The process of this run is gone (pid {pids}): it was killed, or the machine ran out of memory"
                " or was restarted. What the run recorded stays, and the rest is requested again.",
            )
        # The next run would wait for ever for a place that a dead run holds.
        private.free_pool_slots(instance, run.run_id)


def started_at(pid: int) -> float | None:
    """Returns the start of a process as Unix time in seconds; None if it does not run.

    A zombie does not run: only its exit status is left.
    """
    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return None
        return process.create_time()
    except psutil.NoSuchProcess:
        return None


def is_running(pid: int, since: float) -> bool:
    """Returns whether the process that had this pid at a Unix time still runs; pids are reused."""
    started = started_at(pid)
    return started is not None and started <= since + SLACK_S
