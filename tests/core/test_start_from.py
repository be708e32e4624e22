"""Trainings that begin with the weights of a release: the same function, another id, and its provenance."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from melodygan_core import catalogue, codec, generation, latents, prior, release, vocoder
from melodygan_core.codec import refiner
from melodygan_core.codec.dense import KIND as DENSE
from melodygan_core.codec.refiner.task import RefinerTask
from melodygan_core.config import VERSIONS, RefinerConfig, config_id, from_dict, replace, training_id
from melodygan_core.config.config import Config
from melodygan_core.dataset import Dataset
from melodygan_core.errors import InputError
from melodygan_core.evaluation.distances import measurement_setup
from melodygan_core.maintenance import erasure
from melodygan_core.prior.conditions import compared, known_rows
from melodygan_core.prior.flow.network import VelocityNetwork
from melodygan_core.prior.flow.start import started_state
from melodygan_core.prior.gan import TEMPORAL
from melodygan_core.release import starting
from melodygan_core.release.starting import StartingRelease
from melodygan_core.services.starting import open_part, open_start, resolve_start
from melodygan_core.storage import ARTIFACT_FILE, Artifact, Store
from melodygan_core.storage.start import FILE
from tests.conftest import copied
from tests.core.made import (
    DENSE_CODEC,
    EVALUATION,
    FEATURE,
    GENERATION,
    TEMPORAL_CODEC,
    TEMPORAL_FLOW,
    TEMPORAL_GAN,
    VOCODER,
    Trained,
    artifacts_of,
    track,
)

pytestmark = pytest.mark.slow

OLD = Path(__file__).parents[1] / "data" / "release-0.1-dense"
# One step that changes nothing that is seen.
STILL = {"max_steps": 1, "learning_rate": 1e-12, "warmup_steps": 0, "eval_every": 1, "weight_decay": 0.0}
FLOW = replace(TEMPORAL_FLOW, condition="tag")
LIMITS = ("model.whitening.lowest", "model.whitening.highest")


def still(config: Any) -> Any:
    """A config whose training leaves the weights as they are."""
    return replace(config, optimizer=replace(config.optimizer, **STILL))


def folder_of(store: Store, pipeline: str) -> Path:
    """The folder of the release in use."""
    made = store.record(f"{pipeline}/release")
    assert made is not None
    return Path(str(store.at(made.uri)))


def local(store: Store, made: Artifact) -> Path:
    """The folder of an artifact."""
    return Path(str(store.at(made.uri)))


def same_weights(first: torch.nn.Module, second: torch.nn.Module, *, but: tuple[str, ...] = ()) -> None:
    """Asserts that two modules have equal state, apart from some tensors."""
    pairs = zip(first.state_dict().items(), second.state_dict().items(), strict=True)
    for (name, value), (other, expected) in pairs:
        assert name == other
        if name not in but:
            assert torch.allclose(value, expected, atol=1e-6), name


@pytest.fixture(scope="module")
def begun(flow_store: Store) -> StartingRelease:
    """A release of `temporal_flow`, conditioned on tags."""
    return starting.read(folder_of(flow_store, "temporal_flow"))


@pytest.fixture
def other(flow_store: Store, tmp_path: Path) -> Path:
    """A copy of it that was trained on another track."""
    folder = tmp_path / "other"
    shutil.copytree(
        folder_of(flow_store, "temporal_flow"), folder, ignore=shutil.ignore_patterns(ARTIFACT_FILE)
    )
    manifest = json.loads((folder / release.FILE).read_text("utf-8"))
    row = {"title": "Theirs", "url": "https://other.example/1", "licence": "CC-BY-4.0", "rights": "licensed"}
    manifest["sources"] |= {"tracks": [{"track_id": "other-1", **row}], "licences": ["CC-BY-4.0"]}
    (folder / release.FILE).write_text(json.dumps(manifest), "utf-8")
    return folder


@pytest.fixture
def own(dense: Trained, tmp_path: Path) -> Trained:
    """Another store, of the same features."""
    return copied(dense, tmp_path / "own")


# What is taken over.


def test_every_part_begins_with_the_weights_of_the_release(own: Trained, begun: StartingRelease) -> None:
    store, data = own.store, own.dataset
    model = codec.train("temporal", data, store, still(TEMPORAL_CODEC), given=begun.part("codec"))
    same_weights(codec.load(local(store, model)), codec.load(begun.part("codec").folder))
    sound = vocoder.train(data, store, still(VOCODER), given=begun.part("vocoder"))
    same_weights(vocoder.load(local(store, sound)), vocoder.load(begun.part("vocoder").folder))

    table = latents.encode(model, data, store)
    made = prior.train("flow", table, model, store, still(FLOW), given=begun.part("prior"))
    made_prior, theirs = prior.load(local(store, made)), prior.load(begun.part("prior").folder)
    assert made_prior.conditions == theirs.conditions
    same_weights(made_prior, theirs, but=LIMITS)
    assert made.metrics["start/conditions"] == "kept fast, minor, slow"


def test_a_gan_makes_the_latents_of_the_release_over_other_statistics(
    own: Trained, temporal_store: Store
) -> None:
    given = starting.read(folder_of(temporal_store, "temporal_gan"))
    store = own.store
    # Of other stems, so that the mean and deviation of the latents are others.
    config = still(replace(TEMPORAL_CODEC, stems=("vocals",)))
    model = codec.train("temporal", own.dataset, store, config, given=given.part("codec"))
    table = latents.encode(model, own.dataset, store)
    made = prior.train("gan", table, model, store, still(TEMPORAL_GAN), given=given.part("prior"))
    first, second = prior.load(local(store, made)), prior.load(given.part("prior").folder)
    assert not torch.allclose(first.latent_std, second.latent_std, rtol=0.05)
    assert torch.allclose(first.sample(40, seed=3), second.sample(40, seed=3), atol=1e-4)


def test_the_discriminator_of_a_gan_learns_alone_first(own_temporal: Trained) -> None:
    store = own_temporal.store
    table, model = latents.load(own_temporal.latents, store), codec.load(local(store, own_temporal.codec))
    task = TEMPORAL.task(table, model, TEMPORAL_GAN, torch.device("cpu"))
    batch = task.get_batch(0)
    assert [u.part for u in task.training_step(0, dict(batch))] == ["discriminator", "generator"]
    space = prior.LatentSpace(torch.from_numpy(table.mean), torch.from_numpy(table.std))
    assert isinstance(task, prior.StartablePriorTask)
    task.start_from(prior.load(local(store, own_temporal.prior)), space)
    warmup = TEMPORAL_GAN.optimizer.warmup_steps
    assert [u.part for u in task.training_step(warmup - 1, dict(batch))] == ["discriminator"]
    assert [u.part for u in task.training_step(warmup, dict(batch))] == ["discriminator", "generator"]


def test_rows_of_known_conditions_are_taken_over_by_name() -> None:
    own, theirs = torch.zeros(3, 2), torch.tensor([[1.0, 1], [2, 2], [9, 9]])
    rows = known_rows(own, ("b", "c"), theirs, ("a", "b"))
    assert rows.tolist() == [[2, 2], [0, 0], [9, 9]], "b is known, c is new, the last row stands for none"
    assert compared(("b", "c"), ("a", "b")) == "kept b; new c; dropped a"
    assert compared((), ()) == "none"


@pytest.mark.parametrize(("before", "after"), [("ab", ""), ("ab", "bc"), ("", "ab"), ("ab", "ab")])
def test_a_flow_is_the_same_function_under_the_conditions_that_it_knows(before: str, after: str) -> None:
    torch.manual_seed(0)
    old, new = (VelocityNetwork(TEMPORAL_FLOW, 5, len(names)).eval() for names in (before, after))
    torch.nn.init.normal_(old.head.weight)
    new.load_state_dict(started_state(new, tuple(after), old, tuple(before), trains=False))
    x, known, mask = torch.randn(1, 16, 5), torch.zeros(1, 16, 5), torch.zeros(1, 16, 1)

    def velocity(network: VelocityNetwork, names: str, name: str) -> torch.Tensor:
        index = names.index(name) if name and name in names else len(names)
        condition = torch.tensor([index]) if names else None
        return network(x, torch.tensor([0.3]), known, mask, condition)

    for name in {*after, ""}:
        assert torch.allclose(velocity(new, after, name), velocity(old, before, name), atol=1e-5), name


def test_a_dense_codec_keeps_the_standardisation_of_its_weights(own_dense: Trained) -> None:
    store, data = own_dense.store, own_dense.dataset
    task = DENSE.task(Dataset(store, data), replace(DENSE_CODEC, stems=("vocals",)), torch.device("cpu"))
    trained = codec.load(local(store, own_dense.codec))
    assert isinstance(task, codec.StartableCodecTask)
    task.start_from(trained)
    same_weights(task.model, trained)
    batch = task.get_batch(0)
    figures = task.validate(0).figures
    assert torch.isfinite(batch["vector"]).all() and figures["explained_variance"] > 0


def test_a_refiner_begins_with_the_weights_and_noise_of_its_own_codec(own_temporal: Trained) -> None:
    store, data = own_temporal.store, own_temporal.dataset
    config = RefinerConfig(width=16, blocks=1, optimizer=replace(TEMPORAL_CODEC.optimizer, max_steps=20))
    made = refiner.train(own_temporal.codec, data, store, config)
    task = RefinerTask(
        Dataset(store, data), codec.load(local(store, own_temporal.codec)), config, torch.device("cpu")
    )
    trained, noise = refiner.load(local(store, made)), task.model.noise_std.clone()
    trained.noise_std.mul_(3)
    task.start_from(trained)
    same_weights(task.model, trained, but=("noise_std",))
    same_weights(task.eval_model, task.model)
    assert torch.equal(task.model.noise_std, noise)


# Ids and provenance.


def test_the_start_is_a_part_of_the_id_and_without_one_ids_stay(own: Trained, begun: StartingRelease) -> None:
    store, data, config = own.store, own.dataset, still(TEMPORAL_CODEC)
    plain = codec.train("temporal", data, store, config)
    given = codec.train("temporal", data, store, config, given=begun.part("codec"))
    assert plain.version == config_id("temporal", training_id(config), data.version, VERSIONS["codec"])
    assert plain.inputs == {"feature_table": data.version}
    assert given.version != plain.version
    assert local(store, plain).is_dir() and local(store, given).is_dir()
    assert codec.train("temporal", data, store, config, given=begun.part("codec")) == given
    assert FILE not in plain.files
    described = json.loads((local(store, given) / "config.json").read_text("utf-8"))["start"]
    assert described["version"] == begun.manifest.version and described["part"] == "codec"


def test_tracks_and_licences_of_the_release_follow(own: Trained, other: Path) -> None:
    store, data, given = own.store, own.dataset, starting.read(other)
    model = codec.train("temporal", data, store, still(TEMPORAL_CODEC), given=given.part("codec"))
    table = latents.encode(model, data, store)
    made = prior.train("flow", table, model, store, still(FLOW), given=given.part("prior"))
    artifacts = artifacts_of("temporal_flow", model, made, own.vocoder)

    setup = measurement_setup(["a"], ("mix",), FEATURE, EVALUATION, GENERATION)
    figures = {**setup, "generated/kad": 1.0, "generated/kad_low": 0.5, "generated/kad_high": 2.0}
    evaluation = Artifact(
        "temporal_flow/evaluation", "made", "evaluations/temporal_flow/made", "", 0, metrics=figures
    )
    published = release.publish(artifacts, evaluation, data, store, GENERATION, None).artifact
    opened = release.load(local(store, published))
    sources = opened.manifest.sources
    ids = [t["track_id"] for t in sources["tracks"]]
    assert ids[-1] == "other-1" and len(ids) > 1 and all(name.startswith("made-") for name in ids[:-1])
    assert set(sources["licences"]) == {"CC-BY-4.0", "CC0-1.0"}
    assert sources["rights"] == ["licensed", "open"]
    row = {"pipeline": "temporal_flow", "version": given.manifest.version, "parts": ["codec", "prior"]}
    assert opened.manifest.started_from == opened.provenance["started_from"] == [row]
    card = (local(store, published) / "MODEL_CARD.md").read_text("utf-8")
    assert "Theirs" in card and "began with the weights of temporal\\_flow" in card

    samples = generation.generate(artifacts, data, store, replace(GENERATION, count=1))
    facts = json.loads((local(store, samples) / "sample-000.json").read_text("utf-8"))
    assert facts["started_from"] == [row] and facts["sources"] == sources
    # What starts from that release in turn has the first one's tracks, too.
    assert "other-1" in {
        t["track_id"] for t in starting.read(local(store, published)).part("codec").sources["tracks"]
    }

    catalogue.save(store, [*catalogue.load(store), track("other-1")])
    report = erasure.forget(store, ["other-1"])
    assert {m.name for m in report.marks if m.trained_on == ["other-1"]} == {
        "temporal/autoencoder_checkpoint",
        "temporal/flow_checkpoint",
        "temporal/latent_table",
        "temporal_flow/generated_samples",
        "temporal_flow/release",
    }


# What does not fit.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"codecs": {"temporal": {"width": 64}}},
            r"codecs.temporal.width must be 48, as in the codec of the release temporal_flow \w+ that training"
            r" starts from, got 64",
        ),
        (
            {"codecs": {"temporal": {"latent_dim": 8}}},
            r"codecs.temporal.latent_dim must be 12, as in the codec",
        ),
        ({"features": {"hop_length": 128}}, r"features.hop_length must be 256, as in the codec of the release"),
        (
            {"priors": {"temporal": {"flow": {"heads": 4}}}},
            r"priors.temporal.flow.heads must be 2, as in the prior of the release",
        ),
        ({"vocoder": {"blocks": 2}}, r"vocoder.blocks must be 1, as in the vocoder of the release"),
        ({"train": ["temporal_gan"]}, r"prior of `start_from` must be 'temporal/gan', .*, got 'temporal/flow'"),
        ({"train": ["dense_gan"]}, r"codec of `start_from` must be 'dense', which is trained, got 'temporal'"),
        (
            {"pipelines": {"temporal_flow": {"refiner": True}}},
            r"start_parts must be of codec, prior, vocoder, which the release has, got 'refiner'",
        ),
    ],
)
def test_what_does_not_fit_names_the_part_and_the_setting(
    begun: StartingRelease, changes: dict[str, Any], message: str
) -> None:
    fitting = config_for(begun)
    starting.check(begun, fitting, starting.checkpoints_of(fitting))
    wrong = config_for(begun, **changes)
    with pytest.raises(InputError, match=message):
        starting.check(begun, wrong, starting.checkpoints_of(wrong))


def config_for(begun: StartingRelease, **changes: Any) -> Config:
    """A config that fits the release, but for some settings."""
    values: dict[str, Any] = {
        "features": dict(FEATURE),
        "codecs": {"temporal": dict(TEMPORAL_CODEC)},
        "priors": {"temporal": {"flow": dict(FLOW)}},
        "vocoder": dict(VOCODER),
        "pipelines": {"temporal_flow": {"codec": "temporal", "prior": "flow", "refiner": False}},
        "train": ["temporal_flow"],
    }
    return from_dict(Config, merged(values, changes))


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Settings over others, as a config file is read."""
    nested = {
        k: merged(base[k], v) for k, v in over.items() if isinstance(base.get(k), dict) and isinstance(v, dict)
    }
    return {**base, **over, **nested}


def test_parts_that_are_not_to_begin_need_not_fit(begun: StartingRelease) -> None:
    config = config_for(begun, vocoder={"blocks": 2}, train=["temporal_gan"], start_parts=["codec"])
    starting.check(begun, config, [a for a in starting.checkpoints_of(config) if a[0] != "refiner"])
    with pytest.raises(InputError, match=r"start_parts must be a list with codec, because .* no prior, got"):
        config_for(begun, start_parts=["prior"])


def test_a_prior_needs_a_codec_of_the_same_release(own_temporal: Trained, begun: StartingRelease) -> None:
    with pytest.raises(
        InputError, match=r"start_from must be the release that temporal/autoencoder_checkpoint"
    ):
        prior.train(
            "flow",
            own_temporal.latents,
            own_temporal.codec,
            own_temporal.store,
            still(FLOW),
            given=begun.part("prior"),
        )


def test_a_release_that_was_changed_is_refused(other: Path) -> None:
    weights = other / "prior" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match=r"SHA-256 of .*prior must be"), open_start(str(other)):
        pass


def test_names_of_releases(flow_store: Store, tmp_path: Path) -> None:
    in_use = f"{flow_store.root}/releases/temporal_flow"
    assert resolve_start(in_use) == str(folder_of(flow_store, "temporal_flow"))
    assert resolve_start("") == ""
    with open_part("", "codec") as nothing:
        assert nothing is None
    with open_part(in_use, "vocoder") as part:
        assert part is not None and part.part == "vocoder"
    for wrong in (str(tmp_path / "none"), "s3://bucket/no"):
        with pytest.raises(InputError, match="start_from must be a release folder"):
            resolve_start(wrong)
    with pytest.raises(InputError, match="start_from must be a release folder"), open_start(str(tmp_path)):
        pass
    with pytest.raises(InputError, match=r"start_from must be a release of this version"), open_start(str(OLD)):
        pass
