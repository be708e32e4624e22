"""What starts without a hand, and what does not: the conditions on the real graph, tick by tick."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.definitions.sensor_definition import SensorExecutionData

from melodygan_dagster.deployment import Deployment
from melodygan_dagster.partitions import PER_TRACK, TRACKS
from melodygan_dagster.resources import deployed_settings

MONDAY_NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
TUESDAY_0401 = datetime(2026, 3, 3, 4, 1, tzinfo=UTC)
SUNDAY_0501 = datetime(2026, 3, 8, 5, 1, tzinfo=UTC)
MODELS = [
    f"dense/{n}"
    for n in (
        "autoencoder_checkpoint",
        "latent_table",
        "gan_checkpoint",
        "generated_samples",
        "evaluation",
        "release",
    )
]
CHECKS = {
    "feature_table": ["no_leakage"],
    "dense/gan_checkpoint": ["no_mode_collapse", "finite"],
    "dense/evaluation": ["not_memorised"],
}


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
        for check in CHECKS.get(name, []):
            self.instance.report_runless_asset_event(
                dg.AssetCheckEvaluation(key, check, passed=checks_pass, blocking=True)
            )

    def make_all(self, version: str = "1") -> None:
        for name in ("catalogue", "feature_table", *MODELS, "gallery"):
            self.make(name, version=version)


@pytest.fixture
def clock(definitions: dg.Definitions) -> Iterator[Clock]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Clock(definitions, instance)


def test_new_tracks_flow_and_a_failed_one_holds_nobody_back(clock: Clock) -> None:
    clock.tick()
    clock.instance.add_dynamic_partitions(TRACKS, ["a", "b", "bad"])
    clock.make("catalogue")
    assert {"raw_wav:a", "raw_wav:b", "raw_wav:bad"} == clock.tick() - {"feature_table"}
    clock.make("raw_wav", "a", "b")
    assert clock.tick() == {"stems:a", "stems:b"}
    assert clock.tick() == set()
    clock.make("stems", "a", "b")
    assert clock.tick() == {"features:a", "features:b"}
    clock.make("features", "a", "b")
    assert clock.tick() == {"feature_table"}
    clock.make("feature_table")
    assert clock.tick() == set()
    # The failed one again the next night, and not a second time.
    assert clock.tick(TUESDAY_0401) == {"raw_wav:bad"}
    assert clock.tick() == set()


def test_tracks_that_were_there_before_automation_are_not_forgotten(clock: Clock) -> None:
    clock.instance.add_dynamic_partitions(TRACKS, ["old"])
    clock.make("catalogue")
    assert "raw_wav:old" in clock.tick()


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
    assert requested == {"dense/autoencoder_checkpoint", "dense/latent_table", "dense/gan_checkpoint"} | (
        requested & {"dense/generated_samples", "dense/evaluation", "dense/release", "gallery"}
    )
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
    for name in (*PER_TRACK, "feature_table", *MODELS, "gallery"):
        assert graph.get(dg.AssetKey(name.split("/"))).automation_condition is not None, name


def test_freshness_is_on_aggregates_and_models(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    fresh = {k.to_user_string() for k in graph.materializable_asset_keys if graph.get(k).freshness_policy}
    assert fresh == {"catalogue", "feature_table", "dense/autoencoder_checkpoint", "dense/gan_checkpoint"}


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
