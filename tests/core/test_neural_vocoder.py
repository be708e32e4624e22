"""The neural vocoder: its training data, the model, its training, and the sound it makes."""

from __future__ import annotations

import math
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from melodygan_core import audio, features, vocoder
from melodygan_core.catalogue.tracks import save
from melodygan_core.config import FeatureConfig, replace
from melodygan_core.dataset import Dataset, SpanDataset
from melodygan_core.errors import InputError
from melodygan_core.features import FeatureExtractor
from melodygan_core.storage import Store
from melodygan_core.training import prefetch
from melodygan_core.training.checkpoint import load_config, save_weights
from melodygan_core.vocoder import NeuralVocoder, comparison, load_vocoder, phase
from melodygan_core.vocoder.bands import LogBands
from melodygan_core.vocoder.phase import pad_to_window
from melodygan_core.vocoder.task import VALIDATION_WINDOW_S, VALIDATION_WINDOWS, VocoderTask
from melodygan_core.vocoder.waveforms import WaveformDataset
from tests.core.made import FEATURE, SEPARATION, VOCODER, Trained, assemble, noise, put_sound, track

CPU = torch.device("cpu")


def model(feature: FeatureConfig = FEATURE) -> NeuralVocoder:
    torch.manual_seed(0)
    return NeuralVocoder(VOCODER, feature).eval()


def changed_model() -> NeuralVocoder:
    """A model whose network changes the initial spectrum."""
    changed = model()
    torch.manual_seed(1)
    for value in changed.head.parameters():
        torch.nn.init.normal_(value, std=0.05)
    return changed


# Training data.

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


def expected_spans(store: Store, data: Dataset, stem: str) -> list[np.ndarray]:
    """The samples of each span of the training tracks, as 16-bit integers, cut from the wavs."""
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
def test_every_crop_lies_within_one_span(paused: tuple[Store, Dataset], tmp_path: Path, stem: str) -> None:
    store, data = paused
    waveforms = WaveformDataset(data, store, "train", [stem], CROP, tmp_path)
    spans = expected_spans(store, data, stem)
    assert len(spans) > len({s.track for s in SpanDataset(data, "train", [stem]).all})
    crops = waveforms.sample(60, np.random.default_rng(0))
    assert crops.shape == (60, CROP) and crops.dtype == torch.float32
    seen = set()
    for wav in crops.numpy():
        bytes_ = np.rint(wav * 32768).astype("<i2").tobytes()
        positions = [(k, s.tobytes().find(bytes_)) for k, s in enumerate(spans)]
        [(k, position)] = [p for p in positions if p[1] >= 0]
        assert position % 2 == 0
        seen.add((k, position))
    assert {k for k, _ in seen} == {k for k, s in enumerate(spans) if len(s) >= CROP}
    assert len(seen) > 50


def test_waveforms_are_aligned_with_the_spectrum_of_the_dataset(
    paused: tuple[Store, Dataset], tmp_path: Path
) -> None:
    store, data = paused
    spans = SpanDataset(data, "train", ["mix"])
    samples = min(s.segments for s in spans.all) * FEATURE.segment_frames * FEATURE.hop_length
    crops = WaveformDataset(data, store, "train", ["mix"], samples, tmp_path).evenly_spaced(1000)
    first = [0]
    for span in spans.all:
        first.append(first[-1] + span.segments * FEATURE.segment_frames * FEATURE.hop_length // samples)
    assert len(crops) == first[-1]
    assert any(s.position > 0 for s in spans.all)
    for span, k in zip(spans.all, first, strict=False):
        spectrum = FeatureExtractor(FEATURE)(crops[k])["log_bands"].T
        # The ends of a crop are reflected, where the track continues.
        inner = slice(3, samples // FEATURE.hop_length - 3)
        expected = torch.from_numpy(spans.read(span, "log_bands"))[inner]
        assert float((spectrum[inner] - expected).abs().mean()) < 0.01


def test_the_sound_is_decoded_once_and_again_if_its_file_is_incomplete(
    paused: tuple[Store, Dataset], tmp_path: Path
) -> None:
    store, data = paused

    def crops() -> torch.Tensor:
        waveforms = WaveformDataset(data, store, "train", ["mix"], CROP, tmp_path)
        return waveforms.sample(4, np.random.default_rng(1))

    expected = crops()
    [path] = tmp_path.iterdir()
    written = path.stat().st_mtime_ns
    assert torch.equal(crops(), expected)
    assert path.stat().st_mtime_ns == written
    path.write_bytes(path.read_bytes()[:-2])
    path.with_suffix(".tmp").write_bytes(b"half")
    assert torch.equal(crops(), expected)
    assert list(tmp_path.iterdir()) == [path]


def test_too_little_sound_is_named(paused: tuple[Store, Dataset], tmp_path: Path) -> None:
    store, data = paused
    with pytest.raises(InputError, match=r"test has no 9\.0 s of usable mix"):
        WaveformDataset(data, store, "test", ["mix"], 9 * FEATURE.sample_rate, tmp_path)


# The model.


@pytest.mark.parametrize("frames", [2, 3, 10, 87])
def test_a_wav_has_whole_hops(frames: int) -> None:
    with torch.no_grad():
        wav = model()(torch.zeros(2, FEATURE.n_bands, frames))
    assert wav.shape == (2, (frames - 1) * FEATURE.hop_length)
    assert bool(wav.isfinite().all())


def test_the_sound_of_any_finite_spectrum_is_finite() -> None:
    with torch.no_grad():
        assert bool(model()(torch.full((1, FEATURE.n_bands, 20), 1e4)).isfinite().all())


def test_a_loaded_vocoder_makes_the_same_sound(dense: Trained, tmp_path: Path) -> None:
    folder = Path(str(dense.store.at(dense.vocoder.uri)))
    loaded = vocoder.load(folder)
    save_weights(tmp_path, {"model": loaded}, load_config(folder))
    fresh = NeuralVocoder(loaded.config, loaded.feature).eval()
    fresh.load_state_dict(loaded.state_dict())
    spectrum = FeatureExtractor(FEATURE)(noise(batch=1)[0])["log_bands"][None]
    assert (loaded.config, loaded.feature, loaded.training) == (VOCODER, FEATURE, False)
    with torch.no_grad():
        wav = loaded(spectrum)
        assert torch.equal(vocoder.load(tmp_path)(spectrum), wav)
        assert torch.equal(fresh(spectrum), wav)


def test_a_vocoder_of_other_features_is_refused(dense: Trained, tmp_path: Path) -> None:
    folder = Path(str(dense.store.at(dense.vocoder.uri)))
    other = replace(FEATURE, n_mels=20)
    save_weights(
        tmp_path, {"model": NeuralVocoder(VOCODER, other)}, load_config(folder) | {"feature": vars(other)}
    )
    with pytest.raises(InputError, match=r"n_mels=40.*n_mels=20"):
        load_vocoder("neural", FEATURE, tmp_path)
    with pytest.raises(InputError, match="'griffin_lim' where there is no vocoder checkpoint"):
        load_vocoder("neural", FEATURE, None)


@pytest.mark.parametrize("block_frames", [16, 50, 199, 200])
def test_long_sound_made_in_blocks_is_the_same(block_frames: int) -> None:
    long = changed_model()
    spectrum = LogBands(FEATURE)(noise(200 * FEATURE.hop_length / FEATURE.sample_rate))
    with torch.no_grad():
        wav, blocks = long(spectrum), long(spectrum, block_frames=block_frames)
    assert blocks.shape == wav.shape
    assert torch.allclose(blocks, wav, atol=1e-3 * float(wav.abs().max()))


@pytest.mark.parametrize(("frames", "block_frames"), [(2, 4096), (60, 4096), (60, 16)])
def test_known_phases_make_the_same_sound(frames: int, block_frames: int) -> None:
    spectrum = LogBands(FEATURE)(noise(1.0))[:, :, :frames]
    given = changed_model()
    known = given.initial_spectrum(pad_to_window(spectrum, FEATURE))[1]
    with torch.no_grad():
        expected = given(spectrum, block_frames)
        assert torch.allclose(given(spectrum, block_frames, known), expected, atol=1e-4)
        assert not torch.allclose(given(spectrum, block_frames, known + 1), expected, atol=1e-2)


# Its training.


def test_training_improves_the_untrained_vocoder_and_reports_it(dense: Trained, tmp_path: Path) -> None:
    trained, store = dense.vocoder, dense.store
    history = trained.metrics["history"]
    assert [row["step"] for row in history] == [0, 4, 8]
    # The discriminators start half-way, and only weights from then on are kept.
    adversarial = {"train/adv/disc", "train/adv/gen", "train/adv/feature_matching"}
    assert [adversarial & row.keys() for row in history] == [set(), set(), adversarial]
    assert {"train/recon/bands", "train/recon/stft"} <= history[1].keys()
    assert trained.metrics["best_step"] == 8
    assert trained.metrics["validation/stft"] == history[2]["validation/stft"]
    assert (trained.name, trained.inputs) == ("vocoder_checkpoint", {"feature_table": dense.dataset.version})
    window = round(VALIDATION_WINDOW_S * FEATURE.frame_rate) * FEATURE.hop_length
    data = Dataset(store, dense.dataset)
    validation = WaveformDataset(data, store, "validation", ["mix"], window, tmp_path)
    spectrum_of = LogBands(FEATURE)
    with torch.no_grad():
        spectrum = spectrum_of(validation.evenly_spaced(VALIDATION_WINDOWS))
        start, end = (
            float((spectrum_of(v(spectrum)) - spectrum).abs().mean())
            for v in (model(), vocoder.load(Path(str(store.at(trained.uri)))))
        )
    assert start == pytest.approx(history[0]["validation/log_bands_l1"], rel=1e-3)
    assert end == pytest.approx(history[2]["validation/log_bands_l1"], rel=1e-3)
    # The initial spectrum is good, and eight steps are few.
    assert end < 0.97 * start


def test_initial_phases_are_computed_by_the_loader_thread_alone(
    dense: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = VocoderTask(Dataset(dense.store, dense.dataset), dense.store, VOCODER, CPU, tmp_path)
    single_pass_phase, threads = phase.single_pass_phase, []

    def recorded(*args: object, **kwargs: object) -> torch.Tensor:
        threads.append(threading.current_thread().name)
        return single_pass_phase(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(phase, "single_pass_phase", recorded)
    for step, batch in enumerate(prefetch(task.get_batch, range(3), CPU)):
        spectrum = LogBands(FEATURE)(batch["wav"])
        expected = single_pass_phase(task.model.initial_spectrum.magnitude(spectrum), FEATURE.hop_length)
        assert torch.equal(batch["phase"], expected)
        assert len([*task.training_step(step, batch)]) == 1
        # From disc_start on, too, and in a validation.
        assert len([*task.training_step(7, batch)]) == 2
        task.validate(step)
    assert len(threads) == 3
    assert all(name.startswith("batches") for name in threads)


def test_it_is_compared_with_griffin_lim(dense: Trained) -> None:
    figures = dense.vocoder.metrics
    assert figures["test/device"] == "cpu"
    for name in ("neural", "griffin_lim"):
        assert all(math.isfinite(figures[f"test/{name}/{k}"]) for k in ("log_bands_l1", "stft"))
        assert figures[f"test/{name}/times_real_time"] > 0
    # Eight steps are not enough to be better.
    assert figures["test/neural/log_bands_l1"] > figures["test/griffin_lim/log_bands_l1"]


def test_the_comparison_is_the_same_in_batches_and_one_by_one(
    dense: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = vocoder.load(Path(str(dense.store.at(dense.vocoder.uri))))
    data = Dataset(dense.store, dense.dataset)
    sizes: list[int] = []

    def measured(batch: int) -> dict[str, float]:
        monkeypatch.setattr(comparison, "BATCH", batch)
        figures = comparison.compare(data, dense.store, ["mix"], {"neural": trained}, CPU, tmp_path)
        return {k: v for k, v in figures.items() if isinstance(v, float) and not k.endswith("times_real_time")}

    trained.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    together = measured(16)
    # The first is not timed.
    assert sizes[0] == 1 and max(sizes[1:]) > 1
    assert measured(1) == pytest.approx(together, rel=1e-3)


def test_training_twice_is_a_no_op(dense: Trained) -> None:
    def never(step: int, figures: dict[str, float]) -> None:
        raise AssertionError("trained again")

    assert vocoder.train(dense.dataset, dense.store, VOCODER, never) == dense.vocoder
    assert list((Path(dense.store.root) / "work").glob("training/vocoder/vocoder/*")) == []


def test_tracks_shorter_than_a_test_window_are_measured(paused: tuple[Store, Dataset]) -> None:
    store, _ = paused
    quick = replace(VOCODER, adv_weight=0.0, optimizer=replace(VOCODER.optimizer, max_steps=1))
    trained = vocoder.train(assemble(store, feature=FEATURE), store, quick)
    assert math.isfinite(trained.metrics["test/neural/stft"])
    assert trained.metrics["best_step"] == 1
