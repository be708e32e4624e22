"""Finds runs whose processes are gone: nobody is left who would end them."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import dagster as dg
from dagster._core.events import DagsterEventType, EngineEventData
from dagster._core.launcher import DefaultRunLauncher

# On runs of `melodygan run`: its instance may be shared with another machine, whose processes we cannot see.
HOST = "melodygan/host"
# Clocks of events and processes are rounded differently.
SLACK_S = 5.0


def host_tag() -> dict[str, str]:
    """Says on which machine a run's process is."""
    return {HOST: platform.node()}


def find(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Runs of this machine that are "started" and have no living process.

    The code server that launched a run reports its sudden end itself. It cannot when it ended, too (the machine
    was restarted, everything was killed), and of a killed `melodygan run` nobody knows.
    """
    # Other launchers know the health of their workers, and run monitoring asks them.
    if not isinstance(instance.run_launcher, DefaultRunLauncher):
        return []
    started = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
    dead = []
    for run in started:
        pids = workers(instance, run.run_id)
        here = run.tags.get(HOST, platform.node()) == platform.node()
        if here and pids and not any(_alive(pid, since) for pid, since in pids.items()):
            dead.append(run)
    return dead


def report(instance: dg.DagsterInstance, dead: Iterable[dg.DagsterRun]) -> None:
    """Reports runs as failed; what they recorded stays, and the rest is to be done again."""
    for run in dead:
        still = instance.get_run_by_id(run.run_id)
        if still is None or still.is_finished:
            continue
        gone = ", ".join(str(pid) for pid in workers(instance, run.run_id))
        instance.report_run_failed(
            run,
            f"The process of this run is gone (pid {gone}): it was killed, or the machine ran out of memory or"
            " was restarted. What it had recorded stays, and the rest is requested again.",
        )


def workers(instance: dg.DagsterInstance, run_id: str) -> dict[int, float]:
    """The processes that work, or worked, on a run, each with a time at which it lived."""
    found: dict[int, float] = {}
    own = (DagsterEventType.RUN_START, DagsterEventType.STEP_START)
    logs = instance.all_logs(run_id, of_type={DagsterEventType.ENGINE_EVENT, *own})
    for entry in logs:
        event = entry.dagster_event
        if event is None:
            continue
        # Engine events are written by others, too: the daemon says that it launches the run.
        if event.event_type in own and event.pid is not None:
            found.setdefault(event.pid, entry.timestamp)
        data = event.event_specific_data
        if isinstance(data, EngineEventData) and "pid" in data.metadata:
            found.setdefault(int(str(data.metadata["pid"].value)), entry.timestamp)
    return found


def _alive(pid: int, since: float) -> bool:
    """Whether the process that had this number then has it still: numbers are used again."""
    started = _started_at(pid)
    return started is not None and started <= since + SLACK_S


def _started_at(pid: int) -> float | None:
    """Unix time; None when there is no such process, or only its exit status is left of it."""
    if not sys.platform.startswith("linux"):
        return _started_at_by_ps(pid)
    try:
        # The name in brackets may hold spaces and brackets.
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return None
    if fields[0] in "ZX":
        return None
    boot = next(x for x in Path("/proc/stat").read_text("ascii").splitlines() if x.startswith("btime "))
    return int(boot.split()[1]) + int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _started_at_by_ps(pid: int) -> float | None:
    asked = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    plain = {"LC_ALL": "C", "PATH": "/bin:/usr/bin"}
    done = subprocess.run(asked, capture_output=True, text=True, check=False, env=plain)
    state, _, started = done.stdout.strip().partition(" ")
    if not started or state.startswith("Z"):
        return None
    return time.mktime(time.strptime(started.strip(), "%a %b %d %H:%M:%S %Y"))
