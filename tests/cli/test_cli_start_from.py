"""`--from`: what it takes, and what comes of it in `train`, `run` and the launchpad."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from melodygan_core.config import replace, to_dict
from melodygan_core.storage import Store
from melodygan_dagster import starting
from melodygan_dagster.cli import graph
from melodygan_dagster.defs import codec as codec_defs
from melodygan_dagster.deployment import Deployment
from melodygan_dagster.io_managers import ArtifactRecords
from melodygan_dagster.resources import StoreResource, deployed_config, deployed_settings
from tests.cli.conftest import Melodygan
from tests.conftest import PRESET
from tests.core.made import FEATURE, TEMPORAL_CODEC, TEMPORAL_GAN, VOCODER

ONE_STEP = {"max_steps": 1, "eval_every": 1, "warmup_steps": 0, "device": "cpu"}


def one_step(config: Any) -> Any:
    """A config of one step."""
    return to_dict(replace(config, optimizer=replace(config.optimizer, **ONE_STEP)))


@pytest.fixture
def own_store(temporal_store: Store, tmp_path: Path) -> Store:
    """A copy of a store with a release of `temporal_gan`."""
    shutil.copytree(temporal_store.root, tmp_path / "store", ignore=shutil.ignore_patterns("work"))
    return Store(str(tmp_path / "store"))


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """Settings that fit the release."""
    values = {
        "features": to_dict(FEATURE),
        "codecs": {"temporal": one_step(TEMPORAL_CODEC)},
        "priors": {"temporal": {"gan": one_step(TEMPORAL_GAN)}},
        "vocoder": one_step(VOCODER),
        "pipelines": {"temporal_gan": {"codec": "temporal", "prior": "gan", "refiner": False}},
        "train": ["temporal_gan"],
    }
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(values), "utf-8")
    return path


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())


def in_use(store: Store) -> str:
    """The path that stands for the release in use."""
    return f"{store.root}/releases/temporal_gan"


def test_train_starts_codec_and_prior_from_the_release(
    own_store: Store, settings: Path, melodygan: Melodygan
) -> None:
    call = ("train", "temporal/gan_checkpoint", "--store", own_store.root, "--preset", PRESET)
    call = (*call, "--config", settings, "--from", in_use(own_store))
    result = melodygan(*call)
    assert result.exit_code == 0, result.output
    begun, conditions, made = result.stdout.splitlines()
    record = own_store.record("temporal_gan/release")
    assert record is not None
    assert begun.startswith(f"started from temporal_gan {record.version}, trained on ")
    assert begun.endswith("(licences: CC0-1.0)")
    assert conditions == "conditions: none"
    folder = Path(str(own_store.at(made.rpartition(": ")[2])))
    inputs = json.loads((folder / "artifact.json").read_text("utf-8"))["inputs"]
    assert set(inputs) == {"temporal/latent_table", "temporal/autoencoder_checkpoint", "start_from"}
    assert (folder / "start.json").is_file()
    assert melodygan(*call).stdout == result.stdout


def test_run_checks_the_release_before_anything_else(
    own_store: Store, settings: Path, tmp_path: Path, melodygan: Melodygan, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Deployment] = []
    monkeypatch.setattr(graph, "_run", lambda deployment: seen.append(deployment) or True)
    sources = tmp_path / "sources.txt"
    sources.write_text("https://music.example/a.mp3\n", "utf-8")
    call = ("run", "--sources", sources, "--store", own_store.root, "--preset", PRESET)
    good = melodygan(*call, "--config", settings, "--from", in_use(own_store), "--from-parts", "codec,prior")
    assert good.exit_code == 0, good.output
    assert good.stdout.startswith("Starting from temporal_gan ") and good.stdout.endswith(": codec, prior\n")
    assert [d.load_config().starts("vocoder") for d in seen] == [""]
    assert [d.load_config().starts("codec") for d in seen] == [in_use(own_store)]

    other = melodygan(*call, "--from", in_use(own_store), "--pipelines", "temporal_gan")
    assert other.exit_code == 2
    assert other.stderr.startswith("Error: features.") and "that training starts from, got" in other.stderr
    nothing = melodygan(*call, "--from", tmp_path / "nothing")
    assert nothing.stderr.startswith("Error: --from must be a release folder, or STORE/releases/PIPELINE")
    parts = melodygan(*call, "--from-parts", "prior")
    assert parts.stderr.startswith("Error: --from-parts must be a list with codec, because ")
    unknown = melodygan(*call, "--from-parts", "drums")
    assert unknown.exit_code == 2 and "drums" in unknown.stderr
    assert len(seen) == 1


def test_a_deployment_starts_from_the_release_that_is_in_use_now(
    own_store: Store, settings: Path, tmp_path: Path, restored: None
) -> None:
    made = own_store.record("temporal_gan/release")
    assert made is not None
    Deployment(own_store.root, tmp_path / "s", PRESET, config=settings, start_from=in_use(own_store)).activate()
    assert deployed_config().starts("prior") == str(own_store.at(made.uri))
    Deployment(own_store.root, tmp_path / "s", PRESET, config=settings).activate()
    assert deployed_config().starts("prior") == ""


def launch(store: Store, asset: dg.AssetsDefinition, **config: Any) -> dg.ExecuteInProcessResult:
    """Runs an asset of the codec as the launchpad does."""
    resource = StoreResource(root=store.root)
    resources = {"store": resource, "settings": deployed_settings(), "records": ArtifactRecords(store=resource)}
    table = dg.AssetSpec("feature_table").with_io_manager_key("records")
    run_config = {
        "ops": {"temporal__autoencoder_checkpoint": {"config": config}},
        "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
    }
    return dg.materialize(
        [table, asset], selection=[asset], resources=resources, run_config=run_config, raise_on_error=False
    )


def test_the_launchpad_has_the_release_and_reaches_no_other_folder(
    own_store: Store, settings: Path, tmp_path: Path, restored: None
) -> None:
    sources = tmp_path / "sources" / "sources.yaml"
    sources.parent.mkdir()
    Deployment(own_store.root, sources, PRESET, config=settings).activate()
    asset = codec_defs.build_asset("temporal", deployed_config().codecs["temporal"])
    made = launch(own_store, asset, start_from="releases/temporal_gan")
    assert made.success
    record = own_store.record("temporal/autoencoder_checkpoint")
    assert record is not None and "start_from" in record.inputs
    outside = shutil.copytree(in_use(own_store), tmp_path / "outside")
    for name in (str(outside), "../outside", "releases/../../outside", "s3://bucket/releases/x"):
        with pytest.raises(Exception, match="start_from must be a file or folder below"):
            starting._named(StoreResource(root=own_store.root), deployed_settings(), name)
    refused = launch(own_store, asset, start_from=str(outside))
    assert not refused.success
