from __future__ import annotations

import os
import time
from typing import Any

import pytest

from melodygan_core.errors import InputError, TrackError, TransientError
from melodygan_core.parallel import Backend, map_tracks

TRACKS = ["c", "a", "d", "b"]
BACKENDS = [Backend(), Backend("threads", 3), Backend("processes", 2)]


def work(track_id: str) -> dict[str, Any]:
    """Behaves according to the track_id; picklable for processes."""
    kind, _, _ = track_id.partition("-")
    if kind == "track":
        raise TrackError("404, gone")
    if kind == "input":
        raise InputError("n must be 2, got 1")
    if kind == "later":
        raise TransientError("503")
    if kind == "bug":
        return {"x": [*track_id][99]}
    if kind == "crash":
        os._exit(9)
    if kind == "slow":
        time.sleep(0.3)
    return {"name": track_id, "skipped": kind == "there"}


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda b: b.name)
def test_the_report_keeps_the_order_and_counts_skipped_tracks(backend: Backend) -> None:
    tracks = ["slow-1", "b", "there-1", "a"]
    report = map_tracks("stage", work, tracks, backend)
    assert [o.track_id for o in report.outcomes] == tracks
    assert [o.metadata for o in report.outcomes] == [{"name": t} for t in tracks]
    assert [o.track_id for o in report.computed] == ["slow-1", "b", "a"]
    assert len(report.good) == 4
    assert report.outcomes[0].duration_s >= 0.3 > report.outcomes[1].duration_s


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda b: b.name)
def test_one_failure_is_named_and_the_rest_continue(backend: Backend) -> None:
    report = map_tracks("stage", work, ["a", "track-1", "bug-1", "later-1", "input-1", "b"], backend)
    assert [o.track_id for o in report.good] == ["a", "b"]
    failed = {o.track_id: o for o in report.failed}
    assert {t: o.permanent for t, o in failed.items()} == {
        "track-1": True,
        "bug-1": False,
        "later-1": False,
        "input-1": True,
    }
    assert failed["track-1"].error == "404, gone"
    assert failed["bug-1"].error.startswith("IndexError: list index out of range (work, test_parallel.py:")
    assert all(o.metadata == {} for o in failed.values())


def test_a_dead_worker_fails_its_own_track_only() -> None:
    report = map_tracks("stage", work, ["a", "crash-1", "slow-1", "b", "c"], Backend("processes", 2))
    assert [o.track_id for o in report.failed] == ["crash-1"]
    assert "died" in report.failed[0].error
    assert not report.failed[0].permanent
    assert [o.track_id for o in report.good] == ["a", "slow-1", "b", "c"]


def test_no_tracks_give_an_empty_report() -> None:
    report = map_tracks("stage", work, [], Backend("processes", 2))
    assert (report.outcomes, report.good, report.failed) == ((), [], [])
