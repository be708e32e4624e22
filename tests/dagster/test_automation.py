"""Automation conditions on the real graph, tick by tick: what they request, and what they do not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from melodygan_dagster import private
from melodygan_dagster.partitions import PER_TRACK, TRACKS
from tests.dagster.conftest import CODECS, MODELS, PIPELINES, checkpoints_of, models_of

MONDAY_NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
TUESDAY_0401 = datetime(2026, 3, 3, 4, 1, tzinfo=UTC)
SUNDAY_0501 = datetime(2026, 3, 8, 5, 1, tzinfo=UTC)
WEEK = timedelta(days=7)
# What is trained or encoded for a codec.
TRAINED = {name for codec in CODECS for name in (*checkpoints_of(codec), f"{codec}/latent_table")}


@dataclass
class Clock:
    """The automation daemon's ticks on the real definitions, with materializations between them."""

    definitions: dg.Definitions
    instance: dg.DagsterInstance
    now: datetime = MONDAY_NOON
    cursor: object = None
    versions: dict[str, int] = field(default_factory=dict)

    def tick(self, now: datetime | None = None) -> set[str]:
        """Returns what is requested: `asset` or `asset:partition`."""
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

    def materialize(self, name: str, *partitions: str, version: str = "1", checks_pass: bool = True) -> None:
        """Records materializations of an asset and the results of its checks."""
        key = dg.AssetKey(name.split("/"))
        tags = private.data_version_tags(version)
        for partition in partitions or (None,):
            event = dg.AssetMaterialization(key, partition=partition, tags=tags)
            self.instance.report_runless_asset_event(event)
        graph = self.definitions.resolve_asset_graph()
        for check in graph.get_check_keys_for_assets({key}):
            blocking = graph.get(check).blocking
            self.instance.report_runless_asset_event(
                dg.AssetCheckEvaluation(key, check.name, passed=checks_pass or not blocking, blocking=blocking)
            )

    def materialize_all(self, version: str = "1") -> None:
        for name in ("catalogue", "feature_table", *MODELS, "gallery"):
            self.materialize(name, version=version)


@pytest.fixture
def clock(definitions: dg.Definitions) -> Iterator[Clock]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Clock(definitions, instance)


@pytest.fixture
def trained(clock: Clock) -> Clock:
    """A graph in which everything is materialized and nothing is requested."""
    clock.materialize("catalogue")
    clock.materialize("feature_table")
    clock.tick()
    clock.materialize_all()
    clock.tick()
    clock.materialize("gallery")
    assert clock.tick() == set()
    return clock


def test_the_dataset_follows_new_features_and_does_not_wait_for_missing_ones(clock: Clock) -> None:
    clock.tick()
    clock.instance.add_dynamic_partitions(TRACKS, ["a", "b", "bad"])
    clock.materialize("catalogue")
    # Without any features there is nothing to build a dataset from.
    assert clock.tick() == set()
    for stage in PER_TRACK:
        clock.materialize(stage, "a")
    assert clock.tick() == {"feature_table"}
    # These features arrive while the dataset is being built, so it may not contain them.
    for stage in PER_TRACK:
        clock.materialize(stage, "b")
    clock.materialize("feature_table")
    assert clock.tick() == {"feature_table"}
    clock.materialize("feature_table")
    assert clock.tick() == set()
    # The failed track succeeds the next night.
    for stage in PER_TRACK:
        clock.materialize(stage, "bad")
    assert clock.tick(TUESDAY_0401) == {"feature_table"}
    clock.materialize("feature_table")
    assert clock.tick() == set()


def test_training_waits_for_its_day_and_for_new_data(trained: Clock) -> None:
    # Rebuilt without a change: nothing starts, not even on the day.
    trained.materialize("feature_table", version="1")
    assert trained.tick() == set()
    assert trained.tick(SUNDAY_0501) == set()
    # Changed: nothing before the day; then the codecs, and what follows them.
    trained.materialize("feature_table", version="2")
    assert trained.tick() == set()
    assert trained.tick() == set()
    requested = trained.tick(SUNDAY_0501 + WEEK)
    assert {"vocoder_checkpoint", *TRAINED} <= requested <= set(MODELS)
    for name in MODELS:
        trained.materialize(name, version="2")
    assert trained.tick() == {"gallery"}
    trained.materialize("gallery", version="2")
    assert trained.tick() == set()
    assert trained.tick(SUNDAY_0501 + 2 * WEEK) == set()


def test_unchanged_models_start_nothing(trained: Clock) -> None:
    trained.materialize("dense/autoencoder_checkpoint", version="1")
    assert trained.tick() == set()
    trained.materialize("dense/gan_checkpoint", version="2")
    assert {"dense_gan/generated_samples", "dense_gan/evaluation"} <= trained.tick()
    trained.materialize_all(version="3")
    trained.tick()
    # All pipelines use the vocoder; no codec or prior is trained on it.
    trained.materialize("vocoder_checkpoint", version="4")
    requested = trained.tick()
    made = {f"{pipeline}/{name}" for pipeline in PIPELINES for name in ("generated_samples", "evaluation")}
    assert made <= requested
    assert not requested & TRAINED


def test_a_failed_blocking_check_stops_what_follows(trained: Clock) -> None:
    trained.materialize("dense/gan_checkpoint", version="2", checks_pass=False)
    assert trained.tick() == set()
    trained.materialize("feature_table", version="2", checks_pass=False)
    assert trained.tick(SUNDAY_0501) == set()


def test_one_pipelines_failure_does_not_hold_back_the_gallery(trained: Clock) -> None:
    trained.materialize("dense/autoencoder_checkpoint", version="2", checks_pass=False)
    for name in models_of("temporal_gan"):
        if name != "vocoder_checkpoint":
            trained.materialize(name, version="2")
    assert trained.tick() == {"gallery"}
    trained.materialize("gallery", version="2")
    # Samples that failed the blocking check of their evaluation do not start it.
    trained.materialize("dense_gan/evaluation", version="3", checks_pass=False)
    assert trained.tick() == set()


def test_the_gallery_is_never_requested_together_with_a_training(trained: Clock) -> None:
    trained.materialize("feature_table", version="2")
    requested = trained.tick(SUNDAY_0501)
    assert "vocoder_checkpoint" in requested and "gallery" not in requested


def test_automation_is_on_by_default(definitions: dg.Definitions) -> None:
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
    # `tracks_due` requests these; a condition would request them twice.
    for name in PER_TRACK:
        assert graph.get(dg.AssetKey(name)).automation_condition is None, name


def test_freshness_policies_are_on_aggregates_and_models(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    fresh = {k.to_user_string() for k in graph.materializable_asset_keys if graph.get(k).freshness_policy}
    assert fresh == {"catalogue", "feature_table", "vocoder_checkpoint"}.union(*map(checkpoints_of, CODECS))
