"""The jobs that use a release, run as the UI runs them."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from melodygan_core import prior, release
from melodygan_core.config import (
    VOCODERS,
    ContinueConfig,
    GenerationConfig,
    InpaintConfig,
    InterpolateConfig,
    LoopConfig,
    ReconstructConfig,
    TransferConfig,
    VariationsConfig,
    replace,
)
from melodygan_core.maintenance.check import check_store
from melodygan_core.storage import Store
from melodygan_dagster import reporting, service_runs
from melodygan_dagster.defs.services import OWN_FILE, build_jobs
from melodygan_dagster.deployment import Deployment
from tests.conftest import copied
from tests.core.made import GENERATION, TEMPORAL_FLOW, Trained
from tests.core.made_temporal import put, tone

pytestmark = pytest.mark.slow

PIPELINES = ("dense_gan", "temporal_gan")


# Jobs of a pipeline whose prior is a flow.
EDITING: list[tuple[str, dict[str, Any], list[str]]] = [
    ("continuation", {"sound": "own/x/a.wav", "duration_s": 0.5}, ["a-continued-00.wav"]),
    ("inpaint", {"sound": "own/x/a.wav", "start_s": 0.4, "end_s": 0.6}, ["a-inpainted-00.wav"]),
    ("loop", {"bars": 1, "tempo_bpm": 240.0, "count": 2}, ["loop-00.wav", "loop-01.wav"]),
    ("variations", {"sound": "own/x/a.wav"}, ["a-variation-00.wav"]),
    ("transfer", {"content": "own/x/a.wav", "style_tag": "slow", "method": "flow"}, ["a-as-slow.wav"]),
]


@pytest.fixture(scope="module")
def made(dense: Trained, temporal_trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a release of `dense_gan`, one of `temporal_gan` and one of `temporal_flow`."""
    store = copied(temporal_trained, tmp_path_factory.mktemp("made") / "store").store
    store.write_record(dense.dataset)
    for trained in (dense, temporal_trained):
        published = release.publish(
            trained.artifacts, trained.evaluation, trained.dataset, store, GENERATION, None
        )
        store.write_record(published.artifact)
    trained = prior.train(
        "flow",
        temporal_trained.latents,
        temporal_trained.codec,
        store,
        replace(TEMPORAL_FLOW, condition="tag"),
    )
    artifacts = dataclasses.replace(temporal_trained.artifacts, name="temporal_flow", prior=trained)
    published = release.publish(
        artifacts, temporal_trained.evaluation, temporal_trained.dataset, store, GENERATION, None
    )
    store.write_record(published.artifact)
    return store


@pytest.fixture
def store(made: Store, deployment: Deployment) -> Store:
    """The deployment's store with both releases; two sounds lie beside its sources."""
    shutil.copytree(made.root, deployment.store, dirs_exist_ok=True)
    folder = deployment.sources.absolute().parent
    put(folder / "own" / "x" / "a.wav", tone(1.2, (220.0, 330.0)))
    put(folder / "own" / "x" / "b.wav", tone(1.0, (196.0, 147.0), bright=0.9))
    return deployment.opened


def run(
    definitions: dg.Definitions, instance: dg.DagsterInstance, name: str, config: dict[str, Any]
) -> dg.ExecuteInProcessResult:
    """Runs a job with the config of its op."""
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    return definitions.resolve_job_def(f"{name}_job").execute_in_process(
        run_config={"ops": {name: {"config": config}}, **quiet}, instance=instance, raise_on_error=False
    )


def output_metadata(result: dg.ExecuteInProcessResult, op: str) -> dict[str, Any]:
    """Metadata of the op's output."""
    [event] = [e for e in result.events_for_node(op) if e.is_successful_output]
    return dict(event.step_output_data.metadata)


def failure(result: dg.ExecuteInProcessResult) -> str:
    """Description of the failed step."""
    [event] = [e for e in result.all_events if e.is_step_failure]
    data = event.step_failure_data.user_failure_data
    assert data is not None and data.description is not None
    return data.description


def config_fields(job: dg.JobDefinition) -> dict[str, Any]:
    """The fields of the config of a job's only op."""
    [node] = job.nodes
    schema: Any = node.definition
    return schema.config_schema.config_type.fields


JOBS: list[tuple[str, dict[str, Any], list[str]]] = [
    (
        "generate",
        {"count": 2, "duration_s": 1.0, "vocoder": "griffin_lim"},
        ["sample-000.wav", "sample-001.wav"],
    ),
    ("reconstruct", {"sound": "own/x/a.wav", "vocoder": "neural"}, ["a-reconstructed.wav"]),
    (
        "interpolate",
        {"first": "own/x/a.wav", "second": "own/x/b.wav", "steps": 2},
        ["interpolation-00.wav", "interpolation-01.wav"],
    ),
    ("transfer", {"content": "own/x/a.wav", "style": "own/x/b.wav"}, ["a-as-b.wav"]),
    ("transfer", {"content": "own/x/a.wav", "style_tag": "slow"}, ["a-as-slow.wav"]),
    ("augment", {"dataset": "own", "copies": 1}, ["data/x/a.01.wav", "data/x/b.01.wav"]),
]


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize(("name", "config", "files"), JOBS)
def test_a_job_shows_what_it_made(
    store: Store,
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    pipeline: str,
    name: str,
    config: dict[str, Any],
    files: list[str],
) -> None:
    result = run(definitions, instance, name, {"pipeline": pipeline, **config})
    assert result.success, failure(result)
    folder = Path(store.use(name, result.run_id).path)
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.wav")) == files
    note = store.read_json(store.use(name, result.run_id) / "use.json")
    assert (note["job"], note["config"]["pipeline"]) == (f"{name}_job", pipeline)
    assert note["release"]["name"] == f"{pipeline}/release"
    metadata = output_metadata(result, name)
    for file in files:
        assert metadata[f"listen {file}"].value.endswith(f"/uses/{name}/{result.run_id}/{file}")
        assert Path(store.picture(f"uses/{name}/{result.run_id}/{file.removesuffix('.wav')}").path).is_file()
    assert len(metadata["made"].records) == len(files)
    recorded = store.record(f"{pipeline}/release")
    assert recorded is not None and metadata["release"].value == recorded.version
    [seen] = instance.fetch_observations(dg.AssetKey([pipeline, "release"]), limit=1).records
    assert seen.asset_observation is not None
    assert seen.asset_observation.metadata["job"].value == f"{name}_job"
    assert not [f for f in check_store(store).findings if "uses/" in f.path]


@pytest.mark.parametrize(("name", "config", "files"), EDITING)
def test_a_job_edits_with_a_flow_and_refuses_a_gan(
    store: Store,
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    name: str,
    config: dict[str, Any],
    files: list[str],
) -> None:
    jobs = build_jobs(["temporal_gan", "temporal_flow"], GenerationConfig())
    definitions = dg.Definitions(jobs=jobs, resources=definitions.resources)
    result = run(definitions, instance, name, {**config, "pipeline": "temporal_flow"})
    assert result.success, failure(result)
    folder = Path(store.use(name, result.run_id).path)
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.wav")) == files
    result = run(definitions, instance, name, {**config, "pipeline": "temporal_gan"})
    assert re.search("release must be of a pipeline that can .*, such as temporal_flow", failure(result))


def test_the_first_trained_pipeline_is_the_default(
    store: Store, definitions: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    result = run(definitions, instance, "generate", {"count": 9, "duration_s": 0.3})
    assert result.success, failure(result)
    note = store.read_json(store.use("generate", result.run_id) / "use.json")
    assert note["config"]["pipeline"] == "temporal_gan"
    # Every sample has a link, the first ones a picture.
    metadata = output_metadata(result, "generate")
    assert [k for k in metadata if k.startswith("listen ")] == [f"listen sample-{i:03}.wav" for i in range(9)]
    assert len([k for k in metadata if k.startswith("picture ")]) == reporting.PICTURES


def test_the_defaults_of_generate_are_those_of_the_config() -> None:
    config = GenerationConfig(count=5, duration_s=2.5)
    jobs = {job.name: job for job in build_jobs(["b", "a"], config)}
    assert list(jobs) == [
        f"{name}_job"
        for name in (
            *("generate", "reconstruct", "interpolate", "transfer"),
            *("continuation", "inpaint", "loop", "variations", "augment"),
        )
    ]
    for job in jobs.values():
        fields = config_fields(job)
        assert fields["pipeline"].default_value == "b"
        assert [value.config_value for value in fields["pipeline"].config_type.enum_values] == ["b", "a"]
    fields = config_fields(jobs["generate_job"])
    assert (fields["count"].default_value, fields["duration_s"].default_value) == (5, 2.5)


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("transfer", {"content": "own/x/a.wav", "style_tag": "loud"}, "style_tag must be all, mix, fast"),
    ("transfer", {"content": "own/x/a.wav"}, "exactly one of `style` and `style_tag`"),
    ("transfer", {"content": "own/x/a.wav", "style_tag": "slow", "strength": 2.0}, "strength must be 0 to 1"),
    ("interpolate", {"first": "own/x/a.wav", "second": "own/x/b.wav", "steps": 1}, "steps must be 2 to 100"),
    ("reconstruct", {"sound": "/etc/passwd"}, "sound must be a file or folder below .*, got '/etc/passwd'"),
    ("reconstruct", {"sound": "own/../../x.wav"}, "sound must be a file or folder below"),
    ("reconstruct", {"sound": "link.wav"}, r"sound must be a file or folder below .*, got 'link\.wav'"),
    ("generate", {"duration_s": 1e-9}, "duration_s must be .* or more"),
    ("generate", {"count": 0}, "count .*got 0"),
    ("generate", {"condition": "x"}, "condition must be none.*got 'x'"),
    ("augment", {"dataset": "own", "strength": 2.0}, r"strength .*got 2\.0"),
]  # fmt: skip


def test_a_wrong_value_fails_with_one_sentence_and_leaves_nothing(
    store: Store, definitions: dg.Definitions, instance: dg.DagsterInstance, deployment: Deployment
) -> None:
    (deployment.sources.absolute().parent / "link.wav").symlink_to("/etc/passwd")
    for name, config, message in WRONG:
        result = run(definitions, instance, name, {"pipeline": "temporal_gan", **config})
        assert not result.success
        assert re.search(message, failure(result)), failure(result)
        assert "\n" not in failure(result)
        assert not (store.base / "uses" / name / result.run_id).exists()


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("generate", {"pipeline": "other"}, "other"),
        ("reconstruct", {"sound": "own/x/a.wav", "vocoder": "other"}, "other"),
        ("reconstruct", {}, "sound"),
        ("augment", {"rights": "mine"}, "mine"),
    ],
)
def test_an_unknown_name_is_refused_by_the_launchpad(
    store: Store,
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    name: str,
    config: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(dg.DagsterInvalidConfigError, match=message):
        run(definitions, instance, name, config)


def test_the_launchpad_shows_what_the_requests_declare() -> None:
    jobs = {job.name: config_fields(job) for job in build_jobs(["a"], GenerationConfig())}
    requests = {
        "reconstruct": ReconstructConfig,
        "interpolate": InterpolateConfig,
        "transfer": TransferConfig,
        "continuation": ContinueConfig,
        "inpaint": InpaintConfig,
        "loop": LoopConfig,
        "variations": VariationsConfig,
    }
    for name, request in requests.items():
        fields = jobs[f"{name}_job"]
        for key, field in request.model_fields.items():
            assert fields[key].description.startswith(field.description)
            assert fields[key].is_required == field.is_required()
            assert field.is_required() or fields[key].default_value == field.default
        assert all(OWN_FILE in fields[key].description for key in fields.keys() & {"sound", "first", "style"})
    assert "Allowed: 2 to 100." in jobs["interpolate_job"]["steps"].description
    assert "Allowed: 0 to 1." in jobs["transfer_job"]["strength"].description
    for name in ("generate", "reconstruct", "interpolate", "loop", "transfer"):
        vocoder = jobs[f"{name}_job"]["vocoder"]
        assert [value.config_value for value in vocoder.config_type.enum_values] == list(VOCODERS)
        assert not vocoder.is_required


@pytest.mark.parametrize(("every_s", "logged"), [(0.0, [0, 1, 2]), (600.0, [0, 2])])
def test_progress_is_logged(
    store: Store,
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    every_s: float,
    logged: list[int],
) -> None:
    monkeypatch.setattr(service_runs, "LOG_EVERY_S", every_s)
    jobs: dict[str, dict[str, Any]] = {
        "generate": {"count": 2, "duration_s": 0.3, "vocoder": "griffin_lim"},
        "interpolate": {"first": "own/x/a.wav", "second": "own/x/b.wav", "steps": 2},
        "augment": {"dataset": "own", "copies": 1},
    }
    for name, config in jobs.items():
        result = run(definitions, instance, name, {"pipeline": "temporal_gan", **config})
        assert result.success, failure(result)
        messages = [entry.user_message for entry in instance.all_logs(result.run_id)]
        assert [m for m in messages if m.startswith(f"{name}: ")] == [f"{name}: {k} of 2" for k in logged]
    # No service draws into the compute logs.
    assert "%|" not in capfd.readouterr().err


def test_a_pipeline_without_a_release_is_reported(
    store: Store, definitions: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    store.record_path("dense_gan/release").unlink()
    result = run(definitions, instance, "generate", {"pipeline": "dense_gan"})
    assert failure(result) == "dense_gan/release must be materialized first: it is not there yet"


def test_more_folders_are_allowed_by_the_environment(
    store: Store,
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from melodygan_dagster.definitions import defs

    elsewhere = tmp_path_factory.mktemp("elsewhere")
    path = put(elsewhere / "c.wav", tone(1.0, (220.0,)))
    config = {"sound": str(path)}
    assert "must be a file or folder below" in failure(run(definitions, instance, "reconstruct", config))
    monkeypatch.setenv("MELODYGAN_ALLOW_ROOTS", str(elsewhere))
    assert run(defs(), instance, "reconstruct", config).success


@pytest.mark.slow
def test_augment_takes_the_store_by_default(
    store: Store, definitions: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    result = run(definitions, instance, "augment", {"copies": 1, "strength": 0.2})
    assert result.success, failure(result)
    assert len(list(Path(store.use("augment", result.run_id).path).rglob("*.wav"))) == 9


def test_a_sound_that_cannot_be_varied_fails_the_run_and_the_rest_are_there(
    store: Store, definitions: dg.Definitions, instance: dg.DagsterInstance, deployment: Deployment
) -> None:
    folder = deployment.sources.absolute().parent / "own"
    (folder / "x" / "bad.wav").write_bytes(b"no sound")
    result = run(definitions, instance, "augment", {"dataset": "own", "copies": 1})
    assert failure(result) == "1 sounds could not be varied; the others were"
    assert len(list(Path(store.use("augment", result.run_id).path).rglob("*.wav"))) == 2
