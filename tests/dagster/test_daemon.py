"""The real daemon on a few tracks, some of them bad, with a power cut in the middle.

More tracks, growing feeds and sources that do not answer: `python -m scripts.unattended`.
"""

from __future__ import annotations

import os
from pathlib import Path

import dagster as dg
import pytest

from melodygan_core.config import DownloadConfig
from tests import unattended
from tests.conftest import Page
from tests.unattended import World, in_dataset, runs_by_stage, wait

pytestmark = pytest.mark.slow
TIMEOUT_S = 600.0


def test_the_daemon_works_unattended_and_survives_a_power_cut(tmp_path: Path, environment: None) -> None:
    with unattended.world(tmp_path, tick_s=5) as world:
        bad, stuck = world.bad_ones(2), world.songs(1)[0]
        path = stuck.removeprefix(world.site.base_url)
        good_page, endless = world.site.pages[path], Page(b"RIFF", endless=True, pause_s=0.5)
        world.site.pages[path] = endless
        world.write_feed("songs", unattended.scattered([*world.songs(8), stuck], bad))
        world.write_feed("other", world.songs(1))
        world.write_sources()
        with world.deployment.instance() as instance:
            with unattended.daemon(tmp_path):
                wait("the track that does not end", lambda: world.site.hits[path] > 1, TIMEOUT_S)
                killed = unattended.power_cut(instance, "raw_wav_job")
            assert _status(instance, killed) == "STARTED"
            world.site.pages[path] = good_page
            # The download process is an orphan now, and ends with its connection.
            endless.endless = False
            _go_on(instance, world, killed, tmp_path)
        assert unattended.distributed(os.environ["DAGSTER_HOME"]) == []


def _go_on(instance: dg.DagsterInstance, world: World, killed: str, folder: Path) -> None:
    with unattended.daemon(folder):
        wait("the dead run to be found", lambda: _status(instance, killed) == "FAILURE", TIMEOUT_S)
        _check_killed(instance, killed)
        wait("tracks", lambda: in_dataset(instance, world), TIMEOUT_S)
        unattended.check(instance, world)
        after = world.hits()
    # The killed run and its repetition; then one run per stage.
    runs = runs_by_stage(instance)
    assert runs["raw_wav"].total() == 2
    assert runs["stems"] == runs["features"] == {"SUCCESS": 1}
    # One request to probe and one to download; more only for tracks in progress at the power cut.
    assert sum(after[path] > 2 for path in world.good) <= DownloadConfig().workers


def _status(instance: dg.DagsterInstance, run_id: str) -> str:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status.value


def _check_killed(instance: dg.DagsterInstance, run_id: str) -> None:
    [entry] = instance.all_logs(run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    assert entry.dagster_event is not None
    assert "The process of this run is gone" in (entry.dagster_event.message or "")
