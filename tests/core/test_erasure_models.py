"""What was trained on a forgotten track: tables and scratch are removed, models stay and are marked."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from melodygan_core import codec, latents, prior, release, vocoder
from melodygan_core.config import replace
from melodygan_core.dataset import Dataset
from melodygan_core.maintenance import erasure
from melodygan_core.maintenance.check import check_store
from tests.contents import root_of, traces
from tests.core.made import (
    FEATURE,
    GENERATION,
    SEPARATION,
    TEMPORAL_CODEC,
    TEMPORAL_GAN,
    VOCODER,
    Trained,
    assemble,
)

pytestmark = pytest.mark.slow


@pytest.fixture
def trained(own_dense: Trained) -> Trained:
    """A trained pipeline with records and a release."""
    f = own_dense
    published = release.publish(f.artifacts, f.evaluation, f.dataset, f.store, GENERATION, None)
    for made in (
        f.dataset,
        f.vocoder,
        f.codec,
        f.latents,
        f.prior,
        f.samples,
        f.evaluation,
        published.artifact,
    ):
        f.store.write_record(made)
    return f


@pytest.mark.parametrize("name", ["vocoder/vocoder", "temporal/autoencoder", "temporal/gan"])
def test_state_of_a_killed_training_is_removed(own_temporal: Trained, name: str) -> None:
    f, store = own_temporal, own_temporal.store
    trainings = {
        "vocoder/vocoder": lambda o: vocoder.train(f.dataset, store, broken_off(VOCODER), o),
        "temporal/autoencoder": lambda o: codec.train(
            "temporal", f.dataset, store, broken_off(TEMPORAL_CODEC), o
        ),
        "temporal/gan": lambda o: prior.train("gan", f.latents, f.codec, store, broken_off(TEMPORAL_GAN), o),
    }

    def dies(step: int, figures: dict[str, float]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainings[name](dies)
    [left] = (store.work_base / "training").glob(f"{name}/*")
    kinds = {p.suffix for p in left.iterdir()}
    assert kinds == ({".pt", ".i16"} if name == "vocoder/vocoder" else {".pt"})
    # The training has not ended: the check keeps its state, and the erasure removes it.
    assert check_store(store).good and left.exists()
    learned = next(t["track_id"] for t in Dataset(store, f.dataset).tracks if t["split"] == "train")
    made = erasure.forget(store, [learned])
    assert f"work/training/{name}/{left.name}" in made.removed
    assert not left.exists()
    assert [p for p in store.work_base.rglob("*") if p.suffix in (".i16", ".pt")] == []


def broken_off(config: Any) -> Any:
    optimizer = replace(config.optimizer, checkpoint_every_s=0.0, max_steps=4, eval_every=2)
    return replace(config, optimizer=optimizer)


def test_state_of_a_running_training_is_reported_and_not_touched(own_temporal: Trained) -> None:
    f, store = own_temporal, own_temporal.store
    reports: list[erasure.ForgetReport] = []
    learned = next(t["track_id"] for t in Dataset(store, f.dataset).tracks if t["split"] == "train")

    def forgets(step: int, figures: dict[str, float]) -> None:
        if not reports:
            reports.append(erasure.forget(store, [learned]))

    made = vocoder.train(f.dataset, store, broken_off(VOCODER), forgets)
    assert reports[0].running == [made.uri]
    # When it is done, its state is removed and its model is marked.
    assert list(store.work_base.rglob("*.i16")) == []
    assert {m.uri: m.trained_on for m in erasure.marks(store)}[made.uri] == [learned]


def test_latents_of_all_codecs_are_removed(own_temporal: Trained) -> None:
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
    # Models stay, and all of them are marked.
    remaining = (f.vocoder, f.codec, f.prior, f.samples, f.evaluation)
    assert {a.uri for a in remaining} <= {m.uri for m in made.marks}


def test_models_trained_on_the_track_stay_and_are_marked(trained: Trained) -> None:
    store = trained.store
    split = {t["track_id"]: t["split"] for t in Dataset(store, trained.dataset).tracks}
    learned, compared = (next(t for t in split if split[t] == s) for s in ("train", "test"))
    (store.work("training/dense/gan/0123456789ab") / "state.pt").write_text("x", "utf-8")
    remaining = [
        trained.vocoder,
        trained.codec,
        trained.prior,
        trained.samples,
        trained.evaluation,
        store.record("dense_gan/release"),
    ]
    made = erasure.forget(store, [learned, compared])
    assert traces(store, learned) == traces(store, compared) == []
    assert not any(store.at(a.uri).exists() for a in (trained.dataset, trained.latents))
    assert store.record("feature_table") is store.record("dense/latent_table") is None
    assert not (store.work_base / "training/dense/gan/0123456789ab").exists()
    assert {m.uri for m in made.marks} == {a.uri for a in remaining if a}
    assert all(m.tracks == {learned: "train", compared: "test"} for m in made.marks)
    # Immutable folders are unchanged.
    report = check_store(store)
    assert report.good, report.findings
    folder = root_of(store) / remaining[-1].uri if remaining[-1] else root_of(store)
    assert erasure.in_release(folder) == [learned]
    shutil.copytree(folder, root_of(store).parent / "elsewhere")
    assert erasure.in_release(root_of(store).parent / "elsewhere") == []
    # A track that is forgotten later is marked, too, although the dataset with both no longer exists.
    later = next(t for t in split if split[t] == "train" and t != learned)
    erasure.forget(store, [later])
    assert erasure.in_release(folder) == sorted([learned, later])
    erasure.undo(store, [learned, later])
    assert erasure.in_release(folder) == []


def test_running_training_is_reported_and_not_touched(trained: Trained) -> None:
    store = trained.store
    state = store.work("training/dense/gan/0123456789ab") / "state.pt"
    state.write_text("x", "utf-8")
    with store.lock("models/dense/gan/0123456789ab"):
        made = erasure.forget(store, ["made-00"])
    assert made.running == ["models/dense/gan/0123456789ab"]
    assert state.exists()
    assert erasure.forget(store, ["made-00"]).running == []
    assert not state.exists()


def test_latents_and_dataset_are_made_again_without_the_track(trained: Trained) -> None:
    store = trained.store
    erasure.forget(store, ["made-03"])
    data = assemble(store, feature=FEATURE)
    table = latents.load(latents.encode(trained.codec, data, store), store)
    assert "made-03" not in set(table.track_id)
    assert len(set(table.track_id)) == 8


def test_stems_of_all_models_are_removed(trained: Trained) -> None:
    store = trained.store
    first = store.stems(SEPARATION.model_id, "made-02")
    shutil.copytree(str(first), str(store.stems("other-model", "made-02")))
    made = erasure.forget(store, ["made-02"])
    assert {"stems/other-model/made-02", store.uri(first), "raw/made-02.wav"} <= set(made.removed)
    assert traces(store, "made-02") == []
