"""The dense GAN: losses, networks, conditions, training, collapse and loading."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from melodygan_core import codec, latents, prior
from melodygan_core.codec.dense import DenseCodec
from melodygan_core.config import DenseGanConfig, replace
from melodygan_core.errors import InputError, MelodyGANError
from melodygan_core.latents import LatentTable
from melodygan_core.prior import Health, LatentSpace, condition_index
from melodygan_core.prior.conditions import Conditions
from melodygan_core.prior.gan import HEALTHY_RANGE, DenseGan
from melodygan_core.prior.gan.dense import Discriminator, Generator
from melodygan_core.prior.gan.dense_setup import DenseGanSetup
from melodygan_core.prior.gan.layers import minibatch_stddev, truncated_noise
from melodygan_core.prior.gan.losses import discriminator_loss, generator_loss, r1_penalty
from melodygan_core.prior.gan.task import DIVERSITY_RANGE
from melodygan_core.storage import ARTIFACT_FILE, Artifact, Store
from melodygan_core.training import MetricsCallback, ignore
from melodygan_core.training.checkpoint import CONFIG_FILE, WEIGHTS_FILE
from tests.core.made import DENSE_GAN, Trained

PLAIN = replace(DENSE_GAN, condition="none")


def config(base: DenseGanConfig = PLAIN, **changes: Any) -> DenseGanConfig:
    """A config with other settings of the optimizer."""
    return replace(base, optimizer=replace(base.optimizer, **changes))


def train(trained: Trained, config: DenseGanConfig, callback: MetricsCallback = ignore) -> Artifact:
    return prior.train("gan", trained.latents, trained.codec, trained.store, config, callback)


def setup(trained: Trained) -> DenseGanSetup:
    """What an unconditional training over the latents is validated with."""
    decoder = codec.load(Path(str(trained.store.at(trained.codec.uri))))
    assert isinstance(decoder, DenseCodec)
    table = latents.load(trained.latents, trained.store)
    return DenseGanSetup(table, decoder, PLAIN, torch.device("cpu"))


def load(folder: Path) -> DenseGan:
    made = prior.load(folder)
    assert isinstance(made, DenseGan)
    return made


def weights(store: Store, made: Artifact) -> dict[str, torch.Tensor]:
    return load_file(str(store.at(made.uri) / WEIGHTS_FILE))


# Losses.


def test_losses_on_values_by_hand() -> None:
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-2.0, 0.0, 1.0])
    assert float(discriminator_loss(real, fake, "hinge")) == pytest.approx((0 + 0.5 + 2) / 3 + (0 + 1 + 2) / 3)
    assert float(generator_loss(fake, "hinge")) == pytest.approx(1 / 3)

    def softplus(x: float) -> float:
        return math.log1p(math.exp(x))

    expected = sum(map(softplus, (-2, -0.5, 1))) / 3 + sum(map(softplus, (-2, 0, 1))) / 3
    assert float(discriminator_loss(real, fake, "non_saturating")) == pytest.approx(expected)
    assert float(generator_loss(fake, "non_saturating")) == pytest.approx(sum(map(softplus, (2, 0, -1))) / 3)


@pytest.mark.parametrize("kind", ["hinge", "non_saturating"])
def test_generator_and_discriminator_have_opposite_gradients_at_a_fake_logit(kind: str) -> None:
    fake = torch.zeros(1, requires_grad=True)
    (for_disc,) = torch.autograd.grad(discriminator_loss(torch.zeros(1), fake, kind), fake)
    (for_gen,) = torch.autograd.grad(generator_loss(fake, kind), fake)
    assert float(for_disc) > 0 > float(for_gen)


def test_r1_of_a_linear_discriminator_is_half_its_squared_norm() -> None:
    weight = torch.tensor([3.0, -4.0], requires_grad=True)
    real = torch.randn(5, 2, requires_grad=True)
    penalty = r1_penalty(real @ weight, real)
    assert float(penalty.detach()) == pytest.approx(12.5)
    penalty.backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == pytest.approx([3.0, -4.0])


# Networks.


@pytest.mark.parametrize("positions", [(), (4,)])
def test_minibatch_stddev_is_the_deviation_over_groups(positions: tuple[int, ...]) -> None:
    # Groups of eight: every fourth of the first 32; within one, half are at -2 and half at 2.
    varied = torch.tensor([-2.0, 2.0]).repeat_interleave(4).repeat(4).reshape(32, 1, *[1] * len(positions))
    varied = varied.expand(32, 16, *positions)
    assert torch.allclose(
        minibatch_stddev(torch.cat([varied, varied[:3]])), torch.full((35, 1, *positions), 2.0)
    )
    assert torch.allclose(
        minibatch_stddev(varied[:1].expand(32, 16, *positions)), torch.full((32, 1, *positions), 1e-4)
    )


@pytest.mark.parametrize("n", [1, 3, 8, 11])
def test_the_discriminator_takes_batches_of_any_size(n: int) -> None:
    logits = Discriminator(DENSE_GAN, 8, 0)(torch.randn(n, 8))
    assert logits.shape == (n,)
    assert bool(torch.isfinite(logits).all())


def test_a_condition_changes_latents_and_logits() -> None:
    torch.manual_seed(0)
    generator, discriminator = Generator(DENSE_GAN, 8, 3), Discriminator(DENSE_GAN, 8, 3)
    noise = torch.randn(4, DENSE_GAN.noise_dim)
    latents = [generator(noise, torch.full((4,), c)) for c in range(3)]
    logits = [discriminator(noise, torch.full((4,), c)) for c in range(3)]
    for outputs in (latents, logits):
        assert not torch.allclose(outputs[0], outputs[1])
        assert not torch.allclose(outputs[1], outputs[2])


def test_truncated_noise_is_normal_noise_within_its_limit() -> None:
    plain, limited = (truncated_noise((4000,), limit, torch.Generator().manual_seed(0)) for limit in (0.0, 1.5))
    assert torch.equal(plain, torch.randn(4000, generator=torch.Generator().manual_seed(0)))
    inside = plain.abs() <= 1.5
    assert 0 < int((~inside).sum()) < 1000 and torch.equal(limited[inside], plain[inside])
    assert float(limited.abs().max()) <= 1.5 and abs(float(limited.mean())) < 0.05


# Conditions.


def test_an_unknown_condition_lists_the_known_ones() -> None:
    assert condition_index(("fast", "slow"), "slow") == 1
    with pytest.raises(InputError, match="condition must be fast, slow, got 'loud'"):
        condition_index(("fast", "slow"), "loud")
    with pytest.raises(InputError, match="trained without conditions"):
        condition_index((), "slow")


def table(**changes: Any) -> LatentTable:
    made = LatentTable(
        latents=np.zeros((4, 1, 2), np.float32),
        split=np.array(["train"] * 4),
        stem=np.array(["mix", "vocals", "mix", "vocals"]),
        index=np.zeros(4, np.int64),
        track_id=np.array(["a", "a", "b", "b"]),
        tags=[("slow", "minor"), (), ("slow",), ("fast",)],
        mean=np.zeros(2, np.float32),
        std=np.ones(2, np.float32),
    )
    return dataclasses.replace(made, **changes)


def test_conditions_are_the_stems_or_tags_of_the_table() -> None:
    rng = np.random.default_rng(0)
    every = np.arange(4)
    stems = Conditions("stem", table(), every)
    assert stems.names == ("vocals", "mix")
    sampled = stems.sample(np.array([0, 1, 2, 3]), rng)
    assert sampled is not None
    assert sampled.tolist() == [1, 0, 1, 0]
    tags = Conditions("tag", table(), every)
    assert tags.names == ("fast", "minor", "slow", "untagged")
    many = [tags.sample(np.array([0, 1, 2, 3]), rng) for _ in range(40)]
    seen = [{tags.names[int(d[i])] for d in many if d is not None} for i in range(4)]
    assert seen == [{"slow", "minor"}, {"untagged"}, {"slow"}, {"fast"}]
    none = Conditions("none", table(), every)
    assert none.names == ()
    assert none.sample(np.array([0]), rng) is None


def test_conditions_are_those_of_the_training_rows() -> None:
    # A tag of held-out tracks alone would be a condition that the model has never seen.
    assert Conditions("tag", table(), np.array([0, 2])).names == ("minor", "slow")
    assert Conditions("tag", table(), np.array([1, 3])).names == ("fast", "untagged")
    with pytest.raises(InputError, match=r"condition .*two.*'stem'.*\('mix',\)"):
        Conditions("stem", table(), np.array([0, 2]))


# Training.


def expected_best(history: list[dict[str, float]]) -> dict[str, float]:
    """The row to keep: the lowest KAD of the diverse ones, the last row where none is diverse."""
    low, high = DIVERSITY_RANGE
    trained = [row for row in history if row["step"] > 0]
    diverse = [row for row in trained if low <= row["validation/diversity"] <= high]
    return min(diverse, key=lambda row: row["validation/kad"]) if diverse else history[-1]


def test_training_reports_history_conditions_and_inputs(dense: Trained) -> None:
    metrics = dense.prior.metrics
    assert metrics["conditions"] == ["fast", "minor", "slow"]
    assert [row["step"] for row in metrics["history"]] == [0, 10, 20, 30, 40]
    assert metrics["steps"] == 40
    assert metrics["validation/kad"] == expected_best(metrics["history"])["validation/kad"]
    assert {"train/adv/disc", "train/adv/gen", "train/adv/r1"} < metrics["history"][1].keys()
    assert dense.prior.inputs == {
        "dense/latent_table": dense.latents.version,
        "dense/autoencoder_checkpoint": dense.codec.version,
    }


def test_the_best_weights_are_kept_not_the_last(own_dense: Trained) -> None:
    made = train(own_dense, config(learning_rate=0.05, warmup_steps=0, eval_every=2, patience=2, max_steps=60))
    history = made.metrics["history"]
    assert made.metrics["best_step"] < made.metrics["steps"] == history[-1]["step"]
    best = expected_best(history)
    assert (best["step"], best["validation/kad"]) == (made.metrics["best_step"], made.metrics["validation/kad"])
    store = own_dense.store
    again = setup(own_dense).figures(load(Path(str(store.at(made.uri)))).generator)
    assert again["kad"] == pytest.approx(best["validation/kad"], rel=1e-4)
    assert again["kad"] < history[-1]["validation/kad"]


@pytest.mark.parametrize("loss", ["hinge", "non_saturating"])
def test_a_killed_training_ends_as_an_undisturbed_one(own_dense: Trained, loss: str) -> None:
    store = own_dense.store
    base = replace(PLAIN if loss == "hinge" else DENSE_GAN, loss=loss)
    disturbed = config(base, checkpoint_every_s=0.0, max_steps=12, eval_every=3)
    straight = train(own_dense, disturbed)
    first = weights(store, straight)
    shutil.rmtree(str(store.at(straight.uri)))
    seen: list[int] = []

    def interrupt(step: int, figures: dict[str, float]) -> None:
        seen.append(step)
        if seen == [3, 6]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(own_dense, disturbed, interrupt)
    torch.manual_seed(4321)
    again = train(own_dense, disturbed, interrupt)
    assert seen == [3, 6, 6, 9, 12]
    second = weights(store, again)
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert again.metrics["validation/kad"] == straight.metrics["validation/kad"]
    assert again.metrics["steps"] == straight.metrics["steps"] == 12


def test_training_twice_is_a_no_op_and_deletes_the_training_state(dense: Trained) -> None:
    def never(step: int, figures: dict[str, float]) -> None:
        raise AssertionError("trained again")

    assert train(dense, DENSE_GAN, never) == dense.prior
    assert list((Path(dense.store.root) / "work").glob("training/dense/gan/*")) == []


# Collapse.


@pytest.mark.parametrize(
    ("diversity", "collapsed"),
    [(1.0, False), (0.4, False), (1.8, False), (0.05, True), (9.0, True), (float("nan"), True)],
)
def test_a_prior_outside_the_healthy_range_has_collapsed(diversity: float, collapsed: bool) -> None:
    assert Health(finite=True, diversity=diversity, allowed=HEALTHY_RANGE).collapsed is collapsed


def test_the_check_uses_other_noise_than_the_validation(dense: Trained) -> None:
    health = prior.check_collapse(dense.prior, dense.latents, dense.codec, dense.store)
    history = dense.prior.metrics["history"]
    assert health.finite and health.allowed == HEALTHY_RANGE
    assert (
        health.diversity == prior.check_collapse(dense.prior, dense.latents, dense.codec, dense.store).diversity
    )
    assert health.diversity not in [row["validation/diversity"] for row in history]
    # Of the same weights, and only the noise differs.
    assert health.diversity == pytest.approx(dense.prior.metrics["validation/diversity"], rel=0.3)


def test_a_training_that_diverges_is_an_error(own_dense: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("melodygan_core.metrics.kad", lambda *_: float("nan"))
    with pytest.raises(MelodyGANError, match="the dense gan diverged by step"):
        train(own_dense, config(max_steps=4, eval_every=2))


def test_a_single_condition_is_refused(own_dense: Trained) -> None:
    with pytest.raises(InputError, match=r"condition .*two.*'stem'.*\('mix',\)"):
        train(own_dense, replace(DENSE_GAN, condition="stem"))


def test_a_collapsed_generator_has_no_diversity(dense: Trained) -> None:
    table, validation = latents.load(dense.latents, dense.store), setup(dense)

    class Copies(Generator):
        def forward(self, noise: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
            rows = torch.from_numpy(table.latents[table.split == "train", 0])
            return rows[torch.arange(len(noise)) % len(rows)]

    collapsed = Generator(PLAIN, 8, 0)
    torch.nn.init.zeros_(collapsed.head.weight)
    collapsed.head.bias.data.fill_(0.3)
    assert validation.figures(collapsed)["diversity"] == pytest.approx(0, abs=1e-4)
    assert validation.figures(Copies(PLAIN, 8, 0))["diversity"] == pytest.approx(1, abs=0.05)


# Loading and sampling.


@pytest.fixture
def folder(own_dense: Trained) -> Path:
    """A checkpoint that a test may change."""
    return Path(str(own_dense.store.at(own_dense.prior.uri)))


def test_a_loaded_prior_samples_on_the_codec_s_scale(folder: Path, dense: Trained) -> None:
    loaded = load(folder)
    table = latents.load(dense.latents, dense.store)
    assert not loaded.training
    assert (loaded.config, loaded.conditions) == (DENSE_GAN, ("fast", "minor", "slow"))
    assert np.array_equal(loaded.latent_mean, table.mean) and np.array_equal(loaded.latent_std, table.std)
    assert (loaded.latent_dim, loaded.border_tokens) == (8, 0)
    noise = truncated_noise((5, DENSE_GAN.noise_dim), 2.0, torch.Generator().manual_seed(7))
    with torch.no_grad():
        standardised = loaded.generator(noise, torch.ones(5, dtype=torch.int64))
    sampled = loaded.sample(5, 7, 1, 2.0)
    assert torch.allclose(sampled, standardised * loaded.latent_std + loaded.latent_mean)
    assert not torch.allclose(sampled, loaded.sample(5, 7, 0, 2.0))


@pytest.mark.parametrize(
    "damage",
    [
        {"codec": "other"},
        {"codec": "temporal"},
        {"prior": "other"},
        {"prior": None},
        {"config": {"loss": "x"}},
        {"mean": "abc"},
        {"mean": [0.0]},
        {"conditions": ["a"]},
        {"conditions": 5},
    ],
)
def test_a_damaged_config_names_the_file(folder: Path, damage: dict[str, Any]) -> None:
    (folder / ARTIFACT_FILE).unlink()
    stored = json.loads((folder / CONFIG_FILE).read_text("utf-8"))
    (folder / CONFIG_FILE).write_text(json.dumps(stored | damage), "utf-8")
    with pytest.raises(InputError, match=r"config\.json|weights\.safetensors"):
        prior.load(folder)


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ([0.0, 0.0], [1.0]),
        ([0.0, 0.0], [1.0, 0.0]),
        ([0.0, 0.0], [1.0, -1.0]),
        ([0.0, float("nan")], [1.0, 1.0]),
        ([0.0, 0.0], [1.0, float("inf")]),
        ([[0.0, 0.0]], [[1.0, 1.0]]),
    ],
)
def test_statistics_of_a_latent_space_are_finite_and_of_one_length(mean: Any, std: Any) -> None:
    with pytest.raises(InputError, match=r"mean and std must be lists|(mean|std) must be (finite|above 0)"):
        LatentSpace(torch.tensor(mean), torch.tensor(std))
    assert LatentSpace(torch.zeros(2), torch.ones(2)).latent_dim == 2
