"""The config of a run sets nothing that guards: no resource has a field that a run can replace."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from melodygan_dagster.definitions import defs
from melodygan_dagster.deployment import Deployment
from tests.conftest import PRESET, Site
from tests.dagster.conftest import write_sources

# Every field that the resources have or had, with what an attacker would like.
WANTED: dict[str, dict[str, Any]] = {
    "settings": {
        "sources": "/elsewhere/sources.yaml",
        "preset": PRESET,
        "config": "",
        "separation_model": "htdemucs.yaml",
        "model_dir": "/elsewhere",
        "allow_roots": "/",
        "allow_private": True,
        "train_on_unknown": True,
        "retrain_after": 0,
    },
    "store": {"root": "/elsewhere"},
    "workers": {"address": "ray://evil.test:10001"},
    "records": {"store": {"root": "/elsewhere"}},
    "io_manager": {"base_dir": "/elsewhere"},
}


def set_by_run(**resources: dict[str, Any]) -> dict[str, Any]:
    return {"resources": {name: {"config": values} for name, values in resources.items()}}


def assert_unsettable(job: dg.JobDefinition, resource: str) -> None:
    """Asserts that a job refuses every field of a resource, alone and together."""
    values = WANTED[resource]
    for wanted in (values, *({name: value} for name, value in values.items())):
        with pytest.raises(dg.DagsterInvalidConfigError) as refused:
            dg.validate_run_config(job, set_by_run(**{resource: wanted}))
        expected = rf"unexpected config entr.* at path root:resources:{resource}:config\."
        assert re.search(expected, str(refused.value)), (job.name, str(refused.value))


def test_no_run_of_any_job_sets_a_resource(definitions: dg.Definitions) -> None:
    jobs = definitions.get_repository_def().get_all_jobs()
    names = {job.name for job in jobs}
    assert {"catalogue_job", "raw_wav_job", "training_job", "generate_job", "__ASSET_JOB"} <= names
    for job in jobs:
        for resource in job.resource_defs:
            assert_unsettable(job, resource)


def test_no_run_names_another_ray_cluster(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dagster_ray")
    monkeypatch.setenv("MELODYGAN_RAY", "10.0.0.1:6379")
    assert_unsettable(defs().resolve_job_def("raw_wav_job"), "workers")


def test_a_run_that_allows_itself_private_addresses_reaches_none(
    tmp_path: Path, environment: None, site: Site, tone: bytes
) -> None:
    deployment = Deployment(str(tmp_path / "store"), tmp_path / "sources.yaml", PRESET)
    own = tmp_path / "own.yaml"
    write_sources(own, [site.add("/canary.wav", tone)])
    with deployment.instance() as instance:
        job = defs().resolve_job_def("catalogue_job")
        config = set_by_run(settings=WANTED["settings"] | {"sources": str(own)})
        with pytest.raises(dg.DagsterInvalidConfigError, match="unexpected config entries"):
            job.execute_in_process(run_config=config, instance=instance)
        assert instance.get_runs_count() == 0
    assert not site.hits
