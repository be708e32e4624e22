from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from melodygan_core import codec
from melodygan_core.codec import DenseAutoencoder
from melodygan_core.codec.dense.model import errors, pca
from melodygan_core.codec.dense.task import vectors
from melodygan_core.config import DenseAutoencoderConfig, FeatureConfig
from melodygan_core.dataset import Dataset, Statistics
from melodygan_core.errors import InputError
from melodygan_core.storage.store import Store
from melodygan_core.training.checkpoint import CONFIG_FILE, WEIGHTS_FILE, load_config, save_weights
from tests.core.made import AUTOENCODER, FEATURE, Family

if TYPE_CHECKING:
    from melodygan_core.storage.store import Artifact

SMALL = FeatureConfig(n_mels=6, n_mfcc=4, segment_frames=16)


def config(**changes: Any) -> DenseAutoencoderConfig:
    return replace(AUTOENCODER, optimizer=replace(AUTOENCODER.optimizer, **changes))


def weights(store: Store, made: Artifact) -> dict[str, torch.Tensor]:
    return load_file(str(store.at(made.uri) / WEIGHTS_FILE))


def model(**changes: Any) -> DenseAutoencoder:
    torch.manual_seed(0)
    return DenseAutoencoder(
        replace(DenseAutoencoderConfig(time_bins=4, hidden_sizes=(16, 5)), **changes), SMALL
    )


def load(folder: Path) -> DenseAutoencoder:
    made = codec.load(folder)
    assert isinstance(made, DenseAutoencoder)
    return made


def statistics() -> Statistics:
    rng = np.random.default_rng(0)
    draw = [rng.uniform(1, 2, n).astype(np.float32) for n in (6, 6, 4, 4)]
    return Statistics(*draw)


# The mathematics.


def test_pca_equals_numpy() -> None:
    x = torch.randn(200, 30, generator=torch.Generator().manual_seed(0)) * torch.logspace(0, -2, 30)
    mean, components = pca(x.split(64), 4)
    assert torch.allclose(mean, x.mean(0))
    _, _, v = np.linalg.svd((x - x.mean(0)).numpy(), full_matrices=False)
    assert np.abs(np.abs((components.numpy() * v[:4]).sum(axis=1)) - 1).max() < 1e-4
    assert torch.allclose(components @ components.T, torch.eye(4), atol=1e-5)


def test_pca_of_few_vectors_has_few_components() -> None:
    _, components = pca([torch.randn(3, 30)], 10)
    assert components.shape == (3, 30)


def test_errors_and_explained_variance_cases() -> None:
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
    zero = torch.zeros(2)
    assert errors([(x, x)], zero) == (0.0, 1.0)
    assert errors([(x, torch.zeros_like(x))], zero) == (1.25, 0.0)
    assert errors([(x, -x)], zero) == (5.0, -3.0)
    assert errors([(part, -part) for part in x.split(3)], zero) == (5.0, -3.0)
    assert errors([(x, x * torch.tensor([0.0, 1.0]))], zero) == (0.25, pytest.approx(0.8))
    assert errors([(x + 5, torch.full_like(x, 5.0))], zero + 5) == (1.25, 0.0)


def test_it_starts_as_pca() -> None:
    x = torch.randn(64, 40, generator=torch.Generator().manual_seed(1)) * torch.logspace(0, -1, 40) + 3
    start = model()
    mean, components = pca([x], 5)
    start.initialise(mean, components, statistics())
    with torch.no_grad():
        assert torch.allclose(start(x), mean + (x - mean) @ components.T @ components, atol=1e-3)
        assert torch.allclose(
            start.encode(x) @ start.encode(x).T,
            (x - mean) @ components.T @ components @ (x - mean).T,
            atol=1e-2,
        )


def test_the_latent_must_be_smaller_than_the_vector() -> None:
    with pytest.raises(InputError, match=r"latent has 10 values; allowed: below the vector's 10 .*1 time_bins"):
        model(time_bins=1, hidden_sizes=(10,))
    assert model(time_bins=1, hidden_sizes=(9,)).vector_dim == 10


def test_the_log_mel_of_a_constant_is_the_constant() -> None:
    made, scale = model(), statistics()
    made.initialise(*pca([torch.randn(8, 40)], 5), scale)
    vector = torch.cat([torch.full((2, 24), 0.5), torch.randn(2, 16)], dim=1)
    log_mel = made.log_mel(vector)
    expected = torch.from_numpy(0.5 * scale.log_mel_std + scale.log_mel_mean)
    assert log_mel.shape == (2, 6, 16)
    assert torch.allclose(log_mel, expected[None, :, None].expand(2, 6, 16), atol=1e-6)
    assert made.log_mel(vector, frames=9).shape == (2, 6, 9)


def test_the_log_mel_runs_through_the_centres_of_the_bins() -> None:
    made = model()
    vector = torch.zeros(1, 40)
    vector[0, :24] = torch.arange(4.0).repeat_interleave(6)
    # Bins of four frames have their centres at 1.5, 5.5, ...: straight lines between them, flat outside.
    line = made.log_mel(vector)[0, 0]
    assert torch.allclose(line, ((torch.arange(16) - 1.5) / 4).clamp(0, 3), atol=1e-6)


# Training.


def test_an_untrained_one_scores_as_pca(own_family: Family) -> None:
    barely = config(max_steps=1, learning_rate=1e-12, warmup_steps=0)
    made = codec.train(own_family.dataset, own_family.store, barely)
    metrics = made.metrics
    assert metrics["test/explained_variance"] == pytest.approx(metrics["test/explained_variance_pca"], abs=1e-4)
    assert 0.3 < metrics["test/explained_variance_pca"] < 1


def test_a_training_says_what_it_did(family: Family) -> None:
    metrics = family.autoencoder.metrics
    losses = [row["validation/loss"] for row in metrics["history"]]
    assert [row["step"] for row in metrics["history"]] == [0, 10, 20, 30, 40]
    assert metrics["validation/loss"] == min(losses)
    assert metrics["steps"] == 40
    assert (metrics["vector_dim"], metrics["latent_dim"]) == (200, 8)
    assert family.autoencoder.inputs == {"feature_table": family.dataset.version}


def test_training_improves_on_the_pca_that_it_starts_from(own_family: Family) -> None:
    # Of six seeds the least gain was a tenth.
    longer = config(learning_rate=3e-3, max_steps=120, eval_every=30)
    metrics = codec.train(own_family.dataset, own_family.store, longer).metrics
    assert metrics["validation/loss"] < 0.95 * metrics["history"][0]["validation/loss"]


def test_the_best_weights_are_kept_not_the_last(own_family: Family) -> None:
    # A rate that rises until it ruins the model: the first step does the least harm.
    ruin = config(learning_rate=5.0, warmup_steps=50, max_steps=9, eval_every=1, patience=3)
    made = codec.train(own_family.dataset, own_family.store, ruin)
    assert made.metrics["best_step"] == 1
    assert made.metrics["steps"] == 4
    loaded = codec.load(Path(str(own_family.store.at(made.uri))))
    data = vectors(Dataset(own_family.store, own_family.dataset), "validation", ruin)
    with torch.no_grad():
        (every,) = data.blocks()
        loss = float((loaded(every) - every).square().mean())
    assert loss == pytest.approx(made.metrics["validation/loss"], rel=1e-5)
    assert loss < 0.5 * made.metrics["history"][-1]["validation/loss"]


def test_a_killed_training_ends_as_an_undisturbed_one(own_family: Family) -> None:
    store, dataset = own_family.store, own_family.dataset
    disturbed = config(checkpoint_every_s=0.0, max_steps=20, eval_every=5)
    straight = codec.train(dataset, store, disturbed)
    first = weights(store, straight)
    shutil.rmtree(str(store.at(straight.uri)))
    seen: list[int] = []

    def dies(step: int, figures: dict[str, float]) -> None:
        seen.append(step)
        if seen == [5, 10]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        codec.train(dataset, store, disturbed, dies)
    assert not store.at(straight.uri).exists()
    torch.manual_seed(12345)
    again = codec.train(dataset, store, disturbed, dies)
    # The ninth step was the last one saved: the tenth is done again, the fifth is not.
    assert seen == [5, 10, 10, 15, 20]
    second = weights(store, again)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert again.metrics["test/explained_variance"] == straight.metrics["test/explained_variance"]
    assert [r["validation/loss"] for r in again.metrics["history"]] == [
        r["validation/loss"] for r in straight.metrics["history"]
    ]


def test_a_training_killed_while_it_is_saved_goes_on_after_its_last_step(
    own_family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    disturbed = config(checkpoint_every_s=0.0, max_steps=10)

    def dies(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(sys.modules["melodygan_core.codec.train"], "save_weights", dies)
        codec.train(own_family.dataset, own_family.store, disturbed)
    made = codec.train(own_family.dataset, own_family.store, disturbed)
    assert made.metrics["steps"] == 10
    assert [row["step"] for row in made.metrics["history"]] == [0, 10]


def test_another_seed_is_another_model(own_family: Family) -> None:
    other = codec.train(own_family.dataset, own_family.store, config(seed=1))
    key = "model.encoder.0.weight"
    assert not torch.equal(
        weights(own_family.store, other)[key], weights(own_family.store, own_family.autoencoder)[key]
    )


def test_training_twice_is_a_no_op_and_drops_its_scratch(family: Family) -> None:
    def never(step: int, figures: dict[str, float]) -> None:
        raise AssertionError("trained again")

    assert codec.train(family.dataset, family.store, AUTOENCODER, never) == family.autoencoder
    assert list((Path(family.store.root) / "work").glob("dense.autoencoder.*")) == []


def test_bins_that_do_not_divide_a_segment_are_refused(family: Family) -> None:
    with pytest.raises(InputError, match="time_bins is 5; allowed: a divisor of segment_frames = 32"):
        codec.train(family.dataset, family.store, replace(AUTOENCODER, time_bins=5))


# Loading.


@pytest.fixture
def folder(own_family: Family) -> Path:
    return Path(str(own_family.store.at(own_family.autoencoder.uri)))


def test_a_loaded_model_gives_the_same_outputs(folder: Path, tmp_path: Path) -> None:
    one = load(folder)
    (tmp_path / "copy").mkdir()
    save_weights(tmp_path / "copy", {"model": one}, load_config(folder))
    two = load(tmp_path / "copy")
    x = torch.randn(3, one.vector_dim)
    assert not one.training
    assert one.feature == FEATURE
    assert torch.equal(one(x), two(x))
    assert torch.equal(one.log_mel(x), two.log_mel(x))


@pytest.mark.parametrize(
    "damage",
    [
        {"config": {"hidden_sizes": 5}},
        {"config": {"hidden_sizes": [8, 8], "time_bins": 4}},
        {"config": {"layers": 3}},
        {"config": None},
        {"feature": {"n_mels": -1}},
        {"feature": {"n_fft": "1024"}},
    ],
)
def test_a_damaged_config_names_the_file(folder: Path, damage: dict[str, Any]) -> None:
    stored = json.loads((folder / CONFIG_FILE).read_text("utf-8"))
    (folder / CONFIG_FILE).write_text(json.dumps(stored | damage), "utf-8")
    with pytest.raises(InputError, match=r"config\.json|weights\.safetensors"):
        codec.load(folder)


def test_damaged_weights_name_the_file(folder: Path) -> None:
    data = (folder / WEIGHTS_FILE).read_bytes()
    (folder / WEIGHTS_FILE).write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"weights\.safetensors does not fit"):
        codec.load(folder)


def test_a_config_of_monstrous_layers_is_refused_before_it_is_built(folder: Path) -> None:
    stored = json.loads((folder / CONFIG_FILE).read_text("utf-8"))
    stored["config"]["hidden_sizes"] = [10**7, 8]  # 32 * 50 * 1e7 weights would be gigabytes
    (folder / CONFIG_FILE).write_text(json.dumps(stored), "utf-8")
    with pytest.raises(InputError, match=r"weights\.safetensors does not fit"):
        codec.load(folder)


def test_shifted_segments_are_the_table_read_from_elsewhere(family: Family) -> None:
    data = Dataset(family.store, family.dataset)
    rows = data.rows("train", ["mix"])
    frames = data.feature.segment_frames
    one = rows.take(np.asarray([0, 0, 1]))
    log_mel, _ = data.shifted(one, np.asarray([0, 5, frames - 1]))
    whole = data.log_mel(rows.take(np.arange(3))).reshape(-1, data.feature.n_mels)
    for k, start in enumerate((0, 5, 2 * frames - 1)):
        assert np.array_equal(log_mel[k], whole[start : start + frames])
    # The last row of a track has no row to go on into.
    last = np.flatnonzero(rows.track != rows.track[0])[0] - 1
    end = rows.take(np.asarray([last]))
    assert np.array_equal(data.shifted(end, np.asarray([7]))[1], data.mfcc(end))
