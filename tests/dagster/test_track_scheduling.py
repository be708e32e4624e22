"""Which tracks each per-track stage is due for: new ones, failed ones, those of killed runs."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.test_utils import create_run_for_test
from hypothesis import given
from hypothesis import strategies as st

from melodygan_core import catalogue
from melodygan_core.config import SeparationConfig
from melodygan_dagster import track_scheduling
from melodygan_dagster.deployment import Deployment
from melodygan_dagster.partitions import TRACKS, TRACKS_PER_RUN
from melodygan_dagster.resources import deployed_settings

MONDAY_NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
KEYS = [f"t{i:04}" for i in range(400)]


@given(wanted=st.sets(st.sampled_from(KEYS)), present=st.sets(st.sampled_from(KEYS)))
def test_batches_cover_the_wanted_tracks_in_few_runs(wanted: set[str], present: set[str]) -> None:
    present -= wanted
    made = list(track_scheduling.batches(KEYS, wanted, present))
    processed = []
    for batch in made:
        span = KEYS[KEYS.index(batch.start) : KEYS.index(batch.end) + 1]
        assert len(span) <= TRACKS_PER_RUN
        assert batch.start in wanted and batch.end in wanted
        assert batch.tags.get(track_scheduling.LEFT_OUT, "") == ",".join(batch.left_out)
        processed += [k for k in span if k not in batch.left_out]
    assert len(processed) == len(set(processed))
    assert wanted <= set(processed) <= wanted | present
    assert len(made) <= -(-len(KEYS) // TRACKS_PER_RUN)


def test_scattered_failures_add_no_runs() -> None:
    bad = {KEYS[i] for i in (3, 40, 77, 90, 119)}
    [first, second, third] = track_scheduling.batches(KEYS[:120], set(KEYS[:120]) - bad, set())
    assert (first.start, first.end, first.left_out) == (KEYS[0], KEYS[49], (KEYS[3], KEYS[40]))
    assert (second.start, second.end, second.left_out) == (KEYS[50], KEYS[99], (KEYS[77], KEYS[90]))
    assert (third.start, third.end, third.left_out) == (KEYS[100], KEYS[118], ())


@dataclass
class Nights:
    """What is due of the per-track stages, as runs end in different ways."""

    deployment: Deployment
    instance: dg.DagsterInstance

    def due(self, now: datetime, stage: str = "raw_wav") -> list[tuple[str, str]]:
        found = track_scheduling.due(self.instance, self.deployment.opened, deployed_settings(), now)
        return [(b.start, b.end) for b in found[stage]]

    def run(
        self, start: str, end: str, status: dg.DagsterRunStatus, failed: dict[str, str] | None = None
    ) -> None:
        """Records a run of raw_wav; `failed` is its report, and None if the run ended before it reported."""
        tags = track_scheduling.Batch(start, end).tags
        run = create_run_for_test(self.instance, "raw_wav_job", status=status, tags=tags)
        if failed is None:
            return
        rows = [dg.TableRecord({"track": t, "reason": r}) for t, r in failed.items()]
        metadata = {"failed": dg.MetadataValue.table(rows) if rows else dg.MetadataValue.text("none")}
        key = dg.AssetKey("raw_wav")
        planned = AssetCheckEvaluationPlanned(asset_key=key, check_name="every_track")
        self._log(run, DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED, planned)
        result = dg.AssetCheckEvaluation(key, "every_track", passed=not rows, metadata=metadata)
        self._log(run, DagsterEventType.ASSET_CHECK_EVALUATION, result)

    def _log(self, run: dg.DagsterRun, kind: DagsterEventType, data: Any) -> None:
        event = DagsterEvent(kind.value, run.job_name, event_specific_data=data)
        self.instance.report_dagster_event(event, run.run_id)

    def made(self, *tracks: str) -> None:
        store = self.deployment.opened
        for track in tracks:
            store.write_json(store.raw_json(track), {})
            self.instance.report_runless_asset_event(dg.AssetMaterialization("raw_wav", partition=track))


@pytest.fixture
def nights(deployment: Deployment, instance: dg.DagsterInstance) -> Nights:
    instance.add_dynamic_partitions(TRACKS, ["a", "b", "c"])
    return Nights(deployment, instance)


def _tonight(now: datetime) -> datetime:
    return track_scheduling.last_night(now) + timedelta(days=1, minutes=1)


def test_tracks_of_a_started_run_are_not_due(nights: Nights) -> None:
    now = datetime.now(UTC)
    assert nights.due(now) == [("a", "c")]
    nights.run("a", "c", dg.DagsterRunStatus.STARTED)
    assert nights.due(now) == []
    # Nor at night, while the run goes on.
    assert nights.due(_tonight(now)) == []


def test_a_failed_track_is_due_the_next_night(nights: Nights) -> None:
    now = datetime.now(UTC)
    nights.run("a", "c", dg.DagsterRunStatus.FAILURE, {"b": "HTTP 503"})
    nights.made("a", "c")
    assert nights.due(now) == []
    assert nights.due(_tonight(now)) == [("b", "b")]
    # The next stage does not wait for it: one run over the gap.
    assert nights.due(now, "stems") == [("a", "c")]
    [batch] = track_scheduling.due(nights.instance, nights.deployment.opened, deployed_settings(), now)["stems"]
    assert batch.left_out == ("b",)


def test_a_permanent_failure_is_not_due_until_its_record_is_deleted(nights: Nights) -> None:
    now, store = datetime.now(UTC), nights.deployment.opened
    nights.run("a", "c", dg.DagsterRunStatus.FAILURE, {"b": "HTTP 404"})
    nights.made("a", "c")
    store.write_json(store.raw_error("b"), {"reason": "HTTP 404"})
    assert nights.due(_tonight(now)) == []
    store.raw_error("b").unlink()
    assert nights.due(_tonight(now)) == [("b", "b")]


def test_a_run_that_did_not_report_is_repeated_at_once_a_few_times(nights: Nights) -> None:
    now = datetime.now(UTC)
    for _ in range(track_scheduling.MAX_RUNS):
        assert nights.due(now) == [("a", "c")]
        nights.run("a", "c", dg.DagsterRunStatus.FAILURE)
    assert nights.due(now) == []
    assert nights.due(_tonight(now)) == [("a", "c")]


def test_tracks_of_a_canceled_run_are_not_due(nights: Nights) -> None:
    nights.run("a", "b", dg.DagsterRunStatus.CANCELED)
    assert nights.due(datetime.now(UTC)) == [("c", "c")]


def test_the_night_begins_at_four() -> None:
    assert track_scheduling.last_night(MONDAY_NOON) == datetime(2026, 3, 2, 4, tzinfo=UTC)
    assert track_scheduling.last_night(MONDAY_NOON.replace(hour=3)) == datetime(2026, 3, 1, 4, tzinfo=UTC)


def test_failures_have_a_title_a_reason_and_a_next_attempt(nights: Nights) -> None:
    store = nights.deployment.opened
    row = {"uploader": "", "licence": "", "rights": "own", "tags": [], "source_id": "s", "status": "listed"}
    seen = datetime.now(UTC)
    rows = [
        row | {"track_id": k, "url": f"https://a.example/{k}", "title": k.upper(), "first_seen": seen}
        for k in "abc"
    ]
    with store.writing(store.catalogue()) as path:
        pq.write_table(pa.Table.from_pylist(rows, catalogue.SCHEMA), path)
    nights.run("a", "c", dg.DagsterRunStatus.FAILURE, {"a": "earlier", "b": "HTTP 503", "c": "HTTP 404"})
    nights.run("a", "b", dg.DagsterRunStatus.FAILURE, {"b": "HTTP 500"})
    nights.made("a")
    store.write_json(store.raw_error("c"), {"reason": "HTTP 404"})
    failures = track_scheduling.failures(nights.instance, store, deployed_settings())
    assert nights.due(datetime.now(UTC), "stems") == [("a", "a")]
    assert failures == [
        {"title": "B", "stage": "raw_wav", "reason": "HTTP 500", "next": "after 4:00 UTC", "track": "b"},
        {"title": "C", "stage": "raw_wav", "reason": "HTTP 404", "next": track_scheduling.NEVER, "track": "c"},
    ]


def _pending(deployment: Deployment, instance: dg.DagsterInstance, stage: str) -> list[track_scheduling.Batch]:
    in_store = track_scheduling.made(deployment.opened, deployed_settings())
    return track_scheduling.pending(instance, stage, in_store)


def test_tracks_missing_from_the_store_are_pending(
    deployment: Deployment, instance: dg.DagsterInstance
) -> None:
    """Dagster's record of a materialization is not enough: files can be removed."""
    store = deployment.opened
    instance.add_dynamic_partitions(TRACKS, ["a", "b", "c"])
    settings = deployed_settings()
    for key in "ab":
        store.write_json(store.raw_json(key), {})
        store.write_json(store.stems(settings.separation().model_id, key) / "stems.json", {})
        for stage in ("raw_wav", "stems"):
            instance.report_runless_asset_event(dg.AssetMaterialization(stage, partition=key))
    assert _pending(deployment, instance, "raw_wav") == [track_scheduling.Batch("c", "c")]
    assert _pending(deployment, instance, "stems") == []
    # `c` has no stems: its download reports it.
    assert _pending(deployment, instance, "features") == [track_scheduling.Batch("a", "b")]
    shutil.rmtree(Path(store.stems(settings.separation().model_id, "a").path))
    assert _pending(deployment, instance, "stems") == [track_scheduling.Batch("a", "a")]


def test_stems_of_another_separation_model_are_pending(
    deployment: Deployment, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = deployment.opened
    instance.add_dynamic_partitions(TRACKS, ["a"])
    store.write_json(store.raw_json("a"), {})
    store.write_json(store.stems(deployed_settings().separation().model_id, "a") / "stems.json", {})
    for stage in ("raw_wav", "stems"):
        instance.report_runless_asset_event(dg.AssetMaterialization(stage, partition="a"))
    assert _pending(deployment, instance, "stems") == []
    monkeypatch.setenv("MELODYGAN_SEPARATION_MODEL", "htdemucs.yaml")
    assert deployed_settings().separation() == SeparationConfig(model="htdemucs.yaml")
    assert _pending(deployment, instance, "stems") == [track_scheduling.Batch("a", "a")]
