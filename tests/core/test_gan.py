from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from melodygan_core import codec, latents
from melodygan_core.config import DenseGanConfig
from melodygan_core.errors import InputError, MelodyGANError
from melodygan_core.latents import LatentTable
from melodygan_core.prior import gan
from melodygan_core.prior.conditions import Conditions, condition_index
from melodygan_core.prior.gan.dense import Discriminator, Generator
from melodygan_core.prior.gan.dense_setup import DenseGanSetup
from melodygan_core.prior.gan.losses import discriminator_loss, generator_loss, r1_penalty
from melodygan_core.prior.gan.minibatch_stddev import minibatch_stddev
from melodygan_core.prior.gan.temporal_setup import TemporalGanSetup
from melodygan_core.prior.gan.train import DIVERSITY_RANGE, build_setup
from melodygan_core.storage.store import Artifact, Store
from melodygan_core.training.checkpoint import CONFIG_FILE, WEIGHTS_FILE
from melodygan_dagster.defs.gan import _checks
from tests.core.made import GAN, Family

PLAIN = replace(GAN, condition="none")


def config(base: DenseGanConfig = PLAIN, **changes: Any) -> DenseGanConfig:
    return replace(base, optimizer=replace(base.optimizer, **changes))


def train(family: Family, config: DenseGanConfig, observe: Any = lambda step, figures: None) -> Artifact:
    return gan.train(family.latents, family.autoencoder, family.store, config, observe)


def task(family: Family) -> DenseGanSetup | TemporalGanSetup:
    """What an unconditional training of the family is judged by."""
    decoder = codec.load(Path(str(family.store.at(family.autoencoder.uri))))
    return build_setup(latents.load(family.latents, family.store), decoder, PLAIN, torch.device("cpu"))


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
def test_the_two_players_pull_a_fake_logit_in_opposite_ways(kind: str) -> None:
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


# Models.


@pytest.mark.parametrize("places", [(), (4,)])
def test_the_spread_of_a_batch_tells_a_collapsed_one(places: tuple[int, ...]) -> None:
    # Groups of eight: every fourth of the first 32; within one, half are at -2 and half at 2.
    varied = torch.tensor([-2.0, 2.0]).repeat_interleave(4).repeat(4).reshape(32, 1, *[1] * len(places))
    varied = varied.expand(32, 16, *places)
    assert torch.allclose(minibatch_stddev(torch.cat([varied, varied[:3]])), torch.full((35, 1, *places), 2.0))
    assert torch.allclose(
        minibatch_stddev(varied[:1].expand(32, 16, *places)), torch.full((32, 1, *places), 1e-4)
    )


@pytest.mark.parametrize("n", [1, 3, 8, 11])
def test_batches_of_any_size_are_judged(n: int) -> None:
    logits = Discriminator(GAN, 8, 0)(torch.randn(n, 8))
    assert logits.shape == (n,)
    assert bool(torch.isfinite(logits).all())


def test_a_condition_changes_what_is_made_and_how_it_is_judged() -> None:
    torch.manual_seed(0)
    generator, critic = Generator(GAN, 8, 3), Discriminator(GAN, 8, 3)
    noise = torch.randn(4, GAN.noise_dim)
    made = [generator(noise, torch.full((4,), c)) for c in range(3)]
    judged = [critic(noise, torch.full((4,), c)) for c in range(3)]
    for several in (made, judged):
        assert not torch.allclose(several[0], several[1])
        assert not torch.allclose(several[1], several[2])


def test_an_unknown_condition_lists_the_known_ones() -> None:
    assert condition_index(("fast", "slow"), "slow") == 1
    with pytest.raises(InputError, match="condition is 'loud'; allowed: fast, slow"):
        condition_index(("fast", "slow"), "loud")
    with pytest.raises(InputError, match="trained without a condition"):
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
    return replace(made, **changes)


def test_conditions_come_from_the_table() -> None:
    rng = np.random.default_rng(0)
    every = np.arange(4)
    stems = Conditions("stem", table(), every)
    assert stems.names == ("vocals", "mix")
    drawn = stems.sample(np.array([0, 1, 2, 3]), rng)
    assert drawn is not None
    assert drawn.tolist() == [1, 0, 1, 0]
    tags = Conditions("tag", table(), every)
    assert tags.names == ("fast", "minor", "slow", "untagged")
    many = [tags.sample(np.array([0, 1, 2, 3]), rng) for _ in range(40)]
    seen = [{tags.names[int(d[i])] for d in many if d is not None} for i in range(4)]
    assert seen == [{"slow", "minor"}, {"untagged"}, {"slow"}, {"fast"}]
    none = Conditions("none", table(), every)
    assert none.names == ()
    assert none.sample(np.array([0]), rng) is None


def test_conditions_are_those_that_are_trained_on() -> None:
    # A tag of held-out tracks alone would be a condition that the model knows nothing of.
    assert Conditions("tag", table(), np.array([0, 2])).names == ("minor", "slow")
    assert Conditions("tag", table(), np.array([1, 3])).names == ("fast", "untagged")
    with pytest.raises(InputError, match=r"condition is 'stem', of which there is only \('mix',\)"):
        Conditions("stem", table(), np.array([0, 2]))


# Training.


def chosen(history: list[dict[str, float]]) -> dict[str, float]:
    """What is to be kept: the nearest of the diverse ones, the last one where none is."""
    low, high = DIVERSITY_RANGE
    trained = [row for row in history if row["step"] > 0]
    diverse = [row for row in trained if low <= row["validation/diversity"] <= high]
    return min(diverse, key=lambda row: row["validation/kad"]) if diverse else history[-1]


def test_training_reports_what_it_did(family: Family) -> None:
    metrics = family.gan.metrics
    assert metrics["conditions"] == ["fast", "minor", "slow"]
    assert [row["step"] for row in metrics["history"]] == [0, 10, 20, 30, 40]
    assert metrics["steps"] == 40
    assert metrics["validation/kad"] == chosen(metrics["history"])["validation/kad"]
    assert {"train/adv/disc", "train/adv/gen", "train/adv/r1"} < metrics["history"][1].keys()
    assert family.gan.inputs == {
        "dense/latent_table": family.latents.version,
        "dense/autoencoder_checkpoint": family.autoencoder.version,
    }


def test_the_best_weights_are_kept_not_the_last(own_family: Family) -> None:
    made = train(own_family, config(learning_rate=0.05, warmup_steps=0, eval_every=2, patience=2, max_steps=60))
    history = made.metrics["history"]
    assert made.metrics["best_step"] < made.metrics["steps"] == history[-1]["step"]
    best = chosen(history)
    assert (best["step"], best["validation/kad"]) == (made.metrics["best_step"], made.metrics["validation/kad"])
    store = own_family.store
    again = task(own_family).figures(gan.load(Path(str(store.at(made.uri)))).generator)
    assert again["kad"] == pytest.approx(best["validation/kad"], rel=1e-4)
    assert again["kad"] < history[-1]["validation/kad"]


@pytest.mark.parametrize("loss", ["hinge", "non_saturating"])
def test_a_killed_training_ends_as_an_undisturbed_one(own_family: Family, loss: str) -> None:
    store = own_family.store
    base = replace(PLAIN if loss == "hinge" else GAN, loss=loss)
    disturbed = config(base, checkpoint_every_s=0.0, max_steps=12, eval_every=3)
    straight = train(own_family, disturbed)
    first = weights(store, straight)
    shutil.rmtree(str(store.at(straight.uri)))
    seen: list[int] = []

    def dies(step: int, figures: dict[str, float]) -> None:
        seen.append(step)
        if seen == [3, 6]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(own_family, disturbed, dies)
    torch.manual_seed(4321)
    again = train(own_family, disturbed, dies)
    assert seen == [3, 6, 6, 9, 12]
    second = weights(store, again)
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert again.metrics["validation/kad"] == straight.metrics["validation/kad"]
    assert again.metrics["steps"] == straight.metrics["steps"] == 12


def test_training_twice_is_a_no_op(family: Family) -> None:
    def never(step: int, figures: dict[str, float]) -> None:
        raise AssertionError("trained again")

    assert train(family, GAN, never) == family.gan
    assert list((Path(family.store.root) / "work").glob("dense.gan.*")) == []


# Collapse.


def checks(diversity: float, finite: bool = True) -> dict[str, bool]:
    return {str(c.check_name): c.passed for c in _checks({"diversity": diversity, "finite": finite})}


def test_the_checks_fail_on_collapse_and_on_nan() -> None:
    assert checks(1.0) == {"no_mode_collapse": True, "finite": True}
    assert checks(0.05) == {"no_mode_collapse": False, "finite": True}
    assert checks(9.0)["no_mode_collapse"] is False
    assert checks(float("nan"))["no_mode_collapse"] is False
    assert checks(1.0, finite=False)["finite"] is False


def test_a_training_that_diverges_says_so(own_family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("melodygan_core.metrics.kad", lambda *_: float("nan"))
    with pytest.raises(MelodyGANError, match="the dense GAN diverged by step"):
        train(own_family, config(max_steps=4, eval_every=2))


def test_one_condition_is_none(own_family: Family) -> None:
    with pytest.raises(InputError, match=r"condition is 'stem'.*only \('mix',\); allowed: two and more"):
        train(own_family, replace(GAN, condition="stem"))


def test_a_collapsed_generator_has_a_diversity_that_fails(family: Family) -> None:
    table, judge = latents.load(family.latents, family.store), task(family)

    class Copies(Generator):
        def forward(self, noise: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
            rows = torch.from_numpy(table.latents[table.split == "train", 0])
            return rows[torch.arange(len(noise)) % len(rows)]

    collapsed = Generator(PLAIN, 8, 0)
    torch.nn.init.zeros_(collapsed.head.weight)
    collapsed.head.bias.data.fill_(0.3)
    assert judge.figures(collapsed)["diversity"] == pytest.approx(0, abs=1e-4)
    assert judge.figures(Copies(PLAIN, 8, 0))["diversity"] == pytest.approx(1, abs=0.05)


# Loading.


@pytest.fixture
def folder(own_family: Family) -> Path:
    return Path(str(own_family.store.at(own_family.gan.uri)))


def test_a_loaded_gan_makes_latents_on_the_autoencoders_scale(folder: Path) -> None:
    loaded = gan.load(folder)
    noise = torch.randn(5, GAN.noise_dim)
    with torch.no_grad():
        standardised = loaded.generator(noise, torch.ones(5, dtype=torch.int64))
    assert loaded.conditions == ("fast", "minor", "slow")
    assert torch.allclose(loaded.latents(noise, 1), standardised * loaded.std + loaded.mean)
    assert loaded.config == GAN


@pytest.mark.parametrize(
    "damage",
    [{"config": {"loss": "x"}}, {"mean": "abc"}, {"mean": [0.0]}, {"conditions": ["a"]}, {"conditions": 5}],
)
def test_a_damaged_config_names_the_file(folder: Path, damage: dict[str, Any]) -> None:
    stored = json.loads((folder / CONFIG_FILE).read_text("utf-8"))
    (folder / CONFIG_FILE).write_text(json.dumps(stored | damage), "utf-8")
    with pytest.raises(InputError, match=r"config\.json|weights\.safetensors"):
        gan.load(folder)
