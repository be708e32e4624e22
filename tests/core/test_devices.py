"""Trainings on a second device: no operation mixes devices, nothing there is float64, results are the same."""

from __future__ import annotations

import dataclasses
import importlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from melodygan_core import codec, latents, prior, vocoder
from melodygan_core.codec.covariance import Covariance
from melodygan_core.codec.dense.model import errors, pca
from melodygan_core.config import replace
from melodygan_core.pipeline import load_vocoder
from melodygan_core.prior.gan.losses import R1Weight
from melodygan_core.storage import Artifact, Store
from melodygan_core.training import Task, Update, fit, resolve_device
from melodygan_core.vocoder import GriffinLim, NeuralVocoder
from melodygan_core.vocoder.phase import single_pass_phase
from tests.core import made
from tests.core.made import FEATURE, Trained
from tests.core.second_device import DEVICE, second_device

# The name that stands for the second device in a config of these tests.
SECOND = "mps"
TRAININGS = [importlib.import_module(f"melodygan_core.{p}.train") for p in ("codec", "prior", "vocoder")]


def on_device(value: torch.Tensor) -> bool:
    return value.device == DEVICE


class Checked:
    """A task whose modules, batches, losses and figures must be on the second device."""

    def __init__(self, task: Task) -> None:
        self._task, self.parts = task, set[str]()
        modules = {**task.optimized_modules, **task.stateful_modules, "eval_model": task.eval_model}
        for name, module in modules.items():
            for key, value in [*module.named_parameters(), *module.named_buffers()]:
                assert on_device(value), f"{name}.{key}"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def training_step(self, step: int, batch: dict[str, torch.Tensor]) -> Iterator[Update]:
        assert batch and all(map(on_device, batch.values()))
        for update in self._task.training_step(step, batch):
            self.parts.add(update.part)
            assert on_device(update.loss)
            assert all(map(on_device, update.figures.values())), update.figures
            # As several processes do, to average them.
            torch.stack([*update.figures.values()])
            yield update


def quick(config: Any, device: str, **changes: Any) -> Any:
    steps = replace(
        config.optimizer,
        max_steps=4,
        eval_every=2,
        batch_size=8,
        device=device,
        checkpoint_every_s=0.0,
        # Adam takes the sign of a gradient near zero, which is that of its last digits.
        learning_rate=1e-5,
    )
    return replace(config, optimizer=steps, **changes)


def train(name: str, data: Artifact, store: Store, device: str) -> list[Artifact]:
    """A vocoder, or a codec and a GAN over its latents; discriminators start half-way."""
    if name == "vocoder":
        return [vocoder.train(data, store, quick(made.VOCODER, device, disc_start=0.5))]
    if name == "dense":
        model, gan = quick(made.DENSE_CODEC, device, bfloat16=False), quick(made.DENSE_GAN, device, r1_every=2)
    else:
        model = quick(made.TEMPORAL_CODEC, device, bfloat16=False, disc_start=0.5)
        gan = quick(made.TEMPORAL_GAN, device, bfloat16=False, r1_every=2, r1_target=0.0, augment=0.2)
    checkpoint = codec.train(name, data, store, model)
    table = latents.encode(checkpoint, data, store)
    return [checkpoint, prior.train("gan", table, checkpoint, store, gan)]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("vocoder", [{"model", "discriminator"}]),
        ("dense", [{"model"}, {"generator", "discriminator"}]),
        ("temporal", [{"model", "discriminator"}, {"generator", "discriminator"}]),
    ],
)
@pytest.mark.slow
def test_a_training_on_another_device_is_the_same(
    dense: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, parts: list[set[str]]
) -> None:
    stores = []
    for device in ("cpu", SECOND):
        shutil.copytree(dense.store.root, tmp_path / device)
        stores.append(Store(str(tmp_path / device)))
    expected = train(name, dense.dataset, stores[0], "cpu")
    tasks: list[Checked] = []

    def resolved(device: str | torch.device) -> torch.device:
        return DEVICE if device == SECOND else resolve_device(device)

    def fit_checked(label: str, task: Task, *args: Any) -> Any:
        tasks.append(Checked(task))
        return fit(label, cast(Task, tasks[-1]), *args)

    for module in TRAININGS:
        monkeypatch.setattr(module, "resolve_device", resolved)
        monkeypatch.setattr(module, "fit", fit_checked)
    with second_device(float64=False):
        found = train(name, dense.dataset, stores[1], SECOND)
    assert [task.parts for task in tasks] == parts
    for one, other in zip(expected, found, strict=True):
        assert one.version == other.version
        for a, b in zip(one.metrics["history"], other.metrics["history"], strict=True):
            assert a == {k: pytest.approx(b[k], rel=1e-3, abs=1e-5) for k in b}


def test_the_second_device_refuses_what_a_gpu_refuses() -> None:
    with second_device(float64=False):
        here = torch.ones(3, device=DEVICE, requires_grad=True)
        with pytest.raises(RuntimeError, match="one device"):
            here + torch.ones(3)
        with pytest.raises(RuntimeError, match="one device"):
            torch.stack([here.sum(), torch.tensor(1.0)])
        with pytest.raises(TypeError, match=r"has no .*float64"):
            here.double()
        with pytest.raises(TypeError, match=r"has no .*float64"):
            torch.zeros(3, dtype=torch.float64, device=DEVICE)
        (2 * here.square()).sum().backward()
        assert here.grad is not None and here.grad.cpu().tolist() == [4.0] * 3
        assert on_device(here.grad) and not on_device(here.cpu())
    with second_device():
        assert on_device(torch.zeros(3, dtype=torch.float64, device=DEVICE))


def test_the_dense_codecs_statistics_need_no_float64_on_the_device() -> None:
    x = torch.randn(64, 12, generator=torch.Generator().manual_seed(0)) + 3
    torch.manual_seed(0)
    expected = pca(x.split(20), 4)
    explained = errors([(x, x + 0.1)], expected[0])
    with second_device(float64=False):
        there = x.to(DEVICE)
        seen = Covariance()
        seen.add(there)
        assert seen.covariance.dtype == torch.float64
        torch.manual_seed(0)
        found = pca(there.split(20), 4)
        assert all(map(on_device, found))
        for one, other in zip(expected, found, strict=True):
            assert torch.equal(one, other.cpu())
        assert errors([(there, there + 0.1)], found[0]) == explained


def test_the_r1_weight_moves_on_its_device() -> None:
    with second_device(float64=False):
        weight = R1Weight(1.0, 0.0).to(DEVICE)
        weight.update(torch.tensor([1.0, 1.0, -1.0], device=DEVICE))
        assert on_device(weight.gamma)
        assert float(weight.gamma) == pytest.approx(1.02)
        weight.update(torch.tensor([-1.0, -1.0, 1.0], device=DEVICE))
        assert float(weight.gamma) == pytest.approx(1.0)
        for _ in range(400):
            weight.update(torch.ones(3, device=DEVICE))
        assert float(weight.gamma) == pytest.approx(100.0)


def test_vocoders_make_the_same_sound_on_another_device() -> None:
    torch.manual_seed(0)
    model = NeuralVocoder(made.VOCODER, FEATURE).eval()
    log_mel = torch.randn(2, FEATURE.n_mels, 20, generator=torch.Generator().manual_seed(0)) - 3
    with torch.no_grad(), second_device(float64=False):
        expected = model(log_mel), GriffinLim(FEATURE)(log_mel, seed=3)
        there = log_mel.to(DEVICE)
        found = model.to(DEVICE)(there), GriffinLim(FEATURE)(there, seed=3)
        for one, other in zip(expected, found, strict=True):
            assert on_device(other)
            assert torch.allclose(one, other.cpu(), atol=1e-5)
        magnitude = torch.rand(1, 9, 5, device=DEVICE)
        assert on_device(single_pass_phase(magnitude, 4))


def test_griffin_lim_computes_on_the_device_of_its_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    devices, vocode = [], GriffinLim.__call__

    def recorded(self: GriffinLim, log_mel: torch.Tensor, seed: int = 0) -> torch.Tensor:
        devices.append(log_mel.device)
        return vocode(self, log_mel, seed)

    monkeypatch.setattr(GriffinLim, "__call__", recorded)
    log_mel = torch.randn(2, FEATURE.n_mels, 20, generator=torch.Generator().manual_seed(0)) - 3
    with torch.no_grad(), second_device(float64=False):
        here = load_vocoder("griffin_lim", FEATURE, None)(log_mel, 3)
        there = load_vocoder("griffin_lim", FEATURE, None, device=DEVICE)(log_mel, 3)
    assert devices == [torch.device("cpu"), DEVICE]
    assert there.device == torch.device("cpu")
    assert torch.allclose(here, there, atol=1e-5)


@torch.no_grad()
def test_a_checkpoint_of_a_machine_with_a_gpu_is_used_without_one(dense: Trained) -> None:
    def trained_elsewhere(artifact: Artifact) -> Artifact:
        return dataclasses.replace(
            artifact,
            config={**artifact.config, "optimizer": {**artifact.config["optimizer"], "device": "cuda"}},
        )

    model, generator = trained_elsewhere(dense.codec), trained_elsewhere(dense.prior)
    parts = dataclasses.replace(dense.artifacts, codec=model, prior=generator, device="cpu")
    assert parts.open(dense.store).device == torch.device("cpu")
    assert codec.check_collapse(model, dense.dataset, dense.store, "cpu").finite
    assert prior.check_collapse(generator, dense.latents, model, dense.store, "cpu").finite
