"""The neural vocoder: the sound that it learns from, its training, and what it makes."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from melodygan_core import audio, features, vocoder
from melodygan_core.catalogue.tracks import save
from melodygan_core.config import FeatureConfig, GenerationConfig
from melodygan_core.dataset import Dataset, SpanDataset
from melodygan_core.errors import InputError
from melodygan_core.features import FeatureExtractor
from melodygan_core.generation import pieces
from melodygan_core.pipeline import Models
from melodygan_core.storage.store import Store
from melodygan_core.training.checkpoint import load_config, save_weights
from melodygan_core.vocoder import NeuralVocoder
from melodygan_core.vocoder.task import VALIDATION_WINDOW_S, VALIDATION_WINDOWS, LogMel
from melodygan_core.vocoder.waveforms import WaveformDataset
from tests.core.made import FEATURE, GENERATION, SEPARATION, VOCODER, Family, assemble, noise, put_sound, track


def model(feature: FeatureConfig = FEATURE) -> NeuralVocoder:
    torch.manual_seed(0)
    return NeuralVocoder(VOCODER, feature).eval()


# What it learns from.

CROP = 4096


@pytest.fixture(scope="module")
def paused(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Dataset]:
    """Tracks with a pause, which the dataset leaves out."""
    store = Store(str(tmp_path_factory.mktemp("paused") / "store"))
    names = [f"paused-{i}" for i in range(6)]
    for i, name in enumerate(names):
        put_sound(store, name, i, duration_s=3.0, pause_s=(1.0, 1.9))
    save(store, [track(n) for n in names])
    assert not features.extract(names, store, FEATURE, SEPARATION).failed
    return store, Dataset(store, assemble(store, feature=FEATURE))


def truth(store: Store, data: Dataset, stem: str) -> list[np.ndarray]:
    """The samples of each stretch of the training tracks, as 16-bit integers, cut from the wavs."""
    segment = FEATURE.segment_frames * FEATURE.hop_length
    found = []
    for span in SpanDataset(data, "train", [stem]).all:
        name = data.tracks[span.track]["track_id"]
        path = store.raw_wav(name) if stem == "mix" else store.stems(SEPARATION.model_id, name) / f"{stem}.wav"
        wav, rate = audio.read_wav(Path(str(path)))
        assert rate == FEATURE.sample_rate
        first = span.position * segment
        found.append(np.rint(wav[0, first : first + span.segments * segment] * 32768).astype("<i2"))
    return found


@pytest.mark.parametrize("stem", ["mix", "vocals"])
def test_every_draw_is_a_piece_of_one_stretch(paused: tuple[Store, Dataset], tmp_path: Path, stem: str) -> None:
    store, data = paused
    sounds = WaveformDataset(data, store, "train", [stem], CROP, tmp_path)
    spans = truth(store, data, stem)
    assert len(spans) > len({s.track for s in SpanDataset(data, "train", [stem]).all})
    drawn = sounds.sample(60, np.random.default_rng(0))
    assert drawn.shape == (60, CROP) and drawn.dtype == torch.float32
    seen = set()
    for wav in drawn.numpy():
        bytes_ = np.rint(wav * 32768).astype("<i2").tobytes()
        places = [(k, s.tobytes().find(bytes_)) for k, s in enumerate(spans)]
        [(k, place)] = [p for p in places if p[1] >= 0]
        assert place % 2 == 0
        seen.add((k, place))
    assert {k for k, _ in seen} == {k for k, s in enumerate(spans) if len(s) >= CROP}
    assert len(seen) > 50


def test_sound_lines_up_with_the_log_mel_of_the_dataset(paused: tuple[Store, Dataset], tmp_path: Path) -> None:
    store, data = paused
    spans = SpanDataset(data, "train", ["mix"])
    samples = min(s.segments for s in spans.all) * FEATURE.segment_frames * FEATURE.hop_length
    pieces_of = WaveformDataset(data, store, "train", ["mix"], samples, tmp_path).evenly_spaced(1000)
    first = [0]
    for span in spans.all:
        first.append(first[-1] + span.segments * FEATURE.segment_frames * FEATURE.hop_length // samples)
    assert len(pieces_of) == first[-1]
    assert any(s.position > 0 for s in spans.all)
    for span, k in zip(spans.all, first, strict=False):
        made = FeatureExtractor(FEATURE)(pieces_of[k])[0].T
        # At its ends a piece is reflected, where the track goes on.
        inner = slice(3, samples // FEATURE.hop_length - 3)
        expected = torch.from_numpy(spans.read(span))[inner]
        assert float((made[inner] - expected).abs().mean()) < 0.01


def test_the_sound_is_decoded_once_and_again_when_it_is_torn(
    paused: tuple[Store, Dataset], tmp_path: Path
) -> None:
    store, data = paused

    def drawn() -> torch.Tensor:
        return WaveformDataset(data, store, "train", ["mix"], CROP, tmp_path).sample(
            4, np.random.default_rng(1)
        )

    expected = drawn()
    [path] = tmp_path.iterdir()
    written = path.stat().st_mtime_ns
    assert torch.equal(drawn(), expected)
    assert path.stat().st_mtime_ns == written
    path.write_bytes(path.read_bytes()[:-2])
    path.with_suffix(".tmp").write_bytes(b"half")
    assert torch.equal(drawn(), expected)
    assert list(tmp_path.iterdir()) == [path]


def test_too_little_sound_is_named(paused: tuple[Store, Dataset], tmp_path: Path) -> None:
    store, data = paused
    with pytest.raises(InputError, match=r"test has no 9\.0 s of usable mix"):
        WaveformDataset(data, store, "test", ["mix"], 9 * FEATURE.sample_rate, tmp_path)


# The model.


@pytest.mark.parametrize("frames", [2, 3, 10, 87])
def test_its_length_is_whole_hops(frames: int) -> None:
    with torch.no_grad():
        wav = model()(torch.zeros(2, FEATURE.n_mels, frames))
    assert wav.shape == (2, (frames - 1) * FEATURE.hop_length)
    assert bool(wav.isfinite().all())


def test_nothing_finite_is_too_loud_for_it() -> None:
    with torch.no_grad():
        assert bool(model()(torch.full((1, FEATURE.n_mels, 20), 1e4)).isfinite().all())


def test_a_loaded_vocoder_gives_the_same_sound(family: Family, tmp_path: Path) -> None:
    folder = Path(str(family.store.at(family.vocoder.uri)))
    one = vocoder.load(folder)
    save_weights(tmp_path, {"model": one}, load_config(folder))
    fresh = NeuralVocoder(one.config, one.feature).eval()
    fresh.load_state_dict(one.state_dict())
    log_mel = FeatureExtractor(FEATURE)(noise(batch=1)[0])[0][None]
    assert (one.config, one.feature, one.training) == (VOCODER, FEATURE, False)
    with torch.no_grad():
        made = one(log_mel)
        assert torch.equal(vocoder.load(tmp_path)(log_mel), made)
        assert torch.equal(fresh(log_mel), made)


# Its training.


def test_training_beats_its_start_and_says_what_it_did(family: Family, tmp_path: Path) -> None:
    made, store = family.vocoder, family.store
    history = made.metrics["history"]
    assert [row["step"] for row in history] == [0, 4, 8]
    # The critics join half-way, and only weights from then on are kept.
    assert [("train/adv/critics" in row, "train/adv/matching" in row) for row in history] == [
        (False,) * 2,
        (False,) * 2,
        (True,) * 2,
    ]
    assert (made.metrics["best_step"], made.metrics["validation/kad"]) == (8, history[2]["validation/kad"])
    assert (made.name, made.inputs) == ("vocoder_checkpoint", {"feature_table": family.dataset.version})
    window = round(VALIDATION_WINDOW_S * FEATURE.frame_rate) * FEATURE.hop_length
    data = Dataset(store, family.dataset)
    held = WaveformDataset(data, store, "validation", ["mix"], window, tmp_path).evenly_spaced(
        VALIDATION_WINDOWS
    )
    log_mel_of = LogMel(FEATURE)
    with torch.no_grad():
        log_mel = log_mel_of(held)
        start, end = (
            float((log_mel_of(v(log_mel)) - log_mel).abs().mean())
            for v in (model(), vocoder.load(Path(str(store.at(made.uri)))))
        )
    assert start == pytest.approx(history[0]["validation/log_mel_l1"], rel=1e-3)
    assert end == pytest.approx(history[2]["validation/log_mel_l1"], rel=1e-3)
    assert end < 0.9 * start


def test_it_is_measured_beside_griffin_lim(family: Family) -> None:
    figures = family.vocoder.metrics
    for way in ("neural", "griffin_lim"):
        names = ("kad", "log_mel_l1", "stft", "times_real_time")
        assert all(math.isfinite(figures[f"test/{way}/{name}"]) for name in names)
        assert figures[f"test/{way}/times_real_time"] > 0
    # Eight steps are not enough to be better.
    assert figures["test/neural/log_mel_l1"] > figures["test/griffin_lim/log_mel_l1"]


def test_training_twice_is_a_no_op(family: Family) -> None:
    def never(step: int, figures: dict[str, float]) -> None:
        raise AssertionError("trained again")

    assert vocoder.train(family.dataset, family.store, VOCODER, never) == family.vocoder
    assert list((Path(family.store.root) / "work").glob("vocoder*")) == []


def test_tracks_shorter_than_a_test_window_are_measured(paused: tuple[Store, Dataset]) -> None:
    store, _ = paused
    quick = replace(VOCODER, adv_weight=0.0, optimizer=replace(VOCODER.optimizer, max_steps=1))
    made = vocoder.train(assemble(store, feature=FEATURE), store, quick)
    assert math.isfinite(made.metrics["test/neural/kad"])
    assert made.metrics["best_step"] == 1


# In use.


def models(family: Family, config: GenerationConfig) -> Models:
    return Models.of(family.autoencoder, family.gan, family.vocoder, family.store, config)


@pytest.mark.parametrize("duration_s", [0.01, 0.3715, 1.0])
def test_pieces_have_the_length_that_was_asked_for(family: Family, duration_s: float) -> None:
    config = replace(GENERATION, count=1, duration_s=duration_s, vocoder="neural")
    [piece], [other] = (
        list(pieces(models(family, c), c)) for c in (config, replace(config, vocoder="griffin_lim"))
    )
    assert piece.wav.shape == other.wav.shape == (round(duration_s * FEATURE.sample_rate),)
    assert torch.equal(piece.composed.log_mel, other.composed.log_mel)
    assert not np.allclose(piece.wav, other.wav)


def test_a_vocoder_that_does_not_fit_is_refused(own_family: Family) -> None:
    f, neural = own_family, replace(GENERATION, vocoder="neural")
    folders = [Path(str(f.store.at(a.uri))) for a in (f.autoencoder, f.gan, f.vocoder)]
    with pytest.raises(InputError, match="there is no vocoder checkpoint; allowed: 'griffin_lim'"):
        Models.load(folders[0], folders[1], None, neural)
    other = replace(FEATURE, n_mels=20)
    stored = load_config(folders[2]) | {"feature": vars(other)}
    save_weights(folders[2], {"model": NeuralVocoder(VOCODER, other)}, stored)
    with pytest.raises(InputError, match="the vocoder takes log-mels of"):
        Models.load(folders[0], folders[1], folders[2], neural)


@pytest.mark.parametrize("block_frames", [16, 50, 199, 200])
def test_long_sound_made_in_blocks_is_the_same(block_frames: int) -> None:
    torch.manual_seed(1)
    made = model()
    for value in made.head.parameters():
        torch.nn.init.normal_(value, std=0.05)
    log_mel = LogMel(FEATURE)(noise(200 * FEATURE.hop_length / FEATURE.sample_rate))
    with torch.no_grad():
        whole, blocks = made(log_mel), made(log_mel, block_frames=block_frames)
    assert blocks.shape == whole.shape
    assert torch.allclose(blocks, whole, atol=1e-3 * float(whole.abs().max()))
