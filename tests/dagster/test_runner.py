"""`melodygan run`: what the user reads when something fails, and what the rest loses by it."""

from __future__ import annotations

import signal
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner

from melodygan_core import catalogue
from melodygan_core.storage.store import Artifact
from melodygan_dagster import cli, runner
from melodygan_dagster.cli import summary
from melodygan_dagster.deployment import Deployment
from tests.conftest import PRESET
from tests.dagster.conftest import write_sources

pytestmark = pytest.mark.slow


def _run(deployment: Deployment) -> list[runner.StageResult]:
    return list(runner.run(deployment))


def test_a_missing_sources_file_is_one_sentence(deployment: Deployment) -> None:
    [result] = _run(deployment)
    assert (result.job, result.success) == ("catalogue_job", False)
    assert str(deployment.sources) in result.reason
    assert "Error occurred while executing" not in result.reason and "Traceback" not in result.reason


def test_a_wrong_line_of_the_sources_is_named(deployment: Deployment) -> None:
    deployment.sources.write_text("sources:\n- url: https://a.example/x.mp3\n  rights: mine\n", "utf-8")
    [result] = _run(deployment)
    assert "line 2" in result.reason and "'mine'" in result.reason and "own, licensed" in result.reason


@pytest.mark.slow
def test_too_little_to_train_on_is_one_sentence(deployment: Deployment, stereo_tones: list[str]) -> None:
    jobs = ["catalogue_job", "raw_wav_job", "stems_job", "features_job", "dataset_job"]
    write_sources(deployment.sources, stereo_tones[:2], "own")
    results = _run(deployment)
    assert [(r.job, r.success) for r in results] == [(job, job != "dataset_job") for job in jobs]
    assert "group" in results[-1].reason, results[-1].reason
    write_sources(deployment.sources, stereo_tones[:2], "unknown")
    unknown = _run(deployment)
    assert [r.job for r in unknown] == ["catalogue_job", "dataset_job"]
    assert "unknown" in unknown[-1].reason, unknown[-1].reason
    for reason in (results[-1].reason, unknown[-1].reason):
        assert "Error occurred" not in reason and "melodygan_core" not in reason


def test_the_error_of_a_wrong_value_has_no_traceback_of_the_core(
    deployment: Deployment, instance: dg.DagsterInstance
) -> None:
    [result] = _run(deployment)
    [run] = instance.get_runs()
    [entry] = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    assert entry.dagster_event is not None
    data = entry.dagster_event.step_failure_data
    # The UI shows all of these.
    assert data.user_failure_data is not None and data.user_failure_data.description == result.reason
    assert data.error is not None and data.error.cause is None and data.error.context is None
    assert not any("melodygan_core" in frame for frame in data.error.stack)


def test_the_command_fails_when_a_job_fails(tmp_path: Path, environment: None) -> None:
    sources = tmp_path / "sources.yaml"
    options = ["run", "--sources", str(sources), "--store", str(tmp_path / "store"), "--preset", PRESET]
    made = CliRunner().invoke(cli.main, options)
    assert made.exit_code == 2 and "must be an existing file" in made.output
    sources.write_text("sources: 7\n", "utf-8")
    made = CliRunner().invoke(cli.main, options)
    assert made.exit_code == 1
    assert "failed catalogue_job" in made.output and "sources" in made.output
    assert "Traceback" not in made.output


def _pipelines(deployment: Deployment, failing: set[str]) -> dg.Definitions:
    """Jobs of two pipelines that share a vocoder, and of a gallery; a failing one has a collapsed codec."""

    @dg.asset
    def vocoder() -> None:
        pass

    def build_assets(name: str) -> list[dg.AssetsDefinition]:
        check = dg.AssetCheckSpec("no_collapse", asset=[name, "codec"], blocking=True)

        @dg.asset(key_prefix=name, check_specs=[check])
        def codec() -> dg.MaterializeResult:
            passed, why = name not in failing, "2 latent dimensions are active, at least 8 are needed"
            result = dg.AssetCheckResult(passed=passed, check_name="no_collapse", description=why)
            return dg.MaterializeResult(check_results=[result])

        @dg.asset(key_prefix=name, deps=[vocoder, codec])
        def release() -> None:
            deployment.opened.write_record(Artifact(f"{name}/release", "v1", f"releases/{name}/v1", "0", 1))

        return [codec, release]

    @dg.asset
    def gallery() -> None:
        page = {"page": "index.html"}
        deployment.opened.write_record(Artifact("gallery", "v1", "gallery/v1", "0", 1, metrics=page))

    assets = {name: build_assets(name) for name in ("dense_gan", "temporal_gan")}
    return dg.Definitions(
        [vocoder, gallery, *assets["dense_gan"], *assets["temporal_gan"]],
        jobs=[
            *(dg.define_asset_job(f"{name}_job", [vocoder, *made]) for name, made in assets.items()),
            dg.define_asset_job("gallery_job", [gallery]),
        ],
    )


@pytest.mark.parametrize("failing", ["dense_gan", "temporal_gan"])
def test_one_pipelines_failure_takes_nothing_from_the_other(
    deployment: Deployment,
    instance: dg.DagsterInstance,
    failing: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = {"dense_gan": "temporal_gan", "temporal_gan": "dense_gan"}[failing]
    results = list(runner.train(_pipelines(deployment, {failing}), instance, ["dense_gan", "temporal_gan"]))
    assert [r.job for r in results] == ["dense_gan_job", "temporal_gan_job", "gallery_job"]
    assert {r.job for r in results if not r.success} == {f"{failing}_job"}
    [failed] = [r for r in results if not r.success]
    assert "no_collapse: 2 latent dimensions are active" in failed.reason
    # The exit status tells of the failure; what succeeded is shown all the same.
    assert summary.report(deployment, results) is False
    output = capsys.readouterr().out
    assert f"failed {failing}_job" in output and "2 latent dimensions" in output
    assert f"releases/{other}/v1" in output and f"releases/{failing}/v1" not in output
    assert "Listen:" in output and "index.html" in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_and_not_one_job_only(
    tmp_path: Path, environment: None, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def stop(*_: object, **__: object) -> None:
        signal.raise_signal(number)

    sources = tmp_path / "sources.yaml"
    write_sources(sources, ["http://127.0.0.1:9/a.wav"], "own")
    monkeypatch.setattr(catalogue, "expand", stop)
    options = ["run", "--sources", str(sources), "--store", str(tmp_path / "store"), "--preset", PRESET]
    made = CliRunner().invoke(cli.main, options)
    assert made.exit_code == 130
    assert "Stopped. The same command continues from here." in made.output
    assert "failed" not in made.output and "dataset" not in made.output


def test_without_a_pipeline_that_succeeded_there_is_no_gallery(
    deployment: Deployment, instance: dg.DagsterInstance, capsys: pytest.CaptureFixture[str]
) -> None:
    definitions = _pipelines(deployment, {"dense_gan", "temporal_gan"})
    results = list(runner.train(definitions, instance, ["dense_gan", "temporal_gan"]))
    assert [(r.job, r.success) for r in results] == [("dense_gan_job", False), ("temporal_gan_job", False)]
    assert summary.report(deployment, results) is False
    assert "Listen:" not in capsys.readouterr().out


def test_all_pipelines_that_succeed_are_a_success(
    deployment: Deployment, instance: dg.DagsterInstance, capsys: pytest.CaptureFixture[str]
) -> None:
    results = list(runner.train(_pipelines(deployment, set()), instance, ["dense_gan", "temporal_gan"]))
    assert summary.report(deployment, results) is True
    output = capsys.readouterr().out
    assert all(f"releases/{name}/v1" in output for name in ("dense_gan", "temporal_gan"))


def test_the_input_of_an_asset_that_was_never_made_is_one_sentence(
    deployment: Deployment, instance: dg.DagsterInstance, definitions: dg.Definitions
) -> None:
    result = definitions.resolve_job_def("gallery_job").execute_in_process(
        instance=instance, raise_on_error=False
    )
    reason, _ = runner.failure_of(result)
    assert "is not in" in reason and "materialize it first" in reason
    [failed] = [e for e in result.all_events if e.is_step_failure]
    error = failed.step_failure_data.error
    assert error is not None and error.to_string() == reason


def test_the_catalogue_is_empty_before_the_first_run(deployment: Deployment) -> None:
    assert catalogue.load(deployment.opened) == []
