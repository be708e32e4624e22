"""`melodygan run`, `demo`, `ui`, `train` and `config`: their options, and what reaches the deployment."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from melodygan_core.cli import train
from melodygan_core.demo import server
from melodygan_core.errors import InputError
from melodygan_core.storage import Store
from melodygan_dagster.cli import graph
from melodygan_dagster.deployment import Deployment
from tests.cli.conftest import Melodygan
from tests.conftest import PRESET

PIPELINES = "dense_gan, temporal_gan, temporal_flow, temporal_plan"


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> list[Deployment]:
    """What `run` would have run."""
    seen: list[Deployment] = []

    def remember(deployment: Deployment) -> bool:
        seen.append(deployment)
        return True

    monkeypatch.setattr(graph, "_run", remember)
    return seen


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    path = tmp_path / "list.txt"
    path.write_text("https://music.example/a.mp3\n", "utf-8")
    return path


def test_the_environment_is_the_default_and_an_option_wins(
    deployed: list[Deployment], sources: Path, melodygan: Melodygan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MELODYGAN_SOURCES", str(sources))
    monkeypatch.setenv("MELODYGAN_PRESET", "base")
    monkeypatch.setenv("MELODYGAN_PIPELINES", "dense_gan, temporal_gan")
    monkeypatch.setenv("MELODYGAN_SEPARATION_MODEL", "centre")
    monkeypatch.setenv("MELODYGAN_TRAIN_ON_UNKNOWN", "1")
    assert melodygan("run").exit_code == 0
    assert melodygan("run", "--preset", "demo", "--pipelines", "dense_gan").exit_code == 0
    first, second = deployed
    assert (first.sources, first.preset, first.separation_model) == (sources, "base", "centre")
    assert first.train_on_unknown
    assert first.pipelines == ("dense_gan", "temporal_gan")
    assert (second.preset, second.pipelines) == ("demo", ("dense_gan",))


def test_pipelines_reach_the_code_location(
    sources: Path, tmp_path: Path, environment_is_restored: None
) -> None:
    from melodygan_dagster.resources import deployed_config

    one = Deployment(str(tmp_path / "store"), sources, "demo", pipelines=("temporal_gan",))
    one.activate()
    assert deployed_config().train == one.load_config().train == ("temporal_gan",)
    default = Deployment(str(tmp_path / "store"), sources, "demo")
    default.activate()
    assert deployed_config().train == default.load_config().train == ("temporal_gan", "dense_gan")


@pytest.fixture
def environment_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())


def test_an_unknown_pipeline_is_one_sentence_with_the_table(
    deployed: list[Deployment], sources: Path, melodygan: Melodygan
) -> None:
    result = melodygan("run", "--sources", sources, "--pipelines", "dense_gan,waves")
    assert result.exit_code == 2
    assert result.stderr == (f"Error: --pipelines must be names of pipelines: {PIPELINES}, got 'waves'\n")
    assert melodygan("ui", "--pipelines", "waves").exit_code == 2
    twice = melodygan("run", "--sources", sources, "--pipelines", "dense_gan,dense_gan")
    assert twice.stderr == "Error: --pipelines must be all different, got 'dense_gan,dense_gan'\n"
    assert deployed == []


def test_the_demo_trains_both_pipelines_and_says_how_to_open_the_ui(
    deployed: list[Deployment], melodygan: Melodygan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "DEMO_SONG_S", 1.0)
    result = melodygan("demo", "--dir", "songs", "--tracks", 6)
    assert result.exit_code == 0, result.output
    assert deployed[0].load_config().train == ("temporal_gan", "dense_gan")
    assert result.stdout.splitlines()[-1] == "  melodygan ui --demo songs"
    assert len(list(Path("songs/site").glob("*.*"))) >= 6


def test_a_demo_does_not_fill_the_instance_that_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "mine"))
    assert graph._demo_deployment(tmp_path / "demo").home == tmp_path / "demo" / "store" / "dagster"


def test_missing_sources_are_one_sentence(
    deployed: list[Deployment], tmp_path: Path, melodygan: Melodygan
) -> None:
    result = melodygan("run", "--sources", tmp_path / "none.yaml")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: --sources must be an existing file with your URLs, one per line")
    assert "none.yaml" in result.stderr
    assert deployed == []


def test_a_wrong_config_is_one_sentence(
    deployed: list[Deployment], sources: Path, tmp_path: Path, melodygan: Melodygan
) -> None:
    (tmp_path / "c.yaml").write_text("download: {attempts: 0}", "utf-8")
    result = melodygan("run", "--sources", sources, "--config", tmp_path / "c.yaml")
    assert result.exit_code == 2
    assert result.stderr == "Error: c.yaml: download.attempts must be 1 to 20, got 0\n"
    wrong = melodygan("config", "show", "--config", tmp_path / "c.yaml")
    assert (wrong.exit_code, wrong.stdout) == (2, "")


def test_a_failed_run_has_status_1(
    sources: Path, melodygan: Melodygan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "_run", lambda deployment: False)
    assert melodygan("run", "--sources", sources).exit_code == 1


def test_a_wrong_port_names_its_option(melodygan: Melodygan) -> None:
    result = melodygan("ui", "--port", "70000")
    assert result.exit_code == 2
    assert "'--port': 70000 is not in the range 1<=x<=65535" in result.stderr


def test_a_taken_port_of_the_ui_names_its_option(
    tmp_path: Path, melodygan: Melodygan, environment_is_restored: None
) -> None:
    with server.serve(tmp_path) as url:
        taken = url.rsplit(":", 1)[1]
        result = melodygan("ui", "--store", tmp_path / "store", "--port", taken)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: --port must be a free port, got {taken} ")


def test_a_wrong_host_of_the_ui_names_its_option(
    tmp_path: Path, melodygan: Melodygan, environment_is_restored: None
) -> None:
    result = melodygan("ui", "--store", tmp_path / "store", "--allowed-host", "a b")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: --allowed-host must be a host")


def test_a_taken_port_names_itself(tmp_path: Path) -> None:
    with server.serve(tmp_path) as url:
        port = int(url.rsplit(":", 1)[1])
        with pytest.raises(InputError, match=str(port)), server.serve(tmp_path, port):
            pass


def test_config_prints_what_a_file_changes(tmp_path: Path, melodygan: Melodygan) -> None:
    (tmp_path / "c.yaml").write_text("download: {attempts: 7}", "utf-8")
    result = melodygan(
        "config", "show", "--preset", "demo", "--config", tmp_path / "c.yaml", "--format", "json"
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["download"]["attempts"] == 7
    assert "properties" in json.loads(melodygan("config", "schema").stdout)


def test_every_registered_codec_and_prior_can_be_trained(melodygan: Melodygan) -> None:
    assert train.asset_names() == [
        "vocoder_checkpoint",
        "flow_vocoder_checkpoint",
        "dense/autoencoder_checkpoint",
        "temporal/autoencoder_checkpoint",
        "temporal/refiner_checkpoint",
        "dense/gan_checkpoint",
        "temporal/gan_checkpoint",
        "temporal/flow_checkpoint",
        "temporal/plan_checkpoint",
    ]
    assert "temporal/gan_checkpoint" in melodygan("train", "--help").stdout
    result = melodygan("train", "temporal/waves_checkpoint")
    assert result.exit_code == 2
    assert "must be vocoder_checkpoint, flow_vocoder_checkpoint, dense/autoencoder_checkpoint" in result.stderr


def test_train_without_a_dataset_is_one_sentence(tmp_path: Path, melodygan: Melodygan) -> None:
    result = melodygan("train", "vocoder_checkpoint", "--store", tmp_path / "nowhere", "--preset", PRESET)
    assert result.exit_code == 2
    assert "store must be an existing folder" in result.stderr
    (tmp_path / "empty").mkdir()
    result = melodygan("train", "vocoder_checkpoint", "--store", tmp_path / "empty", "--preset", PRESET)
    assert result.exit_code == 2
    assert "--store must have a feature_table" in result.stderr


def test_train_makes_what_a_prior_needs_and_nothing_twice(
    temporal_store: Store, tmp_path: Path, melodygan: Melodygan
) -> None:
    shutil.copytree(temporal_store.root, tmp_path / "store")
    store = Store(str(tmp_path / "store"))
    before = {p.parent for p in (tmp_path / "store" / "models").glob("*/*/*/artifact.json")}
    settings = tmp_path / "settings.yaml"
    optimizer = "optimizer: {max_steps: 4, batch_size: 8, eval_every: 2, device: cpu, patience: 99}"
    settings.write_text(
        f"codecs: {{dense: {{time_bins: 4, hidden_sizes: [16, 8], {optimizer}}}}}\n"
        f"priors: {{dense: {{gan: {{noise_dim: 8, hidden_size: 16, {optimizer}}}}}}}\n",
        "utf-8",
    )
    call = ("train", "dense/gan_checkpoint", "--store", store.root, "--preset", PRESET, "--config", settings)
    first = melodygan(*call)
    assert first.exit_code == 0, first.output
    made = {p.parent for p in (tmp_path / "store" / "models").glob("*/*/*/artifact.json")} - before
    assert {p.parent.relative_to(tmp_path / "store" / "models").as_posix() for p in made} == {
        "dense/autoencoder",
        "dense/latents",
        "dense/gan",
    }
    [gan] = [p for p in made if p.parent.name == "gan"]
    assert first.stdout == f"dense/gan_checkpoint {gan.name}: models/dense/gan/{gan.name}\n"
    times = {p: (p / "artifact.json").stat().st_mtime_ns for p in made}
    assert melodygan(*call).stdout == first.stdout
    assert {p: (p / "artifact.json").stat().st_mtime_ns for p in made} == times
