"""The dense codec: its mathematics, training and loading."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from melodygan_core import codec
from melodygan_core.codec.dense import DenseCodec
from melodygan_core.codec.dense.model import OVERLAP, errors, pca
from melodygan_core.codec.dense.task import vectors
from melodygan_core.config import SPLITS, DenseCodecConfig, FeatureConfig, replace
from melodygan_core.dataset import Dataset, SpanDataset, Statistics
from melodygan_core.errors import InputError
from melodygan_core.storage import ARTIFACT_FILE, Artifact, Store
from melodygan_core.training import MetricsCallback, ignore
from melodygan_core.training.checkpoint import CONFIG_FILE, WEIGHTS_FILE, load_config, save_weights
from tests.core.made import DENSE_CODEC, FEATURE, Trained

SMALL = FeatureConfig(
    sample_rate=22_050,
    n_fft=1024,
    hop_length=256,
    bands_up_to_hz=300,
    upper_bands=9,
    n_mels=6,
    n_mfcc=4,
    segment_frames=16,
)


def config(**changes: Any) -> DenseCodecConfig:
    """DENSE_CODEC with other settings of the optimizer."""
    return replace(DENSE_CODEC, optimizer=replace(DENSE_CODEC.optimizer, **changes))


def train(trained: Trained, config: DenseCodecConfig, callback: MetricsCallback = ignore) -> Artifact:
    return codec.train("dense", trained.dataset, trained.store, config, callback)


def weights(store: Store, made: Artifact) -> dict[str, torch.Tensor]:
    return load_file(str(store.at(made.uri) / WEIGHTS_FILE))


def model(**changes: Any) -> DenseCodec:
    torch.manual_seed(0)
    return DenseCodec(replace(DenseCodecConfig(time_bins=4, hidden_sizes=(16, 5)), **changes), SMALL)


def load(folder: Path) -> DenseCodec:
    made = codec.load(folder)
    assert isinstance(made, DenseCodec)
    return made


def statistics() -> Statistics:
    rng = np.random.default_rng(0)
    parts = [rng.uniform(1, 2, n).astype(np.float32) for n in (6, 6, 4, 4)]
    return Statistics({"log_mel": parts[0], "mfcc": parts[2]}, {"log_mel": parts[1], "mfcc": parts[3]})


# Mathematics.


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


def test_the_codec_starts_as_pca() -> None:
    x = torch.randn(64, 40, generator=torch.Generator().manual_seed(1)) * torch.logspace(0, -1, 40) + 3
    start = model()
    mean, components = pca([x], 5)
    start.initialise(mean, components, statistics())
    with torch.no_grad():
        latents = start.encode_vectors(x)
        assert torch.allclose(start(x), mean + (x - mean) @ components.T @ components, atol=1e-3)
        expected = (x - mean) @ components.T @ components @ (x - mean).T
        assert torch.allclose(latents @ latents.T, expected, atol=1e-2)


def test_the_latent_must_be_smaller_than_the_vector() -> None:
    with pytest.raises(InputError, match=r"latent_dim .*vector's 10 .*1 time_bins.*10$"):
        model(time_bins=1, hidden_sizes=(10,))
    assert model(time_bins=1, hidden_sizes=(9,)).vector_dim == 10


def test_the_log_mel_of_a_constant_vector_is_constant() -> None:
    made, scale = model(), statistics()
    made.initialise(*pca([torch.randn(8, 40)], 5), scale)
    vector = torch.cat([torch.full((2, 24), 0.5), torch.randn(2, 16)], dim=1)
    log_mel = made.log_mel(vector)
    expected = torch.from_numpy(0.5 * scale.std["log_mel"] + scale.mean["log_mel"])
    assert log_mel.shape == (2, 6, 16)
    assert torch.allclose(log_mel, expected[None, :, None].expand(2, 6, 16), atol=1e-6)


def test_the_log_mel_is_interpolated_between_the_centres_of_the_bins() -> None:
    made = model()
    vector = torch.zeros(1, 40)
    vector[0, :24] = torch.arange(4.0).repeat_interleave(6)
    # Bins of four frames have their centres at 1.5, 5.5, ...: straight lines between them, flat outside.
    line = made.log_mel(vector)[0, 0]
    assert torch.allclose(line, ((torch.arange(16) - 1.5) / 4).clamp(0, 3), atol=1e-6)


# The interface of a codec.


def features(segments: int) -> dict[str, torch.Tensor]:
    """Random log-mel and MFCC (2, frames, bands) of so many segments of SMALL."""
    rng = torch.Generator().manual_seed(3)
    bands = torch.randn(2, segments * SMALL.segment_frames, SMALL.n_mels + SMALL.n_mfcc, generator=rng)
    return {"log_mel": bands[..., : SMALL.n_mels], "mfcc": bands[..., SMALL.n_mels :]}


def test_one_latent_stands_for_one_segment() -> None:
    made = model().eval()
    parts = features(3)
    with torch.no_grad():
        latents = made.encode(parts)
        alone = made.encode({name: x[:, 16:32] for name, x in parts.items()})
        assert latents.shape == (2, 3, 5) and made.token_frames == 16
        assert torch.allclose(latents[:, 1:2], alone, atol=1e-6)
        assert made.decode_targets(latents).shape == made.targets(parts).shape == (2, 3, 40)
        assert torch.equal(made.reconstruct(parts).spectrum, made.decode(latents).spectrum)
        assert made.decode(latents).spectrum.shape == (2, 48, SMALL.n_bands)
        assert made.decode(latents).stereo is None
        assert torch.equal(made.feature_vectors(latents[0]), made.decode_targets(latents[0]))
    assert made.latent_rate == pytest.approx(SMALL.frame_rate / 16)


@pytest.mark.parametrize("frames", [0, 15, 17])
def test_frames_that_are_not_whole_segments_are_refused(frames: int) -> None:
    with pytest.raises(InputError, match=rf"frames .*segment_frames = 16.*{frames}"):
        model().targets({"log_mel": torch.zeros(1, frames, 6), "mfcc": torch.zeros(1, frames, 4)})


@pytest.mark.parametrize("frames", [1, 15, 16, 17, 30, 100])
def test_a_piece_has_the_frames_that_are_asked_for(frames: int) -> None:
    made = model().eval()
    tokens, step = made.tokens_for(frames), 16 - int(16 * OVERLAP)
    assert 16 + (tokens - 1) * step >= frames > 16 + (tokens - 2) * step or tokens == 1
    with torch.no_grad():
        piece = made.decode_piece(torch.randn(tokens, 5), frames).spectrum
    assert piece.shape == (1, frames, SMALL.n_bands)


def test_neighbouring_segments_of_a_piece_cross_fade() -> None:
    made = model().eval()
    latents = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first, second = made.decode(latents[None]).spectrum[0].exp().split(16)
        piece = made.decode_piece(latents, 30).spectrum[0].exp()
    assert torch.allclose(piece[:14], first[:14], rtol=1e-4)
    assert torch.allclose(piece[16:], second[2:], rtol=1e-4)
    for k, weight in ((0, 1 / 3), (1, 2 / 3)):
        expected = (1 - weight) * first[14 + k] + weight * second[k]
        assert torch.allclose(piece[14 + k], expected, rtol=1e-4)


def test_targets_are_the_vectors_that_it_is_trained_on(dense: Trained) -> None:
    data, made = Dataset(dense.store, dense.dataset), load(Path(str(dense.store.at(dense.codec.uri))))
    (expected,) = vectors(data, "validation", DENSE_CODEC).blocks()
    spans = SpanDataset(data, "validation", ["mix"])
    found = [
        made.targets({name: torch.from_numpy(spans.read(s, name))[None] for name in made.columns})[0]
        for s in spans.all
    ]
    assert torch.equal(torch.cat(found), expected)


def test_a_split_is_encoded_in_the_order_of_its_rows(dense: Trained) -> None:
    data, made = Dataset(dense.store, dense.dataset), load(Path(str(dense.store.at(dense.codec.uri))))
    for split in SPLITS:
        found = np.concatenate(list(made.encode_split(data, split)))
        with torch.no_grad():
            blocks = [made.encode_vectors(block) for block in vectors(data, split, DENSE_CODEC).blocks()]
        np.testing.assert_allclose(found[:, 0], torch.cat(blocks).numpy(), rtol=1e-5, atol=1e-5)


# Training.


def test_an_untrained_codec_scores_as_pca(own_dense: Trained) -> None:
    metrics = train(own_dense, config(max_steps=1, learning_rate=1e-12, warmup_steps=0)).metrics
    assert metrics["test/explained_variance"] == pytest.approx(metrics["test/explained_variance_pca"], abs=1e-4)
    assert 0.3 < metrics["test/explained_variance_pca"] < 1


def test_training_reports_history_sizes_and_inputs(dense: Trained) -> None:
    metrics = dense.codec.metrics
    losses = [row["validation/loss"] for row in metrics["history"]]
    assert [row["step"] for row in metrics["history"]] == [0, 10, 20, 30, 40]
    assert metrics["validation/loss"] == min(losses)
    assert metrics["steps"] == 40
    assert (metrics["vector_dim"], metrics["latent_dim"]) == (200, 8)
    assert dense.codec.inputs == {"feature_table": dense.dataset.version}
    assert (dense.codec.name, dense.codec.group) == ("dense/autoencoder_checkpoint", "dense")
    assert dense.codec.metrics["parameters"] == sum(
        p.numel() for p in load(Path(str(dense.store.at(dense.codec.uri)))).parameters()
    )


def test_training_improves_on_the_pca_that_it_starts_from(own_dense: Trained) -> None:
    # Of six seeds the least gain was a tenth.
    metrics = train(own_dense, config(learning_rate=3e-3, max_steps=120, eval_every=30)).metrics
    assert metrics["validation/loss"] < 0.95 * metrics["history"][0]["validation/loss"]


def test_the_best_weights_are_kept_not_the_last(own_dense: Trained) -> None:
    # A rate that rises until it ruins the model: the first step does the least harm.
    ruin = config(learning_rate=5.0, warmup_steps=50, max_steps=9, eval_every=1, patience=3)
    made = train(own_dense, ruin)
    assert made.metrics["best_step"] == 1
    assert made.metrics["steps"] == 4
    loaded = load(Path(str(own_dense.store.at(made.uri))))
    data = vectors(Dataset(own_dense.store, own_dense.dataset), "validation", ruin)
    with torch.no_grad():
        (every,) = data.blocks()
        loss = float((loaded(every) - every).square().mean())
    assert loss == pytest.approx(made.metrics["validation/loss"], rel=1e-5)
    assert loss < 0.5 * made.metrics["history"][-1]["validation/loss"]


def test_a_killed_training_ends_as_an_undisturbed_one(own_dense: Trained) -> None:
    store = own_dense.store
    disturbed = config(checkpoint_every_s=0.0, max_steps=20, eval_every=5)
    straight = train(own_dense, disturbed)
    first = weights(store, straight)
    shutil.rmtree(str(store.at(straight.uri)))
    seen: list[int] = []

    def interrupt(step: int, figures: dict[str, float]) -> None:
        seen.append(step)
        if seen == [5, 10]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(own_dense, disturbed, interrupt)
    assert not store.at(straight.uri).exists()
    torch.manual_seed(12345)
    again = train(own_dense, disturbed, interrupt)
    # The ninth step was the last one saved: the tenth is done again, the fifth is not.
    assert seen == [5, 10, 10, 15, 20]
    second = weights(store, again)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert again.metrics["test/explained_variance"] == straight.metrics["test/explained_variance"]
    assert [r["validation/loss"] for r in again.metrics["history"]] == [
        r["validation/loss"] for r in straight.metrics["history"]
    ]


def test_a_training_killed_while_its_weights_are_saved_resumes_after_its_last_step(
    own_dense: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    disturbed = config(checkpoint_every_s=0.0, max_steps=10)

    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(sys.modules["melodygan_core.codec.train"], "save_weights", interrupt)
        train(own_dense, disturbed)
    made = train(own_dense, disturbed)
    assert made.metrics["steps"] == 10
    assert [row["step"] for row in made.metrics["history"]] == [0, 10]


def test_another_seed_makes_another_model(own_dense: Trained) -> None:
    key = "model.encoder.0.weight"
    one, other = (weights(own_dense.store, m)[key] for m in (own_dense.codec, train(own_dense, config(seed=1))))
    assert not torch.equal(one, other)


def test_training_twice_is_a_no_op_and_deletes_the_training_state(dense: Trained) -> None:
    def never(step: int, figures: dict[str, float]) -> None:
        raise AssertionError("trained again")

    assert train(dense, DENSE_CODEC, never) == dense.codec
    assert list((Path(dense.store.root) / "work").glob("training/dense/autoencoder/*")) == []


def test_bins_that_do_not_divide_a_segment_are_refused(dense: Trained) -> None:
    with pytest.raises(InputError, match=r"time_bins .*segment_frames = 32"):
        train(dense, replace(DENSE_CODEC, time_bins=5))


# Loading.


@pytest.fixture
def folder(own_dense: Trained) -> Path:
    """A checkpoint that a test may change."""
    return Path(str(own_dense.store.at(own_dense.codec.uri)))


def test_a_loaded_model_gives_the_same_outputs(folder: Path, tmp_path: Path) -> None:
    one = load(folder)
    (tmp_path / "copy").mkdir()
    save_weights(tmp_path / "copy", {"model": one}, load_config(folder))
    two = load(tmp_path / "copy")
    x = torch.randn(3, one.vector_dim)
    assert not one.training
    assert (one.config, one.feature, one.stems) == (DENSE_CODEC, FEATURE, ("mix",))
    assert torch.equal(one(x), two(x))
    assert torch.equal(one.log_mel(x), two.log_mel(x))


@pytest.mark.parametrize(
    "damage",
    [
        {"codec": "other"},
        {"codec": "temporal"},
        {"codec": None},
        {"config": {"hidden_sizes": 5}},
        {"config": {"hidden_sizes": [8, 8], "time_bins": 4}},
        {"config": {"layers": 3}},
        {"config": None},
        {"feature": {"n_mels": -1}},
        {"feature": {"n_fft": "1024"}},
    ],
)
def test_a_damaged_config_names_the_file(folder: Path, damage: dict[str, Any]) -> None:
    (folder / ARTIFACT_FILE).unlink()
    stored = json.loads((folder / CONFIG_FILE).read_text("utf-8"))
    (folder / CONFIG_FILE).write_text(json.dumps(stored | damage), "utf-8")
    with pytest.raises(InputError, match=r"config\.json|weights\.safetensors"):
        codec.load(folder)


def test_damaged_weights_name_the_file(folder: Path) -> None:
    (folder / ARTIFACT_FILE).unlink()
    data = (folder / WEIGHTS_FILE).read_bytes()
    (folder / WEIGHTS_FILE).write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"weights\.safetensors does not fit"):
        codec.load(folder)


def test_a_config_of_huge_layers_is_refused_before_it_is_built(folder: Path) -> None:
    (folder / ARTIFACT_FILE).unlink()
    stored = json.loads((folder / CONFIG_FILE).read_text("utf-8"))
    stored["config"]["hidden_sizes"] = [32_768] * 30 + [8]  # 30 * 32768^2 weights would be 120 gigabytes
    (folder / CONFIG_FILE).write_text(json.dumps(stored), "utf-8")
    with pytest.raises(InputError, match=r"weights\.safetensors does not fit"):
        codec.load(folder)


# Training batches.


def test_shifted_segments_are_the_table_read_from_another_frame(dense: Trained) -> None:
    data = Dataset(dense.store, dense.dataset)
    rows = data.rows("train", ["mix"])
    frames = data.feature.segment_frames
    one = rows.take(np.asarray([0, 0, 1]))
    log_mel, _ = data.shifted(one, np.asarray([0, 5, frames - 1]))
    spans = data.column(rows.take(np.arange(3)), "log_mel").reshape(-1, data.feature.n_mels)
    for k, start in enumerate((0, 5, 2 * frames - 1)):
        assert np.array_equal(log_mel[k], spans[start : start + frames])
    # The last row of a track has no row to continue into.
    last = np.flatnonzero(rows.track != rows.track[0])[0] - 1
    end = rows.take(np.asarray([last]))
    assert np.array_equal(data.shifted(end, np.asarray([7]))[1], data.column(end, "mfcc"))
