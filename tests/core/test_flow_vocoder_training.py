"""The flow vocoder in its place: training, checkpoint, pipeline, release."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch

from melodygan_core import release, vocoder
from melodygan_core.config import replace
from melodygan_core.dataset import Dataset
from melodygan_core.errors import InputError
from melodygan_core.storage import Artifact
from melodygan_core.training import MetricsCallback, fit, ignore, seed_everything
from melodygan_core.training.checkpoint import load_config, save_weights
from melodygan_core.vocoder import load_vocoder
from melodygan_core.vocoder.flow.task import FlowVocoderTask
from tests.conftest import copied
from tests.core.made import FEATURE, FLOW_VOCODER, GENERATION, Trained, noise


def folder_of(trained: Trained, artifact: Artifact) -> Path:
    return Path(str(trained.store.at(artifact.uri)))


def task_of(trained: Trained, work: Path) -> FlowVocoderTask:
    neural = vocoder.load(folder_of(trained, trained.vocoder))
    data = Dataset(trained.store, trained.dataset)
    return FlowVocoderTask(data, trained.store, neural, FLOW_VOCODER, torch.device("cpu"), work)


@pytest.fixture(scope="module")
def trained(dense: Trained, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A copy of `dense` with a flow over its vocoder; all tests of this file share it."""
    found = copied(dense, tmp_path_factory.mktemp("flow") / "store")
    flow_of(found)
    return found


def flow_of(trained: Trained) -> Artifact:
    """The flow over the pipeline's vocoder; trained once per store."""
    return vocoder.flow.train(trained.vocoder, trained.dataset, trained.store, FLOW_VOCODER)


def bands(trained: Trained) -> torch.Tensor:
    model = vocoder.flow.load(folder_of(trained, flow_of(trained)))
    return model.log_bands(noise(0.7))


def test_the_first_validation_is_the_neural_vocoders_own_error(trained: Trained, tmp_path: Path) -> None:
    task = task_of(trained, tmp_path)
    found = task.validate(0)
    assert found.loss == pytest.approx(1.0, rel=1e-4)
    # In units of the error itself, the error is 1, but for its weights.
    problem = task._problem(task._validation["wav"], task._validation["first"])
    assert float(problem.true.square().mean()) == pytest.approx(1.0, rel=0.01)
    torch.testing.assert_close(
        problem.error(lambda *_: torch.zeros_like(problem.true), torch.zeros(len(problem.true))),
        problem.weight * problem.true.square(),
    )


def test_a_preview_is_the_sound_of_validation_windows(trained: Trained, tmp_path: Path) -> None:
    task = task_of(trained, tmp_path)
    found = task.preview().wav
    assert found is not None and found.shape == (2 * task._validation["wav"].shape[1],)
    torch.testing.assert_close(found, task._validation["first"][:2].flatten(), atol=0.5, rtol=0)
    assert float(found.std()) > 0


def test_what_the_neural_vocoder_began_with_is_in_the_checkpoint(trained: Trained, tmp_path: Path) -> None:
    begun = copied(trained, tmp_path / "begun")
    folder = folder_of(begun, begun.vocoder)
    (folder / "start.json").write_text("{}", "utf-8")
    config = replace(FLOW_VOCODER, optimizer=replace(FLOW_VOCODER.optimizer, max_steps=1))
    made = vocoder.flow.train(begun.vocoder, begun.dataset, begun.store, config)
    assert "start.json" in made.files
    assert "start.json" not in flow_of(trained).files


def test_the_neural_vocoder_stays_as_it_was(trained: Trained, tmp_path: Path) -> None:
    task = task_of(trained, tmp_path)
    before = {k: v.clone() for k, v in task.model.neural.state_dict().items()}
    fit("flow vocoder", task, FLOW_VOCODER.optimizer, tmp_path, ignore, task.betas)
    assert all(torch.equal(v, before[k]) for k, v in task.model.neural.state_dict().items())


def test_a_training_is_recorded_and_compared(trained: Trained) -> None:
    made = flow_of(trained)
    assert made.name == "flow_vocoder_checkpoint"
    assert made.inputs == {
        "feature_table": trained.dataset.version,
        "vocoder_checkpoint": trained.vocoder.version,
    }
    losses = [row["validation/loss"] for row in made.metrics["history"]]
    assert losses[0] == pytest.approx(1.0, rel=1e-4) and made.metrics["validation/loss"] == min(losses[1:])
    for name in ("flow", "neural", "griffin_lim"):
        assert all(math.isfinite(made.metrics[f"test/{name}/{k}"]) for k in ("kad", "log_bands_l1", "stft"))
    # Its bands are brought to the given ones.
    assert made.metrics["test/flow/log_bands_l1"] < made.metrics["test/neural/log_bands_l1"]

    def never(step: int, figures: dict[str, float]) -> None:
        raise AssertionError("trained again")

    assert vocoder.flow.train(trained.vocoder, trained.dataset, trained.store, FLOW_VOCODER, never) == made


def test_its_folder_is_a_checkpoint_of_the_neural_vocoder_too(trained: Trained) -> None:
    spectrum, folder = bands(trained), folder_of(trained, flow_of(trained))
    loaded = vocoder.flow.load(folder)
    assert (loaded.flow.config, loaded.feature, loaded.training) == (FLOW_VOCODER, FEATURE, False)
    alone = vocoder.load(folder_of(trained, trained.vocoder))
    with torch.no_grad():
        expected = alone(spectrum)
        assert torch.equal(vocoder.load(folder)(spectrum), expected)
        assert torch.equal(loaded.neural(spectrum), expected)
        assert not torch.allclose(loaded(spectrum), expected, atol=1e-4)
        assert torch.equal(load_vocoder("flow", FEATURE, folder)(spectrum, 3), loaded(spectrum, 3))


def test_what_does_not_fit_is_refused(trained: Trained, tmp_path: Path) -> None:
    neural, folder = (folder_of(trained, a) for a in (trained.vocoder, flow_of(trained)))
    with pytest.raises(InputError, match=r"vocoder must be 'neural' or 'griffin_lim' .* got 'flow'"):
        load_vocoder("flow", FEATURE, neural)
    with pytest.raises(InputError, match=r"vocoder must be 'griffin_lim' .* got 'flow'"):
        load_vocoder("flow", FEATURE, None)
    with pytest.raises(InputError, match=r"n_mels=40.*"):
        load_vocoder("flow", replace(FEATURE, n_mels=20), folder)
    model, stored = vocoder.flow.load(folder), load_config(folder)
    for broken, reason in (({"width": 0}, "width"), ({"width": 8}, "does not fit its config")):
        save_weights(
            tmp_path,
            {"model": model.neural, "flow": model.flow},
            {**stored, "flow": {**stored["flow"], **broken}},
        )
        with pytest.raises(InputError, match=reason):
            vocoder.flow.load(tmp_path)


def test_a_pipeline_and_its_release_sound_through_the_flow(trained: Trained) -> None:
    store, made = trained.store, flow_of(trained)
    artifacts = dataclasses.replace(trained.artifacts, vocoder=made, vocoder_kind="flow", griffin_lim=None)
    assert artifacts.inputs["flow_vocoder_checkpoint"] == made.version
    assert artifacts.identity != trained.artifacts.identity
    spectrum = bands(trained)
    wav = artifacts.open(store).vocode(spectrum, 5)
    published = release.publish(artifacts, trained.evaluation, trained.dataset, store, GENERATION, None)
    folder = folder_of(trained, published.artifact)
    loaded = release.load(folder)
    assert loaded.manifest.components["vocoder"].kind == "flow"
    assert torch.equal(loaded.pipeline.vocode(spectrum, 5), wav)
    neural = vocoder.load(folder_of(trained, trained.vocoder))
    with torch.no_grad():
        assert torch.equal(release.load(folder, "neural").pipeline.vocode(spectrum), neural(spectrum))
    plain = dataclasses.replace(artifacts, vocoder=trained.vocoder, vocoder_kind="neural")
    published = release.publish(plain, trained.evaluation, trained.dataset, store, GENERATION, None)
    with pytest.raises(InputError, match=r"vocoder must be 'neural' or 'griffin_lim' .* got 'flow'"):
        release.load(folder_of(trained, published.artifact), "flow")


def test_a_resumed_training_equals_an_undisturbed_one(trained: Trained, tmp_path: Path) -> None:
    def run(work: Path, callback: MetricsCallback = ignore) -> dict[str, torch.Tensor]:
        work.mkdir(exist_ok=True)
        seed_everything(FLOW_VOCODER.optimizer.seed)
        task, config = task_of(trained, work), replace(FLOW_VOCODER.optimizer, checkpoint_every_s=0.0)
        fit("flow vocoder", task, config, work, callback, task.betas)
        return task.eval_model.state_dict()

    def killed(step: int, figures: dict[str, float]) -> None:
        raise KeyboardInterrupt

    entire = run(tmp_path / "entire")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", killed)
    resumed = run(tmp_path / "killed")
    assert all(torch.equal(value, resumed[name]) for name, value in entire.items())
