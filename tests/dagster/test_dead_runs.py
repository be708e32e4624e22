"""Runs whose process was killed: found, reported, repeated."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent, DagsterEventType, EngineEventData
from dagster._core.events.log import EventLogEntry
from dagster._core.test_utils import create_run_for_test

from melodygan_dagster import dead_runs, runner
from melodygan_dagster.deployment import Deployment
from tests.conftest import PRESET, Page, Site
from tests.dagster.conftest import add_feed, write_sources

ROOT = Path(__file__).parents[2]
FAILURE = dg.DagsterRunStatus.FAILURE


@pytest.mark.slow
def test_the_next_run_reports_a_killed_run_and_repeats_it(
    deployment: Deployment, site: Site, stereo_tones: list[str]
) -> None:
    stuck = "/tone-2.wav"
    good_page, endless = site.pages[stuck], Page(b"RIFF", endless=True, pause_s=0.2)
    site.pages[stuck] = endless
    write_sources(deployment.sources, [add_feed(site, stereo_tones)])
    code = (
        "import tests.conftest\nfrom pathlib import Path\nfrom melodygan_dagster import deployment, runner\n"
        f"made = deployment.Deployment({deployment.store!r}, Path({str(deployment.sources)!r}), {PRESET!r}, "
        "allow_private=True)\nlist(runner.run(made))"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while site.hits[stuck] < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        process.kill()
    assert site.hits[stuck] > 1
    site.pages[stuck] = good_page
    # The download process is an orphan now, and ends with its connection.
    endless.endless = False
    with deployment.instance() as instance:
        [left] = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        assert left.job_name == "raw_wav_job"
        # The killed run still has its place in the pool.
        assert instance.event_log_storage.get_concurrency_info("downloads").active_slot_count == 1
        results = {r.job: r for r in runner.run(deployment)}
        assert results["raw_wav_job"].success
        assert instance.event_log_storage.get_concurrency_info("downloads").active_slot_count == 0
        assert len(instance.get_materialized_partitions(dg.AssetKey("features"))) == len(stereo_tones)
        run = instance.get_run_by_id(left.run_id)
        assert run is not None and run.status == FAILURE
        [entry] = instance.all_logs(left.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
        assert entry.dagster_event is not None and f"pid {process.pid}" in (entry.dagster_event.message or "")


def test_only_runs_of_this_machine_without_a_process_are_dead(instance: dg.DagsterInstance) -> None:
    def started(pid: int, at: float, tags: dict[str, str] | None = None) -> str:
        run = create_run_for_test(instance, "raw_wav_job", status=dg.DagsterRunStatus.STARTED, tags=tags)
        event = DagsterEvent(
            DagsterEventType.ENGINE_EVENT.value,
            run.job_name,
            event_specific_data=EngineEventData.in_process(pid),
        )
        entry = EventLogEntry(None, 10, "", run.run_id, at, job_name=run.job_name, dagster_event=event)
        instance.store_event(entry)
        return run.run_id

    now = time.time()
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    started(os.getpid(), now)
    started(gone.pid, now, {dead_runs.HOST: "another.example"})
    create_run_for_test(instance, "raw_wav_job", status=dg.DagsterRunStatus.STARTED)
    # A pid that another process has by now: this one did not run a year ago.
    dead = [started(gone.pid, now), started(os.getpid(), now - 365 * 86400)]
    found = dead_runs.find(instance)
    assert sorted(run.run_id for run in found) == sorted(dead)
    dead_runs.report(instance, found)
    assert dead_runs.find(instance) == []
    assert {run.run_id for run in instance.get_runs(dg.RunsFilter(statuses=[FAILURE]))} == set(dead)


def test_a_zombie_and_a_reused_pid_do_not_run() -> None:
    before = time.time()
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    now = time.time()
    started = dead_runs.started_at(process.pid)
    assert started is not None and before - dead_runs.SLACK_S <= started <= now + dead_runs.SLACK_S
    assert dead_runs.is_running(process.pid, now) and not dead_runs.is_running(process.pid, now - 3600)
    process.kill()
    deadline = time.monotonic() + 30
    # Nobody waits for the process: it is a zombie now.
    while dead_runs.is_running(process.pid, now) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not dead_runs.is_running(process.pid, now)
    process.communicate()
    assert dead_runs.started_at(process.pid) is None
