"""Which weights trainings keep: by KAD over tracks, and by the error where there are too few tracks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from melodygan_core import codec, latents
from melodygan_core.codec.temporal.task import VALIDATION_CROPS, TemporalTask
from melodygan_core.config import DenseGanConfig, TemporalGanConfig, replace
from melodygan_core.config.registry import prior_component
from melodygan_core.dataset import Dataset, SpanDataset
from melodygan_core.prior.gan.task import GanTask
from melodygan_core.prior.sequences import Sequences
from melodygan_core.vocoder.task import VocoderTask
from melodygan_core.vocoder.waveforms import WaveformDataset
from tests.core.made import DENSE_GAN, TEMPORAL_CODEC, TEMPORAL_GAN, VOCODER, Trained

CPU = torch.device("cpu")


@pytest.fixture
def three_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the two validation tracks of the made pipelines too few for a KAD."""
    monkeypatch.setattr("melodygan_core.metrics.MIN_GROUPS", 3)


def gan_task(trained: Trained, config: DenseGanConfig | TemporalGanConfig) -> GanTask:
    """The training of the GAN over the latents of a trained pipeline's codec."""
    decoder = codec.load(Path(str(trained.store.at(trained.codec.uri))))
    kind = prior_component(trained.codec.group, "gan").load()
    return kind.task(latents.load(trained.latents, trained.store), decoder, config, CPU)


def dense_gan(trained: Trained) -> GanTask:
    return gan_task(trained, replace(DENSE_GAN, condition="none"))


def temporal_gan(trained: Trained) -> GanTask:
    return gan_task(trained, TEMPORAL_GAN)


def temporal_codec(trained: Trained) -> TemporalTask:
    return TemporalTask(Dataset(trained.store, trained.dataset), TEMPORAL_CODEC, CPU)


def neural_vocoder(dense: Trained, work: Path) -> VocoderTask:
    return VocoderTask(Dataset(dense.store, dense.dataset), dense.store, VOCODER, CPU, work)


def test_two_validation_tracks_are_selected_by_kad(
    dense: Trained, temporal_trained: Trained, tmp_path: Path
) -> None:
    last = 10_000
    for task in (temporal_codec(dense), neural_vocoder(dense, tmp_path)):
        loss, figures = task.validate(last)
        assert figures["kad_groups"] == 2
        distance = {
            TemporalTask: figures["kad"],
            VocoderTask: abs(figures["kad"] - figures["kad_real_baseline"]),
        }
        assert loss == distance[type(task)]
    for gan in (dense_gan(dense), temporal_gan(temporal_trained)):
        figures = gan.validate(last).figures
        assert figures["kad_groups"] == 2
        assert {"kad", "kad_real_baseline", "diversity"} < figures.keys()


@pytest.mark.usefixtures("three_needed")
def test_too_few_validation_tracks_are_selected_by_the_error(dense: Trained, tmp_path: Path) -> None:
    last = 10_000
    loss, figures = temporal_codec(dense).validate(last)
    assert "kad" not in figures and figures["kad_groups"] == 2
    assert loss == figures["loss"]
    loss, figures = neural_vocoder(dense, tmp_path).validate(last)
    assert "kad" not in figures and figures["kad_groups"] == 2
    expected = VOCODER.mel_weight * figures["log_bands_l1"] + VOCODER.stft_weight * figures["stft"]
    assert loss == pytest.approx(expected)


@pytest.mark.usefixtures("three_needed")
def test_a_gan_with_too_few_validation_tracks_keeps_the_last_diverse_generator(
    dense: Trained, temporal_trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    for task in (dense_gan(dense), temporal_gan(temporal_trained)):
        figures = task.setup.figures
        for diversity, expected in ((1.0, -7.0), (0.0, None)):

            def fixed(generator: Any, value: float = diversity, real: Any = figures) -> dict[str, float]:
                return real(generator) | {"diversity": value}

            monkeypatch.setattr(task.setup, "figures", fixed)
            loss, validation = task.validate(7)
            assert loss == expected
            assert "kad" not in validation and validation["kad_groups"] == 2


def test_validation_crops_know_their_tracks(dense: Trained, temporal_trained: Trained, tmp_path: Path) -> None:
    data = Dataset(dense.store, dense.dataset)
    frames = TEMPORAL_CODEC.crop_tokens * TEMPORAL_CODEC.token_frames
    spans = SpanDataset(data, "validation", ["mix"], frames)
    tracks = spans.evenly_spaced_tracks(VALIDATION_CROPS)
    for crop, track in zip(spans.evenly_spaced(VALIDATION_CROPS, "log_bands"), tracks, strict=True):
        own = [spans.read(s, "log_bands") for s in spans.all if s.track == track]
        starts = [(o, k) for o in own for k in range(0, len(o) - frames + 1)]
        assert any(np.array_equal(o[k : k + frames], crop) for o, k in starts)
    assert len(set(tracks)) == 2

    wavs = WaveformDataset(data, dense.store, "validation", ["mix"], 8000, tmp_path)
    assert set(wavs.evenly_spaced_tracks(30)) == set(tracks)
    assert len(wavs.evenly_spaced_tracks(30)) == len(wavs.evenly_spaced(30))

    table = latents.load(temporal_trained.latents, temporal_trained.store)
    sequences = Sequences(table, "validation", 6)
    flat = table.latents.reshape(-1, table.latents.shape[2])
    found = sequences.evenly_spaced_tracks(9)
    for sequence, track in zip(sequences.evenly_spaced(9).numpy(), found, strict=True):
        [first] = [k for k in range(len(flat) - 5) if np.array_equal(flat[k : k + 6], sequence)]
        assert table.track_id[first // table.latents.shape[1]] == track
    assert len(set(found)) == 2
