"""`melodygan run` and `melodygan ui`: what the user reads when it does not go well, and what is served."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner
from dagster._core.events import DagsterEvent, DagsterEventType, EngineEventData
from dagster._core.events.log import EventLogEntry
from dagster._core.test_utils import create_run_for_test
from starlette.testclient import TestClient

from melodygan_core import catalogue
from melodygan_core.config import SeparationConfig
from melodygan_core.errors import InputError
from melodygan_core.storage.store import Artifact, Store
from melodygan_dagster import cli, dead_runs, runner, track_scheduling, ui
from melodygan_dagster.deployment import Deployment
from melodygan_dagster.partitions import TRACKS
from melodygan_dagster.resources import deployed_settings
from tests.conftest import PRESET, Page, Site
from tests.dagster.conftest import add_feed, write_sources

ROOT = Path(__file__).parents[2]
FAILURE = dg.DagsterRunStatus.FAILURE


def _run(deployment: Deployment) -> list[runner.StageResult]:
    return list(runner.run(deployment))


def test_a_missing_file_of_sources_is_the_cores_sentence(deployment: Deployment) -> None:
    [result] = _run(deployment)
    assert (result.job, result.success) == ("catalogue_job", False)
    assert str(deployment.sources) in result.reason
    assert "Error occurred while executing" not in result.reason and "Traceback" not in result.reason


def test_a_wrong_line_of_sources_is_named(deployment: Deployment) -> None:
    deployment.sources.write_text("sources:\n- url: https://a.example/x.mp3\n  rights: mine\n", "utf-8")
    [result] = _run(deployment)
    assert "line 2" in result.reason and "'mine'" in result.reason and "own, licensed" in result.reason


def test_too_little_to_train_on_is_a_sentence(deployment: Deployment, stereo_tones: list[str]) -> None:
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


def test_the_command_fails_when_the_graph_is_not_there(tmp_path: Path, environment: None) -> None:
    sources = tmp_path / "sources.yaml"
    options = ["run", "--sources", str(sources), "--store", str(tmp_path / "store"), "--preset", PRESET]
    made = CliRunner().invoke(_with_test_preset(), options)
    assert made.exit_code == 1 and "does not exist" in made.output
    sources.write_text("sources: 7\n", "utf-8")
    made = CliRunner().invoke(_with_test_preset(), options)
    assert made.exit_code == 1
    assert "failed catalogue_job" in made.output and "allowed:" in made.output
    assert "Traceback" not in made.output


def _with_test_preset() -> cli.click.Group:
    [option] = [p for p in cli.run.params if p.name == "preset"]
    option.type = cli.click.STRING
    return cli.main


def test_a_stage_runs_for_what_the_store_lacks(deployment: Deployment, instance: dg.DagsterInstance) -> None:
    """Dagster's memory alone is not enough: another model makes other stems, and files can be removed."""
    store = deployment.opened
    instance.add_dynamic_partitions(TRACKS, ["a", "b", "c"])
    settings = deployed_settings()
    for key in "ab":
        store.write_json(store.raw_json(key), {})
        store.write_json(store.stems(settings.separation().model_id, key) / "stems.json", {})
        for stage in ("raw_wav", "stems"):
            instance.report_runless_asset_event(dg.AssetMaterialization(stage, partition=key))

    def pending(stage: str) -> list[track_scheduling.Batch]:
        return track_scheduling.pending(instance, stage, track_scheduling.made(store, deployed_settings()))

    assert pending("raw_wav") == [track_scheduling.Batch("c", "c")]
    assert pending("stems") == []
    # Without its stems a track is not asked for, and `c` has been named by raw_wav.
    assert pending("features") == [track_scheduling.Batch("a", "b")]
    shutil.rmtree(Path(store.stems(settings.separation().model_id, "a").path))
    assert pending("stems") == [track_scheduling.Batch("a", "a")]


def test_another_separation_model_makes_other_stems(
    deployment: Deployment, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = deployment.opened
    instance.add_dynamic_partitions(TRACKS, ["a"])
    store.write_json(store.raw_json("a"), {})
    store.write_json(store.stems(deployed_settings().separation().model_id, "a") / "stems.json", {})
    for stage in ("raw_wav", "stems"):
        instance.report_runless_asset_event(dg.AssetMaterialization(stage, partition="a"))
    assert track_scheduling.pending(instance, "stems", track_scheduling.made(store, deployed_settings())) == []
    monkeypatch.setenv("MELODYGAN_SEPARATION_MODEL", "htdemucs.yaml")
    assert deployed_settings().separation() == SeparationConfig(model="htdemucs.yaml")
    assert track_scheduling.pending(instance, "stems", track_scheduling.made(store, deployed_settings())) == [
        track_scheduling.Batch("a", "a")
    ]


def test_a_killed_run_is_reported_by_the_next_which_goes_on(
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
        results = {r.job: r for r in _run(deployment)}
        assert results["raw_wav_job"].success
        assert len(instance.get_materialized_partitions(dg.AssetKey("features"))) == len(stereo_tones)
        run = instance.get_run_by_id(left.run_id)
        assert run is not None and run.status == dg.DagsterRunStatus.FAILURE
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
    # A number that another process has by now: this one did not live a year ago.
    dead = [started(gone.pid, now), started(os.getpid(), now - 365 * 86400)]
    found = dead_runs.find(instance)
    assert sorted(run.run_id for run in found) == sorted(dead)
    dead_runs.report(instance, found)
    assert dead_runs.find(instance) == []
    assert {run.run_id for run in instance.get_runs(dg.RunsFilter(statuses=[FAILURE]))} == set(dead)


def test_an_exit_status_that_nobody_fetched_is_no_process() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    now = time.time()
    assert dead_runs._alive(process.pid, now) and not dead_runs._alive(process.pid, now - 3600)
    if sys.platform.startswith("linux"):
        by_ps = dead_runs._started_at_by_ps(process.pid) if shutil.which("ps") else now
        assert by_ps is not None and abs(by_ps - now) < 60
    process.kill()
    deadline = time.monotonic() + 30
    while dead_runs._alive(process.pid, now) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not dead_runs._alive(process.pid, now)
    process.communicate()


@pytest.fixture
def listener(store: Store) -> TestClient:
    return TestClient(ui.listening_app(store), base_url=f"http://{ui.HOST}", follow_redirects=False)


def test_sounds_are_served_in_parts(store: Store, listener: TestClient) -> None:
    path = Path(store.raw_wav("a").path)
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(range(200)))
    whole = listener.get("/raw/a.wav")
    assert whole.status_code == 200 and whole.headers["content-type"].startswith("audio/")
    part = listener.get("/raw/a.wav", headers={"Range": "bytes=100-149"})
    assert part.status_code == 206 and part.content == bytes(range(100, 150))
    assert part.headers["content-range"] == "bytes 100-149/200"


def test_the_front_page_is_the_gallery_in_use(store: Store, listener: TestClient) -> None:
    assert listener.get("/").status_code == 404
    store.write_record(Artifact("gallery", "v1", "gallery/v1", "0", 1, metrics={"page": "index.html"}))
    page = Path(store.base.path) / "gallery" / "v1" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("<p>listen</p>", "utf-8")
    for path in ("/", "/gallery/"):
        answer = listener.get(path)
        assert answer.headers["location"] == "/gallery/v1/index.html"
    assert listener.get("/gallery/v1/index.html").text == "<p>listen</p>"


@pytest.mark.parametrize(
    "path",
    [
        "/records/gallery.json",
        "/dagster/storage/x",
        "/raw/../records/gallery.json",
        "/raw/%2e%2e/catalogue.parquet",
    ],
)
def test_nothing_else_of_the_store_is_served(store: Store, listener: TestClient, path: str) -> None:
    for name in ("records/gallery.json", "dagster/storage/x", "catalogue.parquet", "raw/x"):
        file = Path(store.base.path) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("secret", "utf-8")
    assert listener.get(path).status_code == 404


def test_another_name_for_this_machine_is_refused(listener: TestClient) -> None:
    assert listener.get("/", headers={"Host": "rebound.example"}).status_code == 400


def test_a_port_in_use_is_named(deployment: Deployment, site: Site) -> None:
    port = int(site.base_url.rsplit(":", 1)[1])
    with pytest.raises(InputError, match=f"--port is {port}"):
        ui.serve(deployment, port, 0)


def test_a_remote_store_cannot_be_listened_to(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a local folder"):
        ui.serve(Deployment("memory://x", tmp_path / "s.yaml", PRESET), 1, 2)


def test_the_catalogue_is_empty_before_the_first_run(deployment: Deployment) -> None:
    assert catalogue.load(deployment.opened) == []
