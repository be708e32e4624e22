"""The code location as a whole: complete, light to load, and consistent."""

from __future__ import annotations

import importlib.resources
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import dagster as dg
import pytest
import yaml

from melodygan_dagster.deployment import Deployment
from melodygan_dagster.partitions import PER_TRACK
from tests.dagster.conftest import CODECS, MODELS, PIPELINES, models_of

ROOT = Path(__file__).parents[2]
DATA_JOBS = ("catalogue", *PER_TRACK, "dataset")
SERVICES = (
    *("generate", "reconstruct", "interpolate", "transfer", "augment"),
    *("continuation", "inpaint", "loop", "variations"),
)
HEAVY = (
    "torch",
    "pandas",
    "pyarrow",
    "librosa",
    "onnxruntime",
    "audio_separator",
    "yt_dlp",
    "ray",
    "dagster_ray",
)
USES_MODELS = ("_checkpoint", "latent_table", "generated_samples", "evaluation")
ON_A_DEVICE = ["stems", *(name for name in MODELS if name.endswith(USES_MODELS))]
POOLS = {"catalogue": "catalogue", "raw_wav": "downloads"} | dict.fromkeys(ON_A_DEVICE, "gpu")


def _imported(code: str, *names: str) -> list[str]:
    """Which of the modules a fresh process has imported after running the code."""
    script = f"import json, sys\n{code}\nprint(json.dumps(sorted(set({names!r}) & set(sys.modules))))"
    environment = os.environ | {"MELODYGAN_PRESET": "demo"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT, env=environment
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_definitions_load_and_hold_together(definitions: dg.Definitions) -> None:
    dg.Definitions.validate_loadable(definitions)
    keys = {k.to_user_string() for k in definitions.resolve_asset_graph().get_all_asset_keys()}
    assert keys == {"sources", "catalogue", *PER_TRACK, "feature_table", *MODELS, "gallery"}


def test_only_the_pipelines_of_the_deployment_have_assets(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    from melodygan_dagster.definitions import defs

    monkeypatch.setenv("MELODYGAN_PIPELINES", "temporal_gan")
    definitions = defs()
    keys = {k.to_user_string() for k in definitions.resolve_asset_graph().get_all_asset_keys()}
    models = set(models_of("temporal_gan"))
    assert keys & set(MODELS) == models
    jobs = {j.name for j in definitions.get_repository_def().get_all_jobs()}
    assert "temporal_gan_job" in jobs and "dense_gan_job" not in jobs
    gallery = definitions.resolve_asset_graph().get(dg.AssetKey("gallery"))
    assert {k.to_user_string() for k in gallery.parent_keys} == {
        "feature_table",
        "temporal_gan/generated_samples",
        "temporal_gan/evaluation",
    }


def test_a_pipeline_that_follows_plans_has_a_table_of_them(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    from melodygan_dagster.definitions import defs

    monkeypatch.setenv("MELODYGAN_PIPELINES", "temporal_plan")
    graph = defs().resolve_asset_graph()

    def parents(name: str) -> set[str]:
        return {k.to_user_string() for k in graph.get(dg.AssetKey(name.split("/"))).parent_keys}

    codec, plans = "temporal/autoencoder_checkpoint", "temporal/plan_table"
    assert parents(plans) == {codec, "feature_table"}
    assert parents("temporal/plan_checkpoint") == {codec, plans, "temporal/latent_table"}
    checks = {k.name for k in graph.asset_check_keys if k.asset_key == dg.AssetKey(["temporal", "plan_table"])}
    assert checks == {"finite", "melody", "beat"}


def test_every_asset_is_described(definitions: dg.Definitions) -> None:
    for spec in definitions.resolve_all_asset_specs():
        name = spec.key.to_user_string()
        assert spec.description and len(spec.description) > 40, name
        assert spec.group_name not in (None, "default"), name
        assert spec.kinds, name
        assert spec.owners == ["team:melodygan"], name
        if name != "sources":
            assert spec.code_version, name
        if spec.partitions_def is None and name not in ("sources", "catalogue"):
            assert spec.automation_condition is not None, name


def test_every_job_schedule_and_sensor_is_described(definitions: dg.Definitions) -> None:
    repository = definitions.get_repository_def()
    jobs = [j for j in repository.get_all_jobs() if not j.name.startswith("__")]
    described = [*jobs, *repository.schedule_defs, *repository.sensor_defs]
    assert {d.name for d in described} == {
        *(f"{name}_job" for name in (*DATA_JOBS, *PIPELINES, "training", "gallery", *SERVICES)),
        "nightly_catalogue",
        "automation",
        "sources_changed",
        "tracks_due",
        "enough_new_tracks",
        "dead_runs",
    }
    assert all(d.description for d in described)


def test_no_job_holds_two_per_track_assets(definitions: dg.Definitions) -> None:
    for job in definitions.get_repository_def().get_all_jobs():
        if not job.name.startswith("__"):
            held = {k.to_user_string() for k in job.asset_layer.executable_asset_keys}
            assert len(held & set(PER_TRACK)) <= 1, job.name


def test_the_job_of_a_pipeline_has_everything_between_dataset_and_release(definitions: dg.Definitions) -> None:
    def assets(job: str) -> set[str]:
        return {k.to_user_string() for k in definitions.resolve_job_def(job).asset_layer.executable_asset_keys}

    assert {p: assets(f"{p}_job") for p in PIPELINES} == {p: set(models_of(p)) for p in PIPELINES}
    assert assets("training_job") == set(MODELS)
    assert assets("gallery_job") == {"gallery"}


def test_blocking_checks_are_on_unpartitioned_assets_only(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    blocking = {}
    for key in graph.asset_check_keys:
        blocking[f"{key.asset_key.to_user_string()}.{key.name}"] = graph.get(key).blocking
        assert graph.get(key).description
        if graph.get(key.asset_key).is_partitioned:
            assert not graph.get(key).blocking, key
    assert {name for name, blocks in blocking.items() if blocks} == {
        "feature_table.no_leakage",
        "feature_table.rate_and_lengths",
        "feature_table.finite",
        "feature_table.enough_sound",
        "feature_table.statistics",
    } | {
        *(f"{codec}/autoencoder_checkpoint.{name}" for codec in CODECS for name in ("no_collapse", "finite")),
        *(f"{codec}/gan_checkpoint.{name}" for codec in CODECS for name in ("no_mode_collapse", "finite")),
        *(f"{pipeline}/evaluation.not_memorised" for pipeline in PIPELINES),
    }
    assert {name for name in blocking if name.endswith(("not_behind_pca", "than_griffin_lim"))} == {
        *(f"{codec}/autoencoder_checkpoint.not_behind_pca" for codec in CODECS),
        "vocoder_checkpoint.nearer_than_griffin_lim",
    }
    assert {f"{name}.every_track" for name in PER_TRACK} <= set(blocking)


def test_pools_bound_what_shares_a_resource(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    pools = {k.to_user_string(): graph.get(k).pools for k in graph.materializable_asset_keys}
    assert {name: p for name, p in pools.items() if p} == {name: {pool} for name, pool in POOLS.items()}


def test_code_versions_of_per_track_assets_follow_the_deployment(
    definitions: dg.Definitions, monkeypatch: pytest.MonkeyPatch
) -> None:
    from melodygan_dagster.resources import deployed_settings

    settings = deployed_settings()
    graph = definitions.resolve_asset_graph()
    assert graph.get(dg.AssetKey("stems")).code_version == settings.separation().model_id
    assert graph.get(dg.AssetKey("features")).code_version == settings.features_version()
    monkeypatch.setenv("MELODYGAN_SEPARATION_MODEL", "htdemucs.yaml")
    assert deployed_settings().separation().model == "htdemucs.yaml"
    assert deployed_settings().features_version() != settings.features_version()


def test_importing_asset_modules_reads_no_config() -> None:
    names = (
        "automation",
        "catalogue",
        "dataset",
        "download",
        "features",
        "environment",
        "separation",
        "vocoder",
    )
    imports = ", ".join(f"melodygan_dagster.defs.{name}" for name in names)
    # Values that everything that reads them refuses.
    bad = {"MELODYGAN_PRESET": "none such", "MELODYGAN_RETRAIN_AFTER": "x", "MELODYGAN_TICK_S": "x"}
    code = f"import os\nos.environ |= {bad!r}\nimport {imports}"
    assert _imported(code, "melodygan_dagster.defs.features") == ["melodygan_dagster.defs.features"]


def test_loading_definitions_imports_nothing_heavy() -> None:
    code = "from melodygan_dagster.definitions import defs; defs().get_repository_def()"
    assert _imported(code, "dagster", *HEAVY) == ["dagster"]


def test_importing_the_core_imports_neither_dagster_nor_torch() -> None:
    assert (
        _imported(
            "import melodygan_core, melodygan_core.config, melodygan_core.storage.store", "dagster", *HEAVY
        )
        == []
    )


@pytest.mark.parametrize("arguments", [["--help"], ["generate", "--help"], ["run", "--help"], ["ui", "--help"]])
def test_help_imports_neither_dagster_nor_torch(arguments: list[str]) -> None:
    code = f"from melodygan_core.cli import main\nmain({arguments!r}, standalone_mode=False)"
    assert _imported(code, "dagster", *HEAVY) == []


def test_workspace_and_pyproject_agree() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["dg"]
    workspace = yaml.safe_load((ROOT / "workspace.yaml").read_text("utf-8"))
    [entry] = workspace["load_from"]
    module = entry["python_module"]
    assert module["module_name"] == f"{pyproject['project']['root_module']}.definitions"
    assert module["location_name"] == pyproject["project"]["code_location_name"] == "melodygan"


def test_the_instance_is_configured_by_a_file_of_the_package(instance: dg.DagsterInstance) -> None:
    shipped = importlib.resources.files("melodygan_dagster").joinpath("dagster.yaml").read_text("utf-8")
    config = yaml.safe_load(shipped)
    assert config["telemetry"] == {"enabled": False} and config["nux"] == {"enabled": False}
    assert not instance.telemetry_enabled
    assert not instance.nux_enabled
    assert instance.run_monitoring_enabled
    queue = instance.get_concurrency_config()
    assert queue.pool_config.default_pool_limit == 1
    assert queue.pool_config.pool_granularity is not None
    assert queue.pool_config.pool_granularity.value == "op"
    assert queue.run_queue_config is not None
    assert queue.run_queue_config.max_concurrent_runs == 2


def test_a_wheel_has_what_is_not_python() -> None:
    # hatchling packs whole folders; what git ignores would be missing from a wheel.
    for name in ("melodygan_dagster/dagster.yaml", "melodygan_core/gallery/page.html"):
        ignored = subprocess.run(["git", "check-ignore", "-q", name], cwd=ROOT, check=False).returncode
        assert (ROOT / name).is_file() and ignored != 0
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    packages = pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert packages == ["melodygan_core", "melodygan_dagster", "melodygan_web"]
