"""What was trained on a track that is forgotten: tables and scratch go, models stay and are marked."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Any

import pytest

from melodygan_core import codec, latents, release, vocoder
from melodygan_core.dataset import Dataset
from melodygan_core.maintenance import erasure, inspection
from melodygan_core.prior import gan
from tests.contents import root_of, traces
from tests.core.made import (
    FEATURE,
    GENERATION,
    SEPARATION,
    TEMPORAL_AUTOENCODER,
    TEMPORAL_GAN,
    VOCODER,
    Family,
    assemble,
)


@pytest.fixture
def trained(own_family: Family) -> Family:
    """A family with records and a release."""
    f = own_family
    published = release.publish(
        f.gan, f.autoencoder, f.vocoder, f.evaluation, f.dataset, f.store, GENERATION, None
    )
    for made in (
        f.dataset,
        f.vocoder,
        f.autoencoder,
        f.latents,
        f.gan,
        f.samples,
        f.evaluation,
        published.artifact,
    ):
        f.store.write_record(made)
    return f


@pytest.mark.parametrize("name", ["vocoder", "temporal.autoencoder", "temporal.gan"])
def test_what_a_killed_training_held_of_it_goes(own_temporal: Family, name: str) -> None:
    f, store = own_temporal, own_temporal.store
    trainings = {
        "vocoder": lambda o: vocoder.train(f.dataset, store, broken_off(VOCODER), o),
        "temporal.autoencoder": lambda o: codec.train(f.dataset, store, broken_off(TEMPORAL_AUTOENCODER), o),
        "temporal.gan": lambda o: gan.train(f.latents, f.autoencoder, store, broken_off(TEMPORAL_GAN), o),
    }

    def dies(step: int, figures: dict[str, float]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainings[name](dies)
    [left] = [p for p in store.work_base.iterdir() if p.name.startswith(name)]
    kinds = {p.suffix for p in left.iterdir()}
    assert kinds == ({".pt", ".i16"} if name == "vocoder" else {".pt"})
    # Not of a training that is done: it is kept until somebody forgets.
    assert inspection.inspect(store).good and left.exists()
    learned = next(t["track_id"] for t in Dataset(store, f.dataset).tracks if t["split"] == "train")
    made = erasure.forget(store, [learned])
    assert f"work/{left.name}" in made.removed
    assert not left.exists()
    assert [p for p in store.work_base.rglob("*") if p.suffix in (".i16", ".pt")] == []


def broken_off(config: Any) -> Any:
    optimizer = replace(config.optimizer, checkpoint_every_s=0.0, max_steps=4, eval_every=2)
    return replace(config, optimizer=optimizer)


def test_the_sound_of_a_training_that_runs_is_named_and_not_touched(own_temporal: Family) -> None:
    f, store = own_temporal, own_temporal.store
    told: list[erasure.Forgotten] = []
    learned = next(t["track_id"] for t in Dataset(store, f.dataset).tracks if t["split"] == "train")

    def forgets(step: int, figures: dict[str, float]) -> None:
        if not told:
            told.append(erasure.forget(store, [learned]))

    made = vocoder.train(f.dataset, store, broken_off(VOCODER), forgets)
    assert told[0].running == [made.uri]
    # When it is done, its sound is gone, and it is marked.
    assert list(store.work_base.rglob("*.i16")) == []
    assert {m.uri: m.trained for m in erasure.marks(store)}[made.uri] == [learned]


def test_the_latents_of_both_families_go(own_temporal: Family) -> None:
    f, store = own_temporal, own_temporal.store
    tables = [p.parent for p in root_of(store).glob("models/*/latents/*/latents.parquet")]
    assert {p.parent.parent.name for p in tables} == {"dense", "temporal"}
    for made in (f.dataset, f.latents):
        store.write_record(made)
    forgotten = Dataset(store, f.dataset).tracks[0]["track_id"]
    made = erasure.forget(store, [forgotten])
    assert not any(p.exists() for p in tables)
    assert store.record("temporal/latent_table") is None
    assert traces(store, forgotten) == []
    # What was learned from it stays, and all of it is marked.
    kept = (f.vocoder, f.autoencoder, f.gan, f.samples, f.evaluation)
    assert {a.uri for a in kept} <= {m.uri for m in made.marks}


def test_what_was_trained_on_it_stays_and_is_marked(trained: Family) -> None:
    store = trained.store
    split = {t["track_id"]: t["split"] for t in Dataset(store, trained.dataset).tracks}
    learned, compared = (next(t for t in split if split[t] == s) for s in ("train", "test"))
    (store.work("dense.gan.0123456789ab") / "state.pt").write_text("x", "utf-8")
    kept = [
        trained.vocoder,
        trained.autoencoder,
        trained.gan,
        trained.samples,
        trained.evaluation,
        store.record("dense/release"),
    ]
    made = erasure.forget(store, [learned, compared])
    assert traces(store, learned) == traces(store, compared) == []
    assert not any(store.at(a.uri).exists() for a in (trained.dataset, trained.latents))
    assert store.record("feature_table") is store.record("dense/latent_table") is None
    assert not (store.work_base / "dense.gan.0123456789ab").exists()
    assert {m.uri for m in made.marks} == {a.uri for a in kept if a}
    assert all(m.tracks == {learned: "train", compared: "test"} for m in made.marks)
    # Immutable folders are what they were.
    report = inspection.inspect(store)
    assert report.good, report.findings
    folder = root_of(store) / kept[-1].uri if kept[-1] else root_of(store)
    assert erasure.in_release(folder) == [learned]
    shutil.copytree(folder, root_of(store).parent / "elsewhere")
    assert erasure.in_release(root_of(store).parent / "elsewhere") == []
    # A track that is forgotten later, when the dataset that both were in is gone, is marked, too.
    later = next(t for t in split if split[t] == "train" and t != learned)
    erasure.forget(store, [later])
    assert erasure.in_release(folder) == sorted([learned, later])
    erasure.recall(store, [learned, later])
    assert erasure.in_release(folder) == []


def test_a_training_at_work_is_left_alone_and_named(trained: Family) -> None:
    store = trained.store
    state = store.work("dense.gan.0123456789ab") / "state.pt"
    state.write_text("x", "utf-8")
    with store.lock("models/dense/gan/0123456789ab"):
        made = erasure.forget(store, ["made-00"])
    assert made.running == ["models/dense/gan/0123456789ab"]
    assert state.exists()
    assert erasure.forget(store, ["made-00"]).running == []
    assert not state.exists()


def test_latents_and_datasets_of_the_others_are_made_again_without_it(trained: Family) -> None:
    store = trained.store
    erasure.forget(store, ["made-03"])
    data = assemble(store, feature=FEATURE)
    table = latents.load(latents.encode(trained.autoencoder, data, store), store)
    assert "made-03" not in set(table.track_id)
    assert len(set(table.track_id)) == 8


def test_the_stems_of_every_model_go(trained: Family) -> None:
    store = trained.store
    first = store.stems(SEPARATION.model_id, "made-02")
    shutil.copytree(str(first), str(store.stems("other-model", "made-02")))
    made = erasure.forget(store, ["made-02"])
    assert {"stems/other-model/made-02", store.uri(first), "raw/made-02.wav"} <= set(made.removed)
    assert traces(store, "made-02") == []
