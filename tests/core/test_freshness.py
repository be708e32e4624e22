"""Which assets of a pipeline are missing or stale, by records that are written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from melodygan_core.config import Config, to_dict
from melodygan_core.config.presets import load
from melodygan_core.services.freshness import AssetState, changed_settings, pipeline_states, planned_assets
from melodygan_core.storage import Artifact, Store

DATASET = "feature_table"


def write(store: Store, name: str, version: str = "v1", **fields: Any) -> None:
    store.write_record(Artifact(name, version, f"x/{version}", "0", 1, **fields))


def write_all(store: Store, config: Config, pipeline: str) -> None:
    """Records of a pipeline that is up to date."""
    write(store, DATASET)
    for asset in planned_assets(config, pipeline):
        inputs = dict.fromkeys(asset.inputs, "v1")
        write(store, asset.name, config=dict(asset.config), inputs=inputs)


def states(store: Store, config: Config, pipeline: str = "temporal_gan") -> dict[str, AssetState]:
    return {state.asset.name: state for state in pipeline_states(store, config, pipeline)}


@pytest.fixture
def config() -> Config:
    return load("small")


def test_nothing_is_made_yet(store: Store, config: Config) -> None:
    found = states(store, config)
    assert {state.status for state in found.values()} == {"missing"}
    assert {state.reasons for state in found.values()} == {("It was never made.",)}


@pytest.mark.parametrize("pipeline", ["temporal_gan", "dense_gan", "temporal_flow", "temporal_plan"])
def test_what_is_up_to_date_has_no_reason(store: Store, config: Config, pipeline: str) -> None:
    write_all(store, config, pipeline)
    assert {state.status for state in states(store, config, pipeline).values()} == {"made"}


def test_a_newer_dataset_makes_trainings_stale(store: Store, config: Config) -> None:
    write_all(store, config, "temporal_gan")
    write(store, DATASET, "v2")
    found = states(store, config)
    assert found["vocoder_checkpoint"].reasons == (
        "There is a newer dataset than the one that it was made from.",
    )
    # The prior reads latents, which are made anew first.
    assert found["temporal/gan_checkpoint"].reasons == (
        "It is made anew after latents and codec, which are not up to date.",
    )


def test_other_settings_are_named(store: Store, config: Config) -> None:
    write_all(store, config, "temporal_gan")
    prior = to_dict(config.priors["temporal"]["gan"])
    prior["width"] += 1
    prior["optimizer"] |= {"max_steps": 7, "device": "cuda", "checkpoint_every_s": 1.0}
    inputs = {"temporal/latent_table": "v1", "temporal/autoencoder_checkpoint": "v1"}
    write(store, "temporal/gan_checkpoint", config=prior, inputs=inputs)
    state = states(store, config)["temporal/gan_checkpoint"]
    # The device changes nothing of what is made.
    assert state.reasons == (
        "It was made with other settings than those of this deployment: width, optimizer.max_steps.",
    )
    assert state.status == "stale"


def test_settings_that_one_side_lacks_are_not_compared() -> None:
    assert changed_settings({"a": 1, "old": 2}, {"a": 1, "new": 3}) == []
    assert changed_settings({"a": [1], "b": {"c": 1}}, {"a": (1,), "b": {"c": 2}}) == ["b.c"]


def test_an_interrupted_training_is_resumable(store: Store, config: Config) -> None:
    folder = Path(store.work(store.training_work("temporal", "gan", "abc")))
    assert not states(store, config)["temporal/gan_checkpoint"].is_resumable
    (folder / "state.pt").write_bytes(b"x")
    found = states(store, config)
    assert found["temporal/gan_checkpoint"].is_resumable
    assert not found["temporal/autoencoder_checkpoint"].is_resumable
