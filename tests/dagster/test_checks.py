"""Checks of the dataset: a bad one stops training, with a readable reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import dagster as dg
import numpy as np
import pyarrow as pa
import pytest

from melodygan_core import dataset
from melodygan_core.catalogue.tracks import load, save
from melodygan_core.dataset import Dataset
from melodygan_core.storage import Artifact, Store
from melodygan_dagster.defs.dataset import BLOCKING, KNOWN
from melodygan_dagster.deployment import Deployment
from melodygan_dagster.resources import deployed_settings
from melodygan_dagster.runner import failure_of
from tests.core.made import put_features, track

NAMES = [f"t{i}" for i in range(8)]
TABLE = dg.AssetKey("feature_table")
CODEC = dg.AssetKey(["dense", "autoencoder_checkpoint"])


@pytest.fixture
def filled(deployment: Deployment) -> Store:
    """A store with the features of eight tracks, as the deployment's config would make them."""
    store, settings = deployment.opened, deployed_settings()
    for name in NAMES:
        put_features(store, name, settings.features(), segments=5)
    save(store, [track(n) for n in NAMES])
    return store


def assembled(store: Store) -> Artifact:
    settings = deployed_settings()
    return dataset.assemble(store, settings.dataset(), settings.features(), settings.separation())


def materialize(
    definitions: dg.Definitions, instance: dg.DagsterInstance, keys: list[dg.AssetKey]
) -> dg.ExecuteInProcessResult:
    return definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        instance=instance,
        asset_selection=keys,
        raise_on_error=False,
    )


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {e.check_name: e for e in result.get_asset_check_evaluations()}


def leak(store: Store) -> str:
    """Puts the same sound into two splits and returns the track that the check names."""
    split = {t["track_id"]: t["split"] for t in Dataset(store, assembled(store)).tracks}
    one, other = (next(n for n, s in split.items() if s == part) for part in ("train", "test"))
    same = store.read_json(store.raw_json(one))["sha256"]
    store.write_json(store.raw_json(other), store.read_json(store.raw_json(other)) | {"sha256": same})
    return other


def make_infinite(store: Store) -> str:
    """Writes an infinite value into the dataset and returns the track that the check names."""
    made = assembled(store)
    [path] = store.at(store.read_json(store.at(made.uri) / "manifest.json")["shards"]).glob("*.arrow")
    table = pa.ipc.open_file(pa.OSFile(str(path))).read_all()
    values = table["log_mel"].combine_chunks().flatten().to_numpy().copy()
    values[0] = np.inf
    field = table.schema.field("log_mel")
    column = pa.FixedSizeListArray.from_arrays(pa.array(values), type=field.type)
    table = table.set_column(table.schema.get_field_index("log_mel"), field, column)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return str(table["track_id"][0])


def shorten(store: Store) -> str:
    """Leaves one segment per track and returns the finding of the check."""
    for name in NAMES:
        put_features(store, name, deployed_settings().features(), segments=1)
    return "train has 4 usable segments of the mix, of 4 tracks; at least 16 are needed"


@pytest.mark.parametrize(
    ("fault", "name"), [(leak, "no_leakage"), (make_infinite, "finite"), (shorten, "enough_sound")]
)
def test_a_bad_dataset_stops_training_with_a_reason(
    filled: Store,
    instance: dg.DagsterInstance,
    definitions: dg.Definitions,
    fault: Callable[[Store], str],
    name: str,
) -> None:
    reason = fault(filled)
    result = materialize(definitions, instance, [TABLE, CODEC])
    assert not result.success
    assert instance.get_latest_materialization_event(CODEC) is None
    assert filled.record("dense/autoencoder_checkpoint") is None
    failed = {
        n: c for n, c in checks(result).items() if not c.passed and c.severity == dg.AssetCheckSeverity.ERROR
    }
    assert list(failed) == [name]
    assert reason in (failed[name].description or "")
    assert isinstance(failed[name].metadata["found"], dg.TableMetadataValue)
    # `melodygan run` prints the same reason.
    printed, _ = failure_of(result)
    assert name in printed and reason in printed


def test_a_good_dataset_passes_and_names_single_tracks(
    filled: Store, instance: dg.DagsterInstance, definitions: dg.Definitions
) -> None:
    put_features(filled, "copy", deployed_settings().features(), segments=5, audio="t3")
    unknown = [track(f"unknown-{i:02d}", rights="unknown") for i in range(60)]
    for row in unknown[:1]:
        put_features(filled, row.track_id, deployed_settings().features(), segments=5)
    long = [replace(t, duration_s=200.0) if t.track_id == "t5" else t for t in load(filled)]
    save(filled, [*long, track("copy", title="A <copy>"), *unknown])
    result = materialize(definitions, instance, [TABLE])
    assert result.success, failure_of(result)
    found = checks(result)
    assert found.keys() == BLOCKING.keys() | KNOWN.keys()
    # The copy comes before t3 by name, and these tracks have no wavs.
    assert {n for n, c in found.items() if not c.passed} == {"duplicates", "durations", "fingerprints"}
    assert {c.severity for n, c in found.items() if n in KNOWN} == {dg.AssetCheckSeverity.WARN}
    assert {c.blocking for n, c in found.items() if n in KNOWN} == {False}
    table = found["duplicates"].metadata["found"]
    assert isinstance(table, dg.TableMetadataValue)
    [row] = table.records
    assert (row.data["track"], row.data["of"], row.data["title"]) == ("t3", "copy", "Title of t3")
    table = found["durations"].metadata["found"]
    assert isinstance(table, dg.TableMetadataValue)
    assert [r.data["track"] for r in table.records] == ["t5"]

    [event] = result.asset_materializations_for_node("feature_table")
    excluded, counted = event.metadata["excluded"], event.metadata["excluded_by_reason"]
    assert isinstance(excluded, dg.TableMetadataValue) and isinstance(counted, dg.TableMetadataValue)
    assert event.metadata["excluded_tracks"].value == 61
    assert len(excluded.records) == 50
    assert excluded.records[0].data["title"] == "Title of t3"
    assert [(r.data["reason"], r.data["tracks"]) for r in counted.records] == [
        ("no features (not downloaded, not separated, or failed)", 59),
        ("rights unknown", 1),
        ("same sound as another track", 1),
    ]
