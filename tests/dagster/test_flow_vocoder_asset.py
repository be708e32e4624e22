"""The flow vocoder in the graph: only where a trained pipeline asks for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from melodygan_core.config import to_dict
from melodygan_dagster.defs import vocoder as vocoder_defs
from melodygan_dagster.deployment import Deployment
from melodygan_dagster.io_managers import ArtifactRecords
from melodygan_dagster.resources import StoreResource
from tests.core.made import FLOW_VOCODER, Trained

FLOW = dg.AssetKey("flow_vocoder_checkpoint")
NEURAL = dg.AssetKey("vocoder_checkpoint")


def keys_of(selection: Iterable[dg.AssetKey]) -> set[str]:
    return {key.to_user_string() for key in selection}


@pytest.fixture
def with_flow(deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dg.Definitions:
    """A deployment of `temporal_gan` and `dense_gan`, of which the first is heard through the flow."""
    from melodygan_dagster.definitions import defs

    config = tmp_path / "flow.yaml"
    config.write_text("pipelines: {temporal_gan: {codec: temporal, prior: gan, vocoder: flow}}\n", "utf-8")
    monkeypatch.setenv("MELODYGAN_CONFIG", str(config))
    monkeypatch.setenv("MELODYGAN_PIPELINES", "temporal_gan,dense_gan")
    return defs()


def test_no_pipeline_of_a_preset_has_one(definitions: dg.Definitions) -> None:
    assert FLOW not in definitions.resolve_asset_graph().get_all_asset_keys()


def test_it_stands_between_the_vocoder_and_what_is_made_with_it(with_flow: dg.Definitions) -> None:
    dg.Definitions.validate_loadable(with_flow)
    graph = with_flow.resolve_asset_graph()
    assert keys_of(graph.get(FLOW).parent_keys) == {"feature_table", "vocoder_checkpoint"}
    assert (graph.get(FLOW).group_name, graph.get(FLOW).pools) == ("vocoder", {"gpu"})
    for made in ("generated_samples", "evaluation", "release"):
        through_flow, plain = (graph.get(dg.AssetKey([p, made])) for p in ("temporal_gan", "dense_gan"))
        assert FLOW in through_flow.parent_keys and NEURAL not in through_flow.parent_keys
        assert NEURAL in plain.parent_keys and FLOW not in plain.parent_keys


def test_the_job_of_its_pipeline_trains_both_vocoders(with_flow: dg.Definitions) -> None:
    repository = with_flow.get_repository_def()
    selected = {
        name: repository.get_job(f"{name}_job").asset_layer.selected_asset_keys
        for name in ("temporal_gan", "dense_gan")
    }
    assert {FLOW, NEURAL} <= set(selected["temporal_gan"])
    assert NEURAL in selected["dense_gan"] and FLOW not in selected["dense_gan"]


@pytest.mark.parametrize(("flow_kad", "good"), [(1.0, True), (3.0, False), (None, True)])
def test_a_flow_that_is_not_nearer_is_a_warning(dense: Trained, flow_kad: float | None, good: bool) -> None:
    made = replace(dense.vocoder, metrics={"test/flow/kad": flow_kad, "test/neural/kad": 2.0})
    check = vocoder_defs._nearer(made, "nearer_than_neural", "flow", "neural")
    assert check.passed is good
    assert check.severity == dg.AssetCheckSeverity.WARN


def test_the_asset_trains_over_the_recorded_vocoder(own_dense: Trained) -> None:
    store = StoreResource(root=str(own_dense.store.root))
    for artifact in (own_dense.dataset, own_dense.vocoder):
        own_dense.store.write_record(artifact)
    upstream = [
        dg.AssetSpec(key).with_io_manager_key("records") for key in ("feature_table", "vocoder_checkpoint")
    ]
    result = dg.materialize(
        [vocoder_defs.build_flow_asset(FLOW_VOCODER), *upstream],
        resources={"store": store, "records": ArtifactRecords(store=store)},
        run_config={"ops": {"flow_vocoder_checkpoint": {"config": to_dict(FLOW_VOCODER)}}},
    )
    assert result.success
    made = own_dense.store.record("flow_vocoder_checkpoint")
    assert made is not None and made.inputs["vocoder_checkpoint"] == own_dense.vocoder.version
    [check] = result.get_asset_check_evaluations()
    assert check.check_name == "nearer_than_neural"
