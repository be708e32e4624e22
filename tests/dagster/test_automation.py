"""What starts without a hand, and what does not: the conditions on the real graph, tick by tick."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.test_utils import create_run_for_test
from hypothesis import given
from hypothesis import strategies as st

from melodygan_core import catalogue
from melodygan_core.config import FAMILIES
from melodygan_core.storage.store import Artifact, Store
from melodygan_dagster import track_scheduling
from melodygan_dagster.defs.automation import MAX_REQUESTS
from melodygan_dagster.deployment import Deployment
from melodygan_dagster.partitions import PER_TRACK, TRACKS, TRACKS_PER_RUN
from melodygan_dagster.resources import deployed_settings, from_environment

MONDAY_NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
TUESDAY_0401 = datetime(2026, 3, 3, 4, 1, tzinfo=UTC)
SUNDAY_0501 = datetime(2026, 3, 8, 5, 1, tzinfo=UTC)
OF_FAMILY = (
    "autoencoder_checkpoint",
    "latent_table",
    "gan_checkpoint",
    "generated_samples",
    "evaluation",
    "release",
)
MODELS = ["vocoder_checkpoint", *(f"{family}/{name}" for family in FAMILIES for name in OF_FAMILY)]


@dataclass
class Clock:
    """The automation daemon's ticks on the real definitions, and materializations between them."""

    definitions: dg.Definitions
    instance: dg.DagsterInstance
    now: datetime = MONDAY_NOON
    cursor: object = None
    versions: dict[str, int] = field(default_factory=dict)

    def tick(self, now: datetime | None = None) -> set[str]:
        """What is requested: `asset` or `asset:partition`."""
        self.now = now or self.now + timedelta(seconds=30)
        result = dg.evaluate_automation_conditions(
            self.definitions,
            self.instance,
            evaluation_time=self.now,
            cursor=self.cursor,  # pyrefly: ignore[bad-argument-type]
        )
        self.cursor = result.cursor
        requested = set()
        for key in self.definitions.resolve_asset_graph().materializable_asset_keys:
            name = key.to_user_string()
            partitions = result.get_requested_partitions(key)
            requested |= {name if p is None else f"{name}:{p}" for p in partitions}
        return requested

    def make(self, name: str, *partitions: str, version: str = "1", checks_pass: bool = True) -> None:
        key = dg.AssetKey(name.split("/"))
        for partition in partitions or (None,):
            self.instance.report_runless_asset_event(
                dg.AssetMaterialization(key, partition=partition, tags={DATA_VERSION_TAG: version})
            )
        graph = self.definitions.resolve_asset_graph()
        for check in graph.get_check_keys_for_assets({key}):
            blocking = graph.get(check).blocking
            self.instance.report_runless_asset_event(
                dg.AssetCheckEvaluation(key, check.name, passed=checks_pass or not blocking, blocking=blocking)
            )

    def make_all(self, version: str = "1") -> None:
        for name in ("catalogue", "feature_table", *MODELS, "gallery"):
            self.make(name, version=version)


@pytest.fixture
def clock(definitions: dg.Definitions) -> Iterator[Clock]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Clock(definitions, instance)


def test_the_dataset_follows_new_features_and_does_not_wait_for_missing_ones(clock: Clock) -> None:
    clock.tick()
    clock.instance.add_dynamic_partitions(TRACKS, ["a", "b", "bad"])
    clock.make("catalogue")
    # Of nothing no dataset can be made.
    assert clock.tick() == set()
    for stage in PER_TRACK:
        clock.make(stage, "a")
    assert clock.tick() == {"feature_table"}
    # While it is made, more comes, which it may not have seen.
    for stage in PER_TRACK:
        clock.make(stage, "b")
    clock.make("feature_table")
    assert clock.tick() == {"feature_table"}
    clock.make("feature_table")
    assert clock.tick() == set()
    # The track that failed comes the next night, after all.
    for stage in PER_TRACK:
        clock.make(stage, "bad")
    assert clock.tick(TUESDAY_0401) == {"feature_table"}
    clock.make("feature_table")
    assert clock.tick() == set()


def test_training_waits_for_its_day_and_for_new_data(clock: Clock) -> None:
    clock.make("catalogue")
    clock.make("feature_table", version="1")
    clock.tick()
    clock.make_all()
    assert clock.tick() == set()
    # Looked at again without a change: nothing, not even on the day.
    clock.make("feature_table", version="1")
    assert clock.tick() == set()
    assert clock.tick(SUNDAY_0501) == set()
    # Changed: not before the day, and then the first model with what follows it.
    clock.make("feature_table", version="2")
    assert clock.tick() == set()
    assert clock.tick() == set()
    requested = clock.tick(SUNDAY_0501 + timedelta(days=7))
    first = {f"{family}/{name}" for family in FAMILIES for name in OF_FAMILY[:3]}
    assert {"vocoder_checkpoint", *first} <= requested <= {*MODELS, "gallery"}
    for name in [*MODELS, "gallery"]:
        clock.make(name, version="2")
    assert clock.tick() == set()
    assert clock.tick(SUNDAY_0501 + timedelta(days=14)) == set()


def test_models_that_come_out_the_same_start_nothing(clock: Clock) -> None:
    clock.make("catalogue")
    clock.make("feature_table")
    clock.tick()
    clock.make_all()
    clock.tick()
    clock.make("dense/autoencoder_checkpoint", version="1")
    assert clock.tick() == set()
    clock.make("dense/gan_checkpoint", version="2")
    assert {"dense/generated_samples", "dense/evaluation"} <= clock.tick()
    clock.make_all(version="3")
    clock.tick()
    # Both families sound through the vocoder, and neither is trained on it.
    clock.make("vocoder_checkpoint", version="4")
    requested = clock.tick()
    assert {f"{family}/{name}" for family in FAMILIES for name in OF_FAMILY[3:5]} <= requested
    assert not requested & {f"{family}/{name}" for family in FAMILIES for name in OF_FAMILY[:3]}


def test_a_failed_blocking_check_stops_what_follows(clock: Clock) -> None:
    clock.make("catalogue")
    clock.make("feature_table")
    clock.tick()
    clock.make_all()
    clock.tick()
    clock.make("dense/gan_checkpoint", version="2", checks_pass=False)
    assert clock.tick() == set()
    clock.make("feature_table", version="2", checks_pass=False)
    assert clock.tick(SUNDAY_0501) == set()


def test_the_automation_runs_without_being_switched_on(definitions: dg.Definitions) -> None:
    repository = definitions.get_repository_def()
    automation = repository.get_sensor_def("automation")
    assert isinstance(automation, dg.AutomationConditionSensorDefinition)
    for sensor in repository.sensor_defs:
        assert sensor.default_status == dg.DefaultSensorStatus.RUNNING, sensor.name
    for schedule in repository.schedule_defs:
        assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING, schedule.name
    graph = definitions.resolve_asset_graph()
    for name in ("feature_table", *MODELS, "gallery"):
        assert graph.get(dg.AssetKey(name.split("/"))).automation_condition is not None, name
    # `tracks_due` asks for those; a condition beside it would ask twice.
    for name in PER_TRACK:
        assert graph.get(dg.AssetKey(name)).automation_condition is None, name


def test_freshness_is_on_aggregates_and_models(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    fresh = {k.to_user_string() for k in graph.materializable_asset_keys if graph.get(k).freshness_policy}
    assert fresh == {"catalogue", "feature_table", "vocoder_checkpoint"} | {
        f"{family}/{name}_checkpoint" for family in FAMILIES for name in ("autoencoder", "gan")
    }


def test_the_sensor_asks_once_for_each_content_of_the_sources(
    deployment: Deployment, definitions: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    sensor = definitions.get_repository_def().get_sensor_def("sources_changed")
    cursor: str | None = None

    def evaluate() -> SensorExecutionData:
        nonlocal cursor
        context = dg.build_sensor_context(
            instance=instance,
            cursor=cursor,
            definitions=definitions,
            resources={"settings": deployed_settings()},
        )
        made = sensor.evaluate_tick(context)
        cursor = made.cursor or cursor
        return made

    missing = evaluate()
    assert missing.skip_message and "does not exist" in missing.skip_message
    for content in ("sources: []", "sources: [https://a.example/x.mp3]", "sources: []"):
        deployment.sources.write_text(content, "utf-8")
        [request] = evaluate().run_requests or []
        # A run_key never fires twice, and this content came a second time.
        assert request.run_key is None
        again = evaluate()
        assert not again.run_requests and again.skip_message and "unchanged" in again.skip_message


KEYS = [f"t{i:04}" for i in range(400)]


@given(wanted=st.sets(st.sampled_from(KEYS)), there=st.sets(st.sampled_from(KEYS)))
def test_runs_hold_what_is_wanted_and_are_few(wanted: set[str], there: set[str]) -> None:
    there -= wanted
    made = list(track_scheduling.batches(KEYS, wanted, there))
    ran = []
    for batch in made:
        span = KEYS[KEYS.index(batch.start) : KEYS.index(batch.end) + 1]
        assert len(span) <= TRACKS_PER_RUN
        assert batch.start in wanted and batch.end in wanted
        assert batch.tags.get(track_scheduling.LEFT_OUT, "") == ",".join(batch.left_out)
        ran += [k for k in span if k not in batch.left_out]
    assert len(ran) == len(set(ran))
    assert wanted <= set(ran) <= wanted | there
    assert len(made) <= -(-len(KEYS) // TRACKS_PER_RUN)


def test_scattered_failures_make_no_more_runs() -> None:
    bad = {KEYS[i] for i in (3, 40, 77, 90, 119)}
    [first, second, third] = track_scheduling.batches(KEYS[:120], set(KEYS[:120]) - bad, set())
    assert (first.start, first.end, first.left_out) == (KEYS[0], KEYS[49], (KEYS[3], KEYS[40]))
    assert (second.start, second.end, second.left_out) == (KEYS[50], KEYS[99], (KEYS[77], KEYS[90]))
    assert (third.start, third.end, third.left_out) == (KEYS[100], KEYS[118], ())


@dataclass
class Nights:
    """What is due of the per-track stages, as runs end one way or another."""

    deployment: Deployment
    instance: dg.DagsterInstance
    runs: int = 0

    def due(self, now: datetime, stage: str = "raw_wav") -> list[tuple[str, str]]:
        found = track_scheduling.due(self.instance, self.deployment.opened, deployed_settings(), now)
        return [(b.start, b.end) for b in found[stage]]

    def run(
        self, start: str, end: str, status: dg.DagsterRunStatus, failed: dict[str, str] | None = None
    ) -> None:
        """A run of raw_wav; `failed` is what it said of its tracks, None when it did not come so far."""
        tags = track_scheduling.Batch(start, end).tags
        run = create_run_for_test(self.instance, "raw_wav_job", status=status, tags=tags)
        if failed is None:
            return
        rows = [dg.TableRecord({"track": t, "reason": r}) for t, r in failed.items()]
        metadata = {"failed": dg.MetadataValue.table(rows) if rows else dg.MetadataValue.text("none")}
        key = dg.AssetKey("raw_wav")
        planned = AssetCheckEvaluationPlanned(asset_key=key, check_name="every_track")
        self._log(run, DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED, planned)
        said = dg.AssetCheckEvaluation(key, "every_track", passed=not rows, metadata=metadata)
        self._log(run, DagsterEventType.ASSET_CHECK_EVALUATION, said)

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


def test_a_failed_track_is_tried_again_the_next_night(nights: Nights) -> None:
    now = datetime.now(UTC)
    assert nights.due(now) == [("a", "c")]
    nights.run("a", "c", dg.DagsterRunStatus.STARTED)
    assert nights.due(now) == []
    # Under way at night, too: it is not started a second time.
    assert nights.due(_tonight(now)) == []


def test_what_a_run_said_holds_until_the_next_night(nights: Nights) -> None:
    now = datetime.now(UTC)
    nights.run("a", "c", dg.DagsterRunStatus.FAILURE, {"b": "HTTP 503"})
    nights.made("a", "c")
    assert nights.due(now) == []
    assert nights.due(_tonight(now)) == [("b", "b")]
    # What follows does not wait for it: one run over the gap.
    assert nights.due(now, "stems") == [("a", "c")]
    [batch] = track_scheduling.due(nights.instance, nights.deployment.opened, deployed_settings(), now)["stems"]
    assert batch.left_out == ("b",)


def test_what_will_never_work_is_not_tried_again(nights: Nights) -> None:
    now, store = datetime.now(UTC), nights.deployment.opened
    nights.run("a", "c", dg.DagsterRunStatus.FAILURE, {"b": "HTTP 404"})
    nights.made("a", "c")
    store.write_json(store.raw_error("b"), {"reason": "HTTP 404"})
    assert nights.due(_tonight(now)) == []
    store.raw_error("b").unlink()
    assert nights.due(_tonight(now)) == [("b", "b")]


def test_a_run_without_a_word_of_its_tracks_is_repeated_at_once_but_not_for_ever(nights: Nights) -> None:
    now = datetime.now(UTC)
    for _ in range(track_scheduling.MAX_RUNS):
        assert nights.due(now) == [("a", "c")]
        nights.run("a", "c", dg.DagsterRunStatus.FAILURE)
    assert nights.due(now) == []
    assert nights.due(_tonight(now)) == [("a", "c")]


def test_a_canceled_run_is_not_started_again_against_ones_will(nights: Nights) -> None:
    nights.run("a", "b", dg.DagsterRunStatus.CANCELED)
    assert nights.due(datetime.now(UTC)) == [("c", "c")]


def test_the_night_begins_at_four() -> None:
    assert track_scheduling.last_night(MONDAY_NOON) == datetime(2026, 3, 2, 4, tzinfo=UTC)
    assert track_scheduling.last_night(MONDAY_NOON.replace(hour=3)) == datetime(2026, 3, 1, 4, tzinfo=UTC)


def test_failures_are_told_with_their_reason_and_their_next_time(nights: Nights) -> None:
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
    told = track_scheduling.failures(nights.instance, store, deployed_settings())
    assert nights.due(datetime.now(UTC), "stems") == [("a", "a")]
    assert told == [
        {"track": "b", "title": "B", "stage": "raw_wav", "reason": "HTTP 500", "next": "after 4:00 UTC"},
        {"track": "c", "title": "C", "stage": "raw_wav", "reason": "HTTP 404", "next": track_scheduling.NEVER},
    ]


def _sensor(
    definitions: dg.Definitions, instance: dg.DagsterInstance, name: str, cursor: str | None = None
) -> SensorExecutionData:
    resources = from_environment()
    context = dg.build_sensor_context(
        instance=instance,
        cursor=cursor,
        repository_def=definitions.get_repository_def(),
        resources={"settings": resources["settings"], "store": resources["store"]},
    )
    return definitions.get_repository_def().get_sensor_def(name).evaluate_tick(context)


def test_nothing_is_requested_of_a_store_that_is_not_there(nights: Nights, definitions: dg.Definitions) -> None:
    made = _sensor(definitions, nights.instance, "tracks_due")
    assert not made.run_requests and made.skip_message and "no catalogue" in made.skip_message


def test_tracks_are_requested_in_runs_of_many_and_not_all_at_once(
    nights: Nights, definitions: dg.Definitions
) -> None:
    store = nights.deployment.opened
    with store.writing(store.catalogue()) as path:
        pq.write_table(pa.Table.from_pylist([], catalogue.SCHEMA), path)
    nights.instance.add_dynamic_partitions(TRACKS, [f"t{i:05}" for i in range(1000)])
    requests = _sensor(definitions, nights.instance, "tracks_due").run_requests or []
    assert len(requests) == MAX_REQUESTS
    assert {r.job_name for r in requests} == {"raw_wav_job"}
    assert (
        requests[0].tags[track_scheduling.RANGE_START] == "a"
        and requests[0].tags[track_scheduling.RANGE_END] == "t00046"
    )
    assert len({r.tags[track_scheduling.RANGE_START] for r in requests}) == len(requests)


def _dataset(store: Store, version: str, tracks: int) -> None:
    table = store.dataset(version) / "tracks.parquet"
    with store.writing(table) as path:
        pq.write_table(pa.table({"track_id": [f"t{i}" for i in range(tracks)]}), path)
    store.write_record(Artifact("feature_table", version, f"dataset/{version}", "0", 1))


def _checked(instance: dg.DagsterInstance, definitions: dg.Definitions, passed: bool) -> None:
    graph = definitions.resolve_asset_graph()
    for key in graph.get_check_keys_for_assets({dg.AssetKey("feature_table")}):
        instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(key.asset_key, key.name, passed=passed, blocking=graph.get(key).blocking)
        )


def test_enough_new_tracks_are_trained_on_once(
    deployment: Deployment,
    instance: dg.DagsterInstance,
    definitions: dg.Definitions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, cursor = deployment.opened, None
    monkeypatch.setenv("MELODYGAN_RETRAIN_AFTER", "5")

    def asked() -> bool:
        nonlocal cursor
        made = _sensor(definitions, instance, "enough_new_tracks", cursor)
        cursor = made.cursor or cursor
        assert bool(made.run_requests) != bool(made.skip_message)
        return bool(made.run_requests)

    assert not asked()
    _dataset(store, "v1", 4)
    _checked(instance, definitions, passed=True)
    assert not asked()
    _dataset(store, "v2", 6)
    # Not on data that failed its checks.
    _checked(instance, definitions, passed=False)
    assert not asked()
    _checked(instance, definitions, passed=True)
    assert asked()
    # Once for each dataset, whatever became of the training.
    assert not asked()
    model = Artifact("dense/autoencoder_checkpoint", "m1", "m", "0", 1, inputs={"feature_table": "v2"})
    store.write_record(model)
    assert not asked()
    _dataset(store, "v3", 10)
    assert not asked()
    _dataset(store, "v4", 11)
    assert asked()
    monkeypatch.setenv("MELODYGAN_RETRAIN_AFTER", "0")
    _dataset(store, "v5", 100)
    assert not asked()
