"""Train: what is stale and why, start and stop through Dagster, curves, time left, sound of validations."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from dagster_graphql.schema import create_schema
from graphql import GraphQLSchema, parse, validate

from melodygan_core.config import Config
from melodygan_core.config.presets import load
from melodygan_core.errors import TransientError
from melodygan_core.services.freshness import planned_assets
from melodygan_core.services.training_sound import heard_steps
from melodygan_core.storage import Artifact, Store
from melodygan_core.storage.kinds import TRAINING_SOUND
from melodygan_web.dagster_runs import DagsterRuns
from melodygan_web.trainings import curves, figures, runs
from tests.browser.xss import STRINGS
from tests.web.conftest import open_studio, tone
from tests.web.markup import check_markup

PRIOR = "temporal/gan_checkpoint"


@pytest.fixture(scope="module")
def config() -> Config:
    return load("small")


def observation(step: int, at_s: float, run: str = "r1", **values: Any) -> dict[str, Any]:
    entries: list[dict[str, Any]] = [{"label": "step", "intValue": step}]
    entries += [{"label": name.replace("__", "/"), "floatValue": value} for name, value in values.items()]
    return {"runId": run, "timestamp": str(int(1000 * at_s)), "metadataEntries": entries}


class Dagster:
    """Answers the queries of the screen as Dagster does.

    Attributes:
        active: Runs that are not finished.
        events: Asset to its observations, the newest first.
        started: Jobs that were asked for.
        stopped: Runs that were asked to end.
    """

    def __init__(self) -> None:
        self.active: list[dict[str, Any]] = []
        self.events: dict[str, list[dict[str, Any]]] = {}
        self.last: list[dict[str, Any]] = []
        self.started: list[str] = []
        self.stopped: list[str] = []

    def ask(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        if "launchRun" in query:
            self.started.append(variables["params"]["selector"]["jobName"])
            self.run("r1")
            return {"launchRun": {"__typename": "LaunchRunSuccess", "run": {"runId": "r1"}}}
        if "terminateRun" in query:
            self.stopped.append(variables["run"])
            self.active = []
            return {"terminateRun": {"__typename": "TerminateRunSuccess"}}
        if "StudioLastTraining" in query:
            return {"runsOrError": {"__typename": "Runs", "results": self.last}}
        if "runsOrError" in query:
            return {"runsOrError": {"__typename": "Runs", "results": self.active}}
        name = "/".join(variables["key"]["path"])
        return {"assetOrError": {"__typename": "Asset", "assetObservations": self.events.get(name, [])}}

    def run(self, run_id: str, step: str = "temporal__gan_checkpoint") -> None:
        """A run of which one step is in progress."""
        keys = ["temporal__autoencoder_checkpoint", "temporal__gan_checkpoint"]
        stats = [{"stepKey": step, "status": "IN_PROGRESS", "startTime": 5.0}]
        self.active = [
            {
                "runId": run_id,
                "jobName": "j",
                "status": "STARTED",
                "stepKeysToExecute": keys,
                "stepStats": stats,
            }
        ]


def write_all(store: Store, config: Config, pipeline: str = "temporal_gan", **changes: Any) -> None:
    """Records of a pipeline that is up to date."""
    store.write_record(Artifact("feature_table", "v1", "x/v1", "0", 1))
    for asset in planned_assets(config, pipeline):
        values = {"config": dict(asset.config), "inputs": dict.fromkeys(asset.inputs, "v1"), **changes}
        store.write_record(Artifact(asset.name, "v1", "x/v1", "0", 1, **values))


def sentence_of(page: str) -> str:
    found = re.search(r'class="verdict"[^>]*>([^<]*)<', page)
    assert found is not None
    return found[1]


def test_a_studio_of_a_store_alone_says_what_it_lacks(store: Store, config: Config) -> None:
    page = open_studio(store).client.page("/train")
    assert "no Dagster beside this studio" in page and "shows a store alone" in page
    opened = open_studio(store, config=config)
    page = opened.client.page("/train?pipeline=temporal_gan")
    assert "no Dagster beside this studio" in page and "data-train" not in page
    answer = opened.client.act("/train/temporal_gan/start")
    assert answer.status_code == 404 and "no Dagster" in answer.json()["error"]


def test_what_is_stale_is_said_with_its_reason(store: Store, config: Config) -> None:
    dagster = Dagster()
    opened = open_studio(store, dagster=DagsterRuns(dagster.ask), config=config)
    page = opened.client.page("/train?pipeline=temporal_gan")
    assert sentence_of(page) == "Nothing of it has been made yet." and "It was never made." in page
    write_all(store, config)
    page = opened.client.page("/train?pipeline=temporal_gan")
    assert sentence_of(page) == "Everything is up to date." and "Check again" in page
    store.write_record(Artifact("feature_table", "v2", "x/v2", "0", 1))
    page = opened.client.page("/train?pipeline=temporal_gan")
    assert sentence_of(page) == "Of 8 steps, 8 not up to date."
    assert "There is a newer dataset than the one that it was made from." in page and ">Train<" in page.replace(
        "\n", ""
    )
    # A state that a killed training left.
    (Path(store.work(store.training_work("temporal", "gan", "abc"))) / "state.pt").write_bytes(b"x")
    dagster.last = [{"runId": "r0", "status": "CANCELED", "endTime": 1.0}]
    page = opened.client.page("/train?pipeline=temporal_gan")
    assert (
        ">Resume<" in page and "goes on at its last checkpoint" in page and "The last run was stopped." in page
    )


def test_a_pipeline_is_started_once_and_stopped(store: Store, config: Config) -> None:
    dagster = Dagster()
    opened = open_studio(store, dagster=DagsterRuns(dagster.ask), config=config)
    name = config.train[0]
    assert opened.client.act(f"/train/{name}/stop").status_code == 400
    assert opened.client.act(f"/train/{name}/start").json() == {"run": "r1"}
    assert dagster.started == [f"{name}_job"]
    answer = opened.client.act(f"/train/{name}/start")
    assert answer.status_code == 400 and "stop the run first" in answer.json()["error"]
    page = opened.client.page(f"/train?pipeline={name}")
    assert (
        sentence_of(page) == "Running: Prior is being made." and 'href="/runs/r1"' in page and ">Stop<" in page
    )
    assert opened.client.act(f"/train/{name}/stop").json() == {"stopping": ["r1"]}
    assert dagster.stopped == ["r1"]
    # Neither the token of another session, nor a pipeline that has no job.
    assert opened.client.act(f"/train/{name}/start", **{"X-CSRF-Token": "x"}).status_code == 403
    answer = opened.client.act("/train/x/start")
    assert answer.status_code == 400 and answer.json()["error"].startswith("pipeline must be one that this")


def test_curves_and_time_left_come_while_it_trains(store: Store, config: Config) -> None:
    dagster = Dagster()
    dagster.run("r1")
    dagster.events[PRIOR] = [
        observation(300, 1030.0, validation__kad=4.0, train__adv__gen=0.1),
        observation(200, 1020.0, validation__kad=6.0, train__adv__gen=float("nan")),
        observation(100, 1010.0, validation__kad=8.0, train__adv__gen=0.3),
        # Of the training before.
        observation(900, 20.0, "r0", validation__kad=99.0),
    ]
    opened = open_studio(store, dagster=DagsterRuns(dagster.ask), config=config)
    page = opened.client.page("/train/state?pipeline=temporal_gan")
    steps = planned_assets(config, "temporal_gan")
    most = next(asset.max_steps for asset in steps if asset.name == PRIOR)
    assert "<html" not in page and f"Step 300 of at most {most}" in page and "left." in page
    assert "kad from step 100 to 300, last 4" in page and "99" not in re.findall(r"<figcaption>.*", page)[0]
    assert page.count('data-status="running"') == 1


def test_a_dagster_that_does_not_answer_leaves_the_records(store: Store, config: Config) -> None:
    def ask(query: str, variables: dict[str, Any]) -> dict[str, Any]:
        raise TransientError("Dagster must answer, and did not")

    write_all(store, config)
    opened = open_studio(store, dagster=DagsterRuns(ask), config=config)
    page = opened.client.page("/train?pipeline=temporal_gan")
    assert "Dagster must answer, and did not" in page and sentence_of(page) == "Everything is up to date."
    assert opened.client.act("/train/temporal_gan/start").status_code == 503


def test_the_sound_of_validations_can_be_played(store: Store, config: Config) -> None:
    for step in (100, 200):
        tone(Path(store.locate(TRAINING_SOUND.uri(asset=PRIOR, step=str(step))).path))
    opened = open_studio(store, config=config)
    page = opened.client.page("/train?pipeline=temporal_gan")
    ids = re.findall(r'data-id="(t[0-9a-f]{16})"', page)
    assert ids == [heard.id for heard in heard_steps(store, PRIOR)] and "Step 200" in page
    answer = opened.client.get(f"/studio/sounds/{ids[0]}.wav")
    assert answer.content[:4] == b"RIFF"
    assert opened.client.get(f"/studio/sounds/{ids[0]}/peaks.json").json()[0] <= 0
    assert opened.client.get("/studio/sounds/t0123456789abcdef.wav").status_code == 404


def test_texts_of_strangers_are_shown_as_text(store: Store, config: Config) -> None:
    dagster = Dagster()
    opened = open_studio(store, dagster=DagsterRuns(dagster.ask), config=config)
    tags = 0
    for text in ("a word", *STRINGS):
        dagster.run(text)
        events = [observation(step, float(step), text) for step in (200, 100)]
        for event in events:
            event["metadataEntries"].append({"label": f"validation/{text}", "floatValue": 1.0})
        dagster.events[PRIOR] = events
        page = opened.client.page("/train?pipeline=temporal_gan")
        assert "<figcaption>" in page
        tags = check_markup(page, tags)
        assert opened.client.get("/studio/train", params={"pipeline": text}).status_code == 200


def test_time_left_is_of_the_last_run() -> None:
    def seen(step: int, at: float, run: str) -> figures.Validation:
        return figures.Validation(step, at, {}, run)

    assert figures.time_left([], 100, 0.0) == figures.Left(0, None, 0, 100)
    resumed = [seen(10, 0.0, "a"), seen(20, 1000.0, "b"), seen(30, 1010.0, "b")]
    # One second a step, 70 steps, 4 seconds of which are over.
    assert figures.time_left(resumed, 100, 1014.0) == figures.Left(30, 66.0, 30, 100)
    assert figures.time_left(resumed[:2], 100, 1014.0).at_most_s is None
    assert figures.time_left(resumed, 100, 9999.0).at_most_s == 0.0


def test_a_curve_has_the_scale_of_its_values() -> None:
    history = [
        {"step": 0, "validation/loss": 3.0},
        {"step": 10, "validation/loss": 1.0, "train/loss": 2.0, "train/skipped_steps": 0.0},
        {"step": 20, "validation/loss": 2.0, "train/loss": 1.5, "broken": "x"},
    ]
    [plot] = curves.plots(figures.recorded(history))
    assert [line.label for line in plot.lines] == ["validation", "training"]
    assert (plot.low, plot.high, plot.first_step, plot.last_step) == (1.0, 3.0, 0, 20)
    assert plot.lines[0].points == "6.0,6.0 160.0,114.0 314.0,60.0" and plot.lines[0].last == 2.0
    assert curves.plots(figures.recorded(history[:1])) == [] and figures.recorded("x") == []


# Against the Dagster that is installed.


@pytest.fixture(scope="module")
def schema() -> GraphQLSchema:
    return create_schema().graphql_schema


@pytest.mark.parametrize("query", [runs._RUNS, runs._LAST, figures._OBSERVATIONS])
def test_queries_are_valid(schema: GraphQLSchema, query: str) -> None:
    assert validate(schema, parse(query)) == []


def test_assets_are_those_of_the_job(config: Config) -> None:
    from melodygan_dagster.pipelines import DeployedPipeline

    for name, row in config.pipelines.items():
        keys = {key.to_user_string() for key in DeployedPipeline(name, row, config).asset_keys}
        assert {asset.name for asset in planned_assets(config, name)} == keys, name
