"""The refiner of a codec: flow, training, checkpoint and its place in a pipeline."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch

from melodygan_core import codec, release
from melodygan_core.codec import refiner
from melodygan_core.codec.refiner import Refiner
from melodygan_core.codec.refiner.task import RefinerTask
from melodygan_core.config import OptimizerConfig, RefinerConfig, replace
from melodygan_core.dataset import Dataset
from melodygan_core.errors import InputError
from melodygan_core.training import MetricsCallback, fit, ignore, seed_everything
from melodygan_core.training.checkpoint import save_weights
from tests.core.made import GENERATION, Trained

SMALL = RefinerConfig(
    width=16,
    blocks=1,
    optimizer=OptimizerConfig(max_steps=6, batch_size=4, eval_every=3, warmup_steps=2, device="cpu"),
)


def toy(steps: int = 4, noise: float = 1.0) -> tuple[Refiner, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model = Refiner(replace(SMALL, steps=steps, noise=noise), values=6, latent_dim=3)
    model.noise_std.fill_(0.5)
    return model.eval(), torch.randn(2, 10, 6), torch.randn(2, 10, 3)


def test_an_untrained_refiner_returns_what_the_decoder_made() -> None:
    model, decoded, latents = toy()
    torch.testing.assert_close(model.sample(decoded, latents), decoded)


def test_sampling_ends_at_the_prediction() -> None:
    """With a constant prediction every number of steps ends there: the last step goes all the way."""
    model, decoded, latents = toy(steps=3)
    torch.nn.init.constant_(model.change.bias, 0.4)
    torch.testing.assert_close(model.sample(decoded, latents), decoded + 0.5 * 0.4)


def test_a_longer_piece_begins_as_a_shorter_one() -> None:
    model, decoded, latents = toy(steps=2)
    torch.nn.init.normal_(model.change.weight, std=0.5)
    entire, part = model.sample(decoded, latents), model.sample(decoded[:, :7], latents[:, :7])
    # A token depends on `kernel // 2` others a block and step.
    inner = 7 - 2 * (SMALL.kernel // 2)
    torch.testing.assert_close(entire[:, :inner], part[:, :inner])
    assert torch.equal(model.sample(decoded, latents), entire), "the same twice"


def test_it_learns_what_the_decoder_leaves_out() -> None:
    """Truth = decoded + a pattern that the latent tells: the error falls far below the decoder's own."""
    model, _, _ = toy()
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    rng = torch.Generator().manual_seed(1)
    for _ in range(100):
        latents, decoded = torch.randn(8, 10, 3, generator=rng), torch.randn(8, 10, 6, generator=rng)
        true = decoded + 0.5 * torch.tanh(latents).repeat(1, 1, 2)
        time = torch.rand(8, generator=rng)
        start = decoded + 0.5 * torch.randn(8, 10, 6, generator=rng)
        x = torch.lerp(start, true, time[:, None, None])
        loss = (model(x, time, decoded, latents) - true).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    latents, decoded = torch.randn(8, 10, 3, generator=rng), torch.randn(8, 10, 6, generator=rng)
    true = decoded + 0.5 * torch.tanh(latents).repeat(1, 1, 2)
    error = (model.eval().sample(decoded, latents) - true).square().mean()
    assert float(error) < 0.25 * float((decoded - true).square().mean())


def test_noise_is_as_strong_as_the_decoders_error_on_validation(own_temporal: Trained) -> None:
    task = task_of(own_temporal)
    crops = task._validation.columns
    with torch.no_grad():
        error = task.codec.decode_targets(task.codec.encode(crops)) - task.codec.targets(crops)
    torch.testing.assert_close(task.model.noise_std, error.square().mean(dim=(0, 1)).sqrt())


def task_of(trained: Trained) -> RefinerTask:
    artifacts = trained.artifacts
    with trained.store.reading(trained.store.at(artifacts.codec.uri)) as folder:
        model = codec.load(folder)
    return RefinerTask(Dataset(trained.store, trained.dataset), model, SMALL, torch.device("cpu"))


def test_the_first_validation_is_the_decoders_own_error(own_temporal: Trained) -> None:
    assert task_of(own_temporal).validate(0).loss == pytest.approx(1.0, rel=1e-4)


def test_the_codec_stays_as_it_was(own_temporal: Trained, tmp_path: Path) -> None:
    task = task_of(own_temporal)
    before = {k: v.clone() for k, v in task.codec.state_dict().items()}
    fit("refiner", task, SMALL.optimizer, tmp_path, ignore, task.betas)
    assert all(torch.equal(v, before[k]) for k, v in task.codec.state_dict().items())


def test_a_pipeline_refines_what_it_decodes_and_so_does_its_release(own_temporal: Trained) -> None:
    store, artifacts = own_temporal.store, own_temporal.artifacts
    made = refiner.train(artifacts.codec, own_temporal.dataset, store, SMALL)
    assert made.name == "temporal/refiner_checkpoint"
    assert made.inputs == {
        "feature_table": own_temporal.dataset.version,
        artifacts.codec.name: artifacts.codec.version,
    }
    assert math.isfinite(made.metrics["validation/loss"]) and made.metrics["values"] > 0
    refined = dataclasses.replace(artifacts, refiner=made)
    assert set(refined.parts) == {"codec", "refiner", "prior", "vocoder"}
    assert refined.identity != artifacts.identity
    pipeline, plain = refined.open(store), artifacts.open(store)
    latents = torch.tanh(torch.randn(2, 8, plain.codec.latent_dim, generator=torch.Generator().manual_seed(0)))
    for with_refiner, without in zip(pipeline.decode(latents), plain.decode(latents), strict=True):
        assert with_refiner is not None and without is not None
        assert with_refiner.shape == without.shape and not torch.equal(with_refiner, without)
    figures = own_temporal.evaluation
    published = release.publish(refined, figures, own_temporal.dataset, store, GENERATION, None)
    with store.reading(store.at(published.artifact.uri)) as folder:
        loaded = release.load(folder)
        assert loaded.manifest.components["refiner"].kind == "flow"
        torch.testing.assert_close(tuple(loaded.pipeline.decode(latents)), tuple(pipeline.decode(latents)))


def test_a_refiner_of_another_codec_is_refused(own_temporal: Trained, tmp_path: Path) -> None:
    other = Refiner(SMALL, values=6, latent_dim=3)
    stored = {"config": {"width": 16, "blocks": 1}, "values": 6, "latent_dim": 3}
    save_weights(tmp_path, {"model": other}, stored)
    store = own_temporal.store
    with (
        store.reading(store.at(own_temporal.artifacts.codec.uri)) as folder,
        pytest.raises(InputError, match="latent_dim"),
    ):
        codec.load_refined(folder, tmp_path)


def test_a_resumed_training_equals_an_undisturbed_one(own_temporal: Trained, tmp_path: Path) -> None:
    def run(work: Path, callback: MetricsCallback = ignore) -> dict[str, torch.Tensor]:
        work.mkdir(exist_ok=True)
        seed_everything(SMALL.optimizer.seed)
        task = task_of(own_temporal)
        fit("refiner", task, replace(SMALL.optimizer, checkpoint_every_s=0.0), work, callback, task.betas)
        return task.eval_model.state_dict()

    def killed(step: int, figures: dict[str, float]) -> None:
        raise KeyboardInterrupt

    entire = run(tmp_path / "entire")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", killed)
    resumed = run(tmp_path / "killed")
    assert all(torch.equal(value, resumed[name]) for name, value in entire.items())
