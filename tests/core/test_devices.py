"""Trainings and pipelines on a second device give the same results.

No operation mixes devices, and nothing there is float64.
"""

from __future__ import annotations

import dataclasses
import importlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from melodygan_core import codec, generation, latents, prior, vocoder
from melodygan_core.codec import refiner
from melodygan_core.codec.covariance import Covariance
from melodygan_core.codec.dense.model import errors, pca
from melodygan_core.config import RefinerConfig, replace
from melodygan_core.dataset import Dataset
from melodygan_core.pipeline import Pipeline
from melodygan_core.prior.gan.losses import R1Weight
from melodygan_core.storage import Artifact, Store
from melodygan_core.training import Task, Update, fit, resolve_device
from melodygan_core.vocoder import FlowVocoder, GriffinLim, NeuralVocoder, Seeds
from melodygan_core.vocoder.flow import WaveformFlow
from melodygan_core.vocoder.phase import single_pass_phase
from tests.core import made
from tests.core.made import FEATURE, Trained
from tests.core.second_device import DEVICE, second_device

pytestmark = pytest.mark.slow

# The name that stands for the second device in a config of these tests.
SECOND = "mps"
TRAININGS = [
    importlib.import_module(f"melodygan_core.{p}.train")
    for p in ("codec", "prior", "vocoder", "codec.refiner", "vocoder.flow")
]
USERS = [importlib.import_module(f"melodygan_core.{p}") for p in ("codec.collapse", "latents", "pipeline")]


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


def name_the_second_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes SECOND the name of the second device wherever a device is given by name."""

    def resolved(device: str | torch.device) -> torch.device:
        return DEVICE if device == SECOND else resolve_device(device)

    for module in (*TRAININGS, *USERS):
        monkeypatch.setattr(module, "resolve_device", resolved)


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
    """A vocoder and a flow over it, or a codec and a prior over its latents; discriminators start half-way."""
    if name == "vocoder":
        neural = vocoder.train(data, store, quick(made.VOCODER, device, disc_start=0.5))
        config = quick(made.FLOW_VOCODER, device, bfloat16=False)
        return [neural, vocoder.flow.train(neural, data, store, config)]
    if name == "dense":
        model, gan = quick(made.DENSE_CODEC, device, bfloat16=False), quick(made.DENSE_GAN, device, r1_every=2)
    else:
        model = quick(made.TEMPORAL_CODEC, device, bfloat16=False, disc_start=0.5)
        gan = quick(made.TEMPORAL_GAN, device, bfloat16=False, r1_every=2, r1_target=0.0, augment=0.2)
    checkpoint = codec.train("temporal" if name == "flow" else name, data, store, model)
    table = latents.encode(checkpoint, data, store)
    if name == "flow":
        flow = quick(made.TEMPORAL_FLOW, device, bfloat16=False, condition="tag", level_db=3.0, level_share=0.5)
        return [checkpoint, prior.train("flow", table, checkpoint, store, flow)]
    found = [checkpoint, prior.train("gan", table, checkpoint, store, gan)]
    if name == "temporal":
        small = replace(RefinerConfig(), width=16, blocks=1, bfloat16=False)
        found.append(refiner.train(checkpoint, data, store, quick(small, device)))
    return found


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("vocoder", [{"model", "discriminator"}, {"flow"}]),
        ("dense", [{"model"}, {"generator", "discriminator"}]),
        ("temporal", [{"model", "discriminator"}, {"generator", "discriminator"}, {"refiner"}]),
        ("flow", [{"model", "discriminator"}, {"network"}]),
    ],
)
def test_a_training_on_another_device_is_the_same(
    dense: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, parts: list[set[str]]
) -> None:
    stores = []
    for device in ("cpu", SECOND):
        shutil.copytree(dense.store.root, tmp_path / device)
        stores.append(Store(str(tmp_path / device)))
    expected = train(name, dense.dataset, stores[0], "cpu")
    tasks: list[Checked] = []

    def fit_checked(label: str, task: Task, *args: Any) -> Any:
        tasks.append(Checked(task))
        return fit(label, cast(Task, tasks[-1]), *args)

    name_the_second_device(monkeypatch)
    for module in TRAININGS:
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
    flow = FlowVocoder(model, WaveformFlow(replace(made.FLOW_VOCODER, steps=2), FEATURE)).eval()
    torch.nn.init.normal_(flow.flow.change.weight, std=0.1)
    flow.flow.noise_std.fill_(0.3)
    spectrum = torch.randn(2, FEATURE.n_bands, 20, generator=torch.Generator().manual_seed(0)) - 3
    with torch.no_grad(), second_device(float64=False):
        expected = model(spectrum), GriffinLim(FEATURE)(spectrum, seed=3), flow(spectrum, seed=3)
        there = spectrum.to(DEVICE)
        flow.to(DEVICE)
        found = model(there), GriffinLim(FEATURE)(there, seed=3), flow(there, seed=3)
        for one, other in zip(expected, found, strict=True):
            assert on_device(other)
            assert torch.allclose(one, other.cpu(), atol=1e-5)
        magnitude = torch.rand(1, 9, 5, device=DEVICE)
        assert on_device(single_pass_phase(magnitude, 4))


@pytest.mark.parametrize("fixture", ["dense", "temporal_trained"])
def test_a_pipeline_makes_the_same_on_another_device(
    fixture: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: Trained = request.getfixturevalue(fixture)
    data = Dataset(trained.store, trained.dataset)
    rows = data.rows("test", ("mix",)).take(np.arange(4))
    features = data.columns(rows, list(data.feature.columns))
    heard: list[bool] = []

    def recorded(cls: type, name: str) -> None:
        call = getattr(cls, name)

        def wrapped(self: Any, spectrum: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            heard.append(on_device(spectrum))
            return call(self, spectrum, *args, **kwargs)

        monkeypatch.setattr(cls, name, wrapped)

    def round_trip(device: str, vocoder_kind: str) -> tuple[Pipeline, dict[str, torch.Tensor]]:
        artifacts = dataclasses.replace(trained.artifacts, device=device, vocoder_kind=vocoder_kind)
        pipeline = artifacts.open(trained.store)
        latents = pipeline.encode(features)
        sample = pipeline.sample(70, seed=3, condition=0 if pipeline.conditions else None)
        found = {
            "latents": latents,
            "decoded": pipeline.decode(latents).spectrum,
            "reconstructed": pipeline.reconstruct(features).spectrum,
            "sampled": sample.latents,
            "spectrum": sample.decoded.spectrum,
            "wav": pipeline.sound(sample.decoded, 5),
        }
        return pipeline, found if sample.vectors is None else {**found, "vectors": sample.vectors}

    name_the_second_device(monkeypatch)
    recorded(GriffinLim, "__call__")
    recorded(NeuralVocoder, "forward")
    for kind in ("griffin_lim", "neural"):
        _, expected = round_trip("cpu", kind)
        with second_device(float64=False):
            pipeline, found = round_trip(SECOND, kind)
            models = (pipeline.codec, pipeline.prior)
            assert all(on_device(p) for m in models for p in [*m.parameters(), *m.buffers()])
            assert not any(map(on_device, found.values())), "tensors come out on the CPU"
        assert found.keys() == expected.keys()
        for name, one in expected.items():
            assert torch.allclose(one, found[name], atol=1e-4), name
    assert heard == [False, True] * 2


def elsewhere(made: Artifact) -> Artifact:
    """A checkpoint that was trained on a device which no machine has."""
    optimizer = {**made.config["optimizer"], "device": "elsewhere"}
    return dataclasses.replace(made, config={**made.config, "optimizer": optimizer})


def test_a_checkpoint_runs_where_the_present_config_says(
    own_dense: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, data = own_dense.store, own_dense.dataset
    model, gan = elsewhere(own_dense.codec), elsewhere(own_dense.prior)
    name_the_second_device(monkeypatch)
    moved = dataclasses.replace(own_dense.artifacts, codec=model, prior=gan)
    assert moved.open(store).device == torch.device("cpu")
    assert moved.identity == dataclasses.replace(moved, device=SECOND).identity
    expected = codec.check_collapse(model, data, store, "cpu")
    healthy = prior.check_collapse(gan, own_dense.latents, model, store, "cpu")
    store.remove(store.at(own_dense.latents.uri))
    seen = []

    def loaded(folder: Path, device: str | torch.device) -> Any:
        seen.append(device)
        return load(folder, device)

    load = codec.load
    for module in (latents.codec, importlib.import_module("melodygan_core.codec.collapse")):
        monkeypatch.setattr(module, "load", loaded)
    with second_device(float64=False):
        table = latents.encode(model, data, store, SECOND)
        found = codec.check_collapse(model, data, store, SECOND)
        health = prior.check_collapse(gan, table, model, store, SECOND)
    assert seen == [DEVICE] * 3
    assert table.version == own_dense.latents.version
    assert (found.active_dims, found.diversity) == (
        expected.active_dims,
        pytest.approx(expected.diversity, 1e-3),
    )
    assert health.diversity == pytest.approx(healthy.diversity, rel=1e-3)


def test_an_opened_pipeline_allows_tf32(dense: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    allowed: list[torch.device] = []
    for module in (importlib.import_module("melodygan_core.pipeline"), USERS[0], TRAININGS[1]):
        monkeypatch.setattr(module, "allow_tf32", allowed.append)
    made = dense.open()
    assert allowed == [made.device]
    Pipeline(made.name, made.codec, made.prior, made.vocode, DEVICE)
    codec.check_collapse(dense.codec, dense.dataset, dense.store, "cpu")
    prior.check_collapse(dense.prior, dense.latents, dense.codec, dense.store, "cpu")
    assert allowed[1:] == [DEVICE, made.device, made.device]


@pytest.mark.parametrize("kind", ["griffin_lim", "neural"])
def test_pieces_are_vocoded_together_away_from_the_cpu(
    dense: Trained, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    assert generation._vocoded_together(torch.device("cpu")) == 1
    together = generation._vocoded_together(torch.device("cuda"))
    assert together > 1
    pipeline = dataclasses.replace(dense.artifacts, vocoder_kind=kind).open(dense.store)
    config = replace(made.GENERATION, count=together + 2, duration_s=0.5)
    expected = list(generation.pieces(pipeline, config))
    batches, vocode = [], pipeline.vocode

    def counted(spectrum: torch.Tensor, seed: Seeds = 0) -> torch.Tensor:
        batches.append(len(spectrum))
        return vocode(spectrum, seed)

    monkeypatch.setattr(pipeline, "vocode", counted)
    monkeypatch.setattr(generation, "_vocoded_together", lambda device: together)
    found = list(generation.pieces(pipeline, config))
    assert batches == [together, 2]
    for one, other in zip(expected, found, strict=True):
        assert (one.index, one.condition) == (other.index, other.condition)
        assert torch.equal(one.sample.decoded.spectrum, other.sample.decoded.spectrum)
        assert np.allclose(one.wav, other.wav, atol=1e-5)
