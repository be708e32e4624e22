"""A bad dataset stops training and a bad model is stopped, each with a reason that a person understands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import dagster as dg
import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file

from melodygan_core import codec, dataset, latents
from melodygan_core.catalogue.tracks import load, save
from melodygan_core.dataset import Dataset
from melodygan_core.evaluation.memorisation import memorisation
from melodygan_core.generation import pieces
from melodygan_core.prior import gan
from melodygan_core.prior.gan import LatentGan
from melodygan_core.storage.store import Artifact, Store
from melodygan_core.training.checkpoint import WEIGHTS_FILE
from melodygan_dagster.defs import autoencoder as autoencoder_defs
from melodygan_dagster.defs import evaluation as evaluation_defs
from melodygan_dagster.defs import gan as gan_defs
from melodygan_dagster.defs.dataset import BLOCKING, KNOWN
from melodygan_dagster.deployment import Deployment
from melodygan_dagster.resources import deployed_settings
from melodygan_dagster.runner import failure_of
from tests.core.made import GENERATION, Family, put_features, track

# Pieces of one segment, which is compared as it was made.
ONE_SEGMENT = replace(GENERATION, count=8, duration_s=0.35)
NAMES = [f"t{i}" for i in range(8)]
TABLE = dg.AssetKey("feature_table")
AUTOENCODER = dg.AssetKey(["dense", "autoencoder_checkpoint"])


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
    split = {t["track_id"]: t["split"] for t in Dataset(store, assembled(store)).tracks}
    one, other = (next(n for n, s in split.items() if s == part) for part in ("train", "test"))
    same = store.read_json(store.raw_json(one))["sha256"]
    store.write_json(store.raw_json(other), store.read_json(store.raw_json(other)) | {"sha256": same})
    return other


def spoil(store: Store) -> str:
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


def starve(store: Store) -> str:
    for name in NAMES:
        put_features(store, name, deployed_settings().features(), segments=1)
    return "train has 4 usable segments of the mix, of 4 tracks; at least 16 are needed"


@pytest.mark.parametrize(("fault", "name"), [(leak, "no_leakage"), (spoil, "finite"), (starve, "enough_sound")])
def test_a_bad_dataset_stops_training_and_says_why(
    filled: Store,
    instance: dg.DagsterInstance,
    definitions: dg.Definitions,
    fault: Callable[[Store], str],
    name: str,
) -> None:
    said = fault(filled)
    result = materialize(definitions, instance, [TABLE, AUTOENCODER])
    assert not result.success
    assert instance.get_latest_materialization_event(AUTOENCODER) is None
    assert filled.record("dense/autoencoder_checkpoint") is None
    failed = {
        n: c for n, c in checks(result).items() if not c.passed and c.severity == dg.AssetCheckSeverity.ERROR
    }
    assert list(failed) == [name]
    assert said in (failed[name].description or "")
    assert isinstance(failed[name].metadata["found"], dg.TableMetadataValue)
    # `melodygan run` and the failure sensor say the same.
    reason, _ = failure_of(result)
    assert name in reason and said in reason


def test_a_good_dataset_passes_and_tells_of_single_tracks(
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


# Models, spoilt on disk: what is checked is what would be used.


def change(store: Store, made: Artifact, how: Callable[[str, torch.Tensor], torch.Tensor]) -> None:
    path = Path(str(store.at(made.uri))) / WEIGHTS_FILE
    save_file({k: how(k, v).contiguous() for k, v in load_file(path).items()}, path)


def passed(results: list[dg.AssetCheckResult]) -> dict[str, bool]:
    return {str(r.check_name): bool(r.passed) for r in results}


def of_autoencoder(family: Family) -> dict[str, bool]:
    return passed(
        autoencoder_defs._checks(codec.check_collapse(family.autoencoder, family.dataset, family.store))
    )


def of_gan(family: Family) -> dict[str, bool]:
    health = gan.check_collapse(family.gan, family.latents, family.autoencoder, family.store)
    return passed(gan_defs._checks(vars(health)))


def test_an_autoencoder_that_says_the_same_of_everything_is_stopped(own_family: Family) -> None:
    assert of_autoencoder(own_family) == {"no_collapse": True, "finite": True}
    change(own_family.store, own_family.autoencoder, lambda k, v: v * 0 if "_out" in k or "decoder" in k else v)
    [collapse, _] = autoencoder_defs._checks(
        codec.check_collapse(own_family.autoencoder, own_family.dataset, own_family.store)
    )
    assert not collapse.passed
    assert "0.00 times as far apart" in str(collapse.description)


def test_an_autoencoder_with_a_dead_latent_is_stopped(own_family: Family) -> None:
    change(
        own_family.store,
        own_family.autoencoder,
        lambda k, v: v * 0 if "shortcut_in" in k or k.startswith("model.encoder") else v,
    )
    assert of_autoencoder(own_family) == {"no_collapse": False, "finite": True}


def test_an_autoencoder_that_overflows_is_stopped(own_family: Family) -> None:
    change(own_family.store, own_family.autoencoder, lambda k, v: v * 1e38 if "shortcut" in k else v)
    assert of_autoencoder(own_family)["finite"] is False


def test_a_generator_that_makes_one_thing_is_stopped(own_family: Family) -> None:
    assert of_gan(own_family)["finite"] is True
    change(own_family.store, own_family.gan, lambda k, v: v * 0 if "head" in k else v)
    assert of_gan(own_family) == {"no_mode_collapse": False, "finite": True}


def test_a_generator_that_overflows_is_stopped(own_family: Family) -> None:
    change(own_family.store, own_family.gan, lambda k, v: v + 3e38 if "head.bias" in k else v)
    assert of_gan(own_family)["finite"] is False


def test_a_sequence_model_is_stopped_for_the_same_reasons(own_temporal: Family) -> None:
    store, f = own_temporal.store, own_temporal
    assert of_autoencoder(f) == {"no_collapse": True, "finite": True}
    assert of_gan(f)["finite"] is True
    change(store, f.gan, lambda k, v: v * 0)
    assert of_gan(f) == {"no_mode_collapse": False, "finite": True}
    change(store, f.autoencoder, lambda k, v: v * 0 if k.startswith("model.encoder.0") else v)
    assert of_autoencoder(f) == {"no_collapse": False, "finite": True}
    change(store, f.autoencoder, lambda k, v: v + 3e38 if k.startswith("model.decoder") else v)
    assert of_autoencoder(f)["finite"] is False


class _Copier:
    """A generator that knows its training set by heart."""

    def __init__(self, honest: LatentGan, rows: torch.Tensor) -> None:
        self.conditions, self.config, self.rows = honest.conditions, honest.config, rows

    def latents(self, noise: torch.Tensor, condition: int | None) -> torch.Tensor:
        return self.rows[(noise[:, 0].abs() * 1e4).long() % len(self.rows)]


def test_a_generator_that_copies_its_training_set_is_stopped(
    own_family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = own_family.store
    honest = own_family.models
    table = latents.load(own_family.latents, store)
    rows = torch.from_numpy((table.latents * table.std + table.mean)[table.split == "train", 0])
    copier = replace(honest, gan=cast(LatentGan, _Copier(honest.gan, rows)))
    figures: dict[str, Any] = memorisation(
        Dataset(store, own_family.dataset), copier, list(pieces(copier, ONE_SEGMENT))
    )
    [check] = evaluation_defs._checks(figures)
    assert not check.passed and "0.00 times as far" in str(check.description)
    assert passed(evaluation_defs._checks({"memorisation/ratio": 1.0})) == {"not_memorised": True}
    assert passed(evaluation_defs._checks({"memorisation/ratio": float("nan")})) == {"not_memorised": False}
