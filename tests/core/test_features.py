import hashlib
import json
import multiprocessing
import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st

from melodygan_core import audio, features
from melodygan_core.config import FeatureConfig, SeparationConfig, replace
from melodygan_core.errors import InputError
from melodygan_core.features.spectral import SparseBands
from melodygan_core.storage import Store
from tests.core.made import FEATURE, SEPARATION, put_sound

SMALL = FeatureConfig(sample_rate=22_050, n_fft=1024, hop_length=256, bands_up_to_hz=1000, upper_bands=30)
LARGE = FeatureConfig(n_mels=128, n_mfcc=40)
ODD = FeatureConfig(
    sample_rate=16_000, n_fft=600, hop_length=170, bands_up_to_hz=900, upper_bands=31, n_mels=37, n_mfcc=13
)
SEGMENT = SMALL.segment_frames * SMALL.hop_length


@lru_cache
def torchaudio_transforms(config: FeatureConfig) -> tuple[torch.nn.Module, torch.nn.Module]:
    sizes = {"n_fft": config.n_fft, "hop_length": config.hop_length, "n_mels": config.n_mels}
    mel = torchaudio.transforms.MelSpectrogram(
        config.sample_rate, power=1, norm=None, mel_scale="htk", center=True, pad_mode="reflect", **sizes
    )
    mfcc = torchaudio.transforms.MFCC(
        config.sample_rate, config.n_mfcc, log_mels=True, melkwargs={"power": 2, "mel_scale": "htk", **sizes}
    )
    return mel, mfcc


def torchaudio_features(wav: torch.Tensor, config: FeatureConfig) -> tuple[torch.Tensor, torch.Tensor]:
    mel, mfcc = torchaudio_transforms(config)
    return mel(wav).clamp(min=config.log_floor).log(), mfcc(wav)


def mels(config: FeatureConfig, wav: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    found = features.FeatureExtractor(config)(wav)
    return found["log_mel"], found["mfcc"]


def noise(samples: int, seed: int = 0, gain: float = 0.1) -> torch.Tensor:
    return gain * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


# Spectra.


@settings(max_examples=15, deadline=None)
@given(samples=st.integers(513, 60_000), seed=st.integers(0, 1000))
def test_equals_torchaudio_for_any_length(samples: int, seed: int) -> None:
    wav = noise(samples, seed)
    log_mel, mfcc = mels(SMALL, wav)
    log_mel_there, mfcc_there = torchaudio_features(wav, SMALL)
    assert log_mel.shape == (80, 1 + samples // 256)
    torch.testing.assert_close(log_mel, log_mel_there, atol=2e-5, rtol=0)
    torch.testing.assert_close(mfcc, mfcc_there, atol=5e-4, rtol=0)


@pytest.mark.parametrize("config", [SMALL, LARGE, ODD])
@pytest.mark.parametrize("samples", [2049, 4096, 44_099])
def test_equals_torchaudio_for_any_config(config: FeatureConfig, samples: int) -> None:
    wav = noise(samples, gain=0.5)
    wav[samples // 2 :] *= 1e-4
    log_mel, mfcc = mels(config, wav)
    log_mel_there, mfcc_there = torchaudio_features(wav, config)
    # Quiet frames sit near the floor, where the log magnifies the float32 rounding of the FFT.
    torch.testing.assert_close(log_mel, log_mel_there, atol=5e-4, rtol=0)
    torch.testing.assert_close(mfcc, mfcc_there, atol=5e-4, rtol=0)
    assert log_mel.dtype == mfcc.dtype == torch.float32


@pytest.mark.parametrize("frames", [1, 3, 4, 7])
def test_bands_equal_the_filterbank_and_the_dense_products(frames: int) -> None:
    filterbank = features.mel_filterbank(ODD)
    # A band without a bin, as many narrow bands are, is 0.
    filterbank[:, 5] = 0
    rng = torch.Generator().manual_seed(0)
    spectrum = torch.randn(frames, len(filterbank), dtype=torch.complex64, generator=rng)
    spectrum[0, :3] = torch.tensor([0, 1e-20, 3 + 4j])
    second = features.band_filterbank(ODD)
    bands = SparseBands(filterbank, second)
    compiled, other = torch.empty(2, 2, frames, 37)
    magnitudes = torch.empty(2, frames, second.shape[1])
    bands(spectrum, compiled[0], compiled[1], magnitudes[0])
    bands._by_torch(spectrum, other[0], other[1], magnitudes[1])
    exact = torch.stack([spectrum.abs(), spectrum.abs().square()]).double() @ filterbank.double()
    torch.testing.assert_close(compiled.double(), exact, rtol=2e-6, atol=0)
    torch.testing.assert_close(other.double(), exact, rtol=2e-6, atol=0)
    assert float(compiled[:, :, 5].abs().max()) == 0
    exact = (spectrum.abs().double() @ second.double()).expand(2, -1, -1)
    torch.testing.assert_close(magnitudes.double(), exact, rtol=2e-6, atol=1e-24)


def test_block_boundaries_do_not_matter() -> None:
    wav, side = noise(50_000), 0.5 * noise(50_000).flip(0)
    in_one_block = features.FeatureExtractor(SMALL, block_frames=10_000)(wav, side)
    # Several threads split the frames in more positions.
    for block_frames in (1, 7, 128):
        ours = features.FeatureExtractor(SMALL, block_frames=block_frames)(wav, side)
        assert ours.keys() == {"log_mel", "mfcc", "log_bands", "stereo"}
        for name, values in ours.items():
            torch.testing.assert_close(values, in_one_block[name], atol=1e-5, rtol=0)


def test_threads_change_neither_the_result_nor_torchs_setting() -> None:
    wav, before = noise(50_000), torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(features.FeatureExtractor(SMALL)(wav))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for found in results[1:]:
        for name, atol in (("log_mel", 1e-5), ("log_bands", 1e-5), ("mfcc", 5e-4)):
            torch.testing.assert_close(found[name], results[0][name], atol=atol, rtol=0)


@pytest.mark.parametrize("frequency_hz", [110.0, 440.0, 1000.0, 5000.0])
def test_tone_peaks_in_its_band(frequency_hz: float) -> None:
    time_s = torch.arange(22_050) / 22_050
    log_mel, _ = mels(SMALL, 0.5 * torch.sin(2 * torch.pi * frequency_hz * time_s))
    filterbank = features.mel_filterbank(SMALL)
    nearest_bin = round(frequency_hz * SMALL.n_fft / SMALL.sample_rate)
    assert log_mel[:, 10:-10].mean(1).argmax() == filterbank[nearest_bin].argmax()


def test_silence_is_the_floor() -> None:
    extractor = features.FeatureExtractor(SMALL)
    found, silence = extractor(torch.zeros(10_000)), extractor.silence()
    assert found.keys() == silence.keys() == SMALL.columns.keys()
    for name, width in SMALL.columns.items():
        torch.testing.assert_close(found[name], silence[name][:, None].expand(width, 40), atol=5e-4, rtol=0)
    for name in ("log_mel", "log_bands"):
        assert float(found[name].min()) == float(found[name].max()) == pytest.approx(np.log(1e-5), abs=1e-5)
    assert float(silence["mfcc"][0]) == pytest.approx(np.log(1e-6) * np.sqrt(80), rel=1e-5)
    assert float(silence["mfcc"][1:].abs().max()) < 1e-3


def test_a_click_changes_only_frames_around_it() -> None:
    wav = torch.zeros(40 * 256)
    wav[20 * 256] = 1.0
    log_mel, _ = mels(SMALL, wav)
    heard = (log_mel.amax(0) > np.log(1e-5) + 1).nonzero().flatten().tolist()
    # Half a window, 512 samples or two hops, reaches to both sides; its outermost sample has no weight.
    assert heard == [19, 20, 21]
    # The window is 1 at its centre, so every bin holds 1 and a band holds the sum of its weights.
    expected = features.mel_filterbank(SMALL).sum(0).clamp(min=1e-5).log()
    torch.testing.assert_close(log_mel[:, 20], expected, atol=5e-4, rtol=0)


@pytest.mark.parametrize("samples", [1, 255, 256, 512])
def test_short_wav_is_extended_by_zeros(samples: int) -> None:
    extractor = features.FeatureExtractor(SMALL)
    wav = noise(samples)
    found = extractor(wav)
    extended = extractor(torch.nn.functional.pad(wav, (0, 513 - samples)))
    assert found["log_mel"].shape == (80, 1 + samples // 256)
    for name, values in found.items():
        torch.testing.assert_close(values, extended[name][:, : values.shape[1]])


@pytest.mark.parametrize("wav", [torch.zeros(0), torch.zeros(2, 1000)])
def test_wrong_shape_is_named(wav: torch.Tensor) -> None:
    with pytest.raises(InputError, match=r"(?=.*wav.shape)(?=.*samples,)"):
        features.FeatureExtractor(SMALL)(wav)


@pytest.mark.parametrize("length", [SEGMENT * 5, SEGMENT * 4 + 9000, SEGMENT * 4 + 3000, SEGMENT * 4])
def test_segment_loudness_equals_the_loudness_of_each_segment(length: int) -> None:
    rng = np.random.default_rng(3)
    gains = np.repeat(rng.uniform(0.02, 0.5, 60), 3000)[:length]
    wav = (rng.standard_normal(length) * gains).astype(np.float32)
    ours = features.segment_loudness(wav, 22_050, SEGMENT, 5)
    pieces = [wav[i * SEGMENT : (i + 1) * SEGMENT] for i in range(5)]
    alone = [audio.loudness_lufs(piece, 22_050) for piece in pieces]
    np.testing.assert_allclose(ours, alone, atol=0.05)
    expected = features.segment_loudness(wav, 22_050, length, 1)[0]
    assert expected == pytest.approx(audio.loudness_lufs(wav, 22_050), abs=1e-4)


# The store.


def put_track(store: Store, track_id: str, mix: np.ndarray, vocals: np.ndarray | None = None) -> None:
    """A downloaded and separated track; wavs are (samples,) or (channels, samples) at 22.05 kHz."""
    vocals = 0.5 * mix if vocals is None else vocals
    folder = Path(store.stems(SEPARATION.model_id, track_id).path)
    for path in (Path(store.raw_wav(track_id).path), folder / "vocals.wav", folder / "instrumental.wav"):
        path.parent.mkdir(parents=True, exist_ok=True)
        wav = {"vocals": vocals, "instrumental": mix - vocals}.get(path.stem, mix)
        soundfile.write(path, np.atleast_2d(wav).T, 22_050, subtype="FLOAT")
    (folder / "stems.json").write_text(json.dumps({"raw_sha256": track_id, "stems": {}}))


def extract_one(store: Store, mix: np.ndarray, config: FeatureConfig = SMALL) -> tuple[Path, dict]:
    put_track(store, "one", mix)
    (outcome,) = features.extract(["one"], store, config, SEPARATION).outcomes
    assert not outcome.error, outcome.error
    return Path(store.at(outcome.metadata["uri"]).path), outcome.metadata


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def test_rows_hold_the_output_of_the_extractor(store: Store) -> None:
    mix = noise(2 * SEGMENT + 20_000).numpy()
    path, metadata = extract_one(store, mix)
    table = features.read(path)
    assert table.schema.remove_metadata().equals(features.schema(SMALL))
    assert table["stem"].to_pylist() == ["vocals"] * 3 + ["instrumental"] * 3 + ["mix"] * 3
    assert table["index"].to_pylist() == [0, 1, 2] * 3
    assert table["start_s"].to_pylist() == [i * SMALL.segment_s for i in range(3)] * 3
    frames = 1 + len(mix) // 256
    assert table["valid_frames"].to_pylist() == [128, 128, frames - 256] * 3
    extractor = features.FeatureExtractor(SMALL)
    expected, silence = extractor(torch.from_numpy(mix)), extractor.silence()
    for name, width in SMALL.columns.items():
        reference, padding = expected[name].T.numpy(), silence[name].numpy()
        rows = features.values_of(table, SMALL, name)[6:].reshape(-1, width)
        np.testing.assert_array_equal(rows[:frames], reference.astype(np.float16))
        np.testing.assert_array_equal(
            rows[frames:], np.broadcast_to(padding.astype(np.float16), rows[frames:].shape)
        )
    assert metadata["segments"] == metadata["usable_segments"] == 9
    assert metadata["bytes"] == path.stat().st_size
    assert metadata["duration_s"] == pytest.approx(len(mix) / 22_050, abs=1e-3)
    assert metadata["mix_loudness_lufs"] == pytest.approx(audio.loudness_lufs(mix, 22_050), abs=0.01)


def test_reading_back_copies_nothing(store: Store) -> None:
    path, _ = extract_one(store, noise(3 * SEGMENT).numpy())
    table = features.read(path, ["log_mel"])
    log_mel = features.values_of(table, SMALL, "log_mel")
    assert table.column_names == ["log_mel"]
    assert log_mel.dtype == np.float16
    assert log_mel.shape == (table.num_rows, 128, 80)
    values = table["log_mel"].chunk(0).values.to_numpy(zero_copy_only=True)
    assert np.shares_memory(log_mel, values)
    np.testing.assert_array_equal(features.values_of(table.slice(2, 3), SMALL, "log_mel"), log_mel[2:5])
    with pytest.raises(InputError, match=r"(?=.*log_mel width)(?=.*10240)"):
        features.values_of(table, LARGE, "log_mel")


def test_parquet_layout_and_footer(store: Store) -> None:
    path, _ = extract_one(store, noise(2 * SEGMENT).numpy())
    footer = pq.read_metadata(path)
    assert footer.num_row_groups == 3
    group = footer.row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert [name for name in columns if "list" in name] == [f"{name}.list.element" for name in SMALL.columns]
    for name in (*(f"{name}.list.element" for name in SMALL.columns), "loudness_lufs"):
        assert "BYTE_STREAM_SPLIT" in columns[name].encodings
    assert all(column.compression == "ZSTD" for column in columns.values())
    assert not any(column.has_dictionary_page for column in columns.values())
    facts = features.footer(path)
    stems = store.stems(SEPARATION.model_id, "one") / "stems.json"
    assert facts["stems_sha256"] == hashlib.sha256(stems.read_bytes()).hexdigest()
    assert facts["feature_id"] == features.feature_id(SMALL, SEPARATION)
    assert FeatureConfig(**json.loads(facts["config"])) == SMALL
    # What the dataset reads.
    assert pq.read_schema(path).metadata[b"feature_id"].decode() == facts["feature_id"]


def test_second_run_is_a_no_op_until_the_stems_change(store: Store) -> None:
    path, first = extract_one(store, noise(2 * SEGMENT).numpy())
    before = (path.stat().st_mtime_ns, path.read_bytes())
    (outcome,) = features.extract(["one"], store, SMALL, SEPARATION).outcomes
    assert outcome.skipped
    assert outcome.metadata == first
    assert (path.stat().st_mtime_ns, path.read_bytes()) == before
    put_track(store, "one", noise(3 * SEGMENT).numpy())
    (store.stems(SEPARATION.model_id, "one") / "stems.json").write_text("{}")
    (outcome,) = features.extract(["one"], store, SMALL, SEPARATION).outcomes
    assert not outcome.skipped
    assert outcome.metadata["segments"] == 12
    assert sorted(p.name for p in path.parent.iterdir()) == ["one.parquet"]


def test_a_failed_track_is_named_and_the_rest_continue(store: Store) -> None:
    for track_id in ("a", "b", "c", "d"):
        put_track(store, track_id, noise(SEGMENT).numpy())
    (store.stems(SEPARATION.model_id, "b") / "stems.json").unlink()
    (store.stems(SEPARATION.model_id, "c") / "vocals.wav").unlink()
    store.raw_wav("d").write_bytes(b"not sound")
    report = features.extract(["a", "b", "c", "d"], store, SMALL, SEPARATION)
    assert [o.track_id for o in report.good] == ["a"]
    errors = {o.track_id: o.error for o in report.failed}
    assert "b has no stems" in errors["b"]
    assert "vocals.wav" in errors["c"]
    assert "d.wav is not readable audio" in errors["d"]
    assert [o.permanent for o in report.failed] == [False, False, True]
    assert not store.features(features.feature_id(SMALL, SEPARATION), "c").exists()


@pytest.mark.slow
def test_processes_give_the_same_files(store: Store, tmp_path: Path) -> None:
    other = Store(str(tmp_path / "other"))
    for track_id in ("a", "b"):
        for each in (store, other):
            put_track(each, track_id, noise(SEGMENT, seed=ord(track_id)).numpy())
    features.extract(["a", "b"], store, SMALL, SEPARATION)
    report = features.extract(["a", "b"], other, replace(SMALL, workers=2), SEPARATION)
    assert not report.failed
    for track_id in ("a", "b"):
        paths = [each.features(features.feature_id(SMALL, SEPARATION), track_id) for each in (store, other)]
        assert features.read(Path(paths[0].path)).equals(features.read(Path(paths[1].path)))


def test_unusable_segments_have_a_reason(store: Store) -> None:
    mix = noise(5 * SEGMENT + 5000).numpy()
    mix[SEGMENT : 2 * SEGMENT] = 0.0
    mix[2 * SEGMENT : 3 * SEGMENT] = np.clip(40 * mix[2 * SEGMENT : 3 * SEGMENT], -1, 1)
    mix[4 * SEGMENT + 100] = np.nan
    path, metadata = extract_one(store, np.stack([mix, mix]))
    table = features.read(path, ["stem", "usable", "reason", "peak_db", "log_mel"])
    reasons = table["reason"].to_pylist()[-6:]
    assert reasons == ["", "silent", "clipped", "", "not finite", "short"]
    assert table["usable"].to_pylist()[-6:] == [r == "" for r in reasons]
    assert table["peak_db"].to_pylist()[-5] == audio.SILENCE_DB
    assert np.isfinite(features.values_of(table, SMALL, "log_mel")).all()
    # The stems are half as loud and not clipped.
    assert metadata["unusable"] == {"clipped": 1, "not finite": 3, "short": 3, "silent": 3}
    assert metadata["usable_segments"] == 18 - 10


def test_stereo_is_averaged_and_resampled(store: Store) -> None:
    time_s = np.arange(3 * 44_100) / 44_100
    left = np.sin(2 * np.pi * 1000 * time_s).astype(np.float32)
    put_track(store, "one", np.zeros(1000, np.float32))
    soundfile.write(
        store.raw_wav("one").path, np.stack([left, np.zeros_like(left)], 1), 44_100, subtype="FLOAT"
    )
    (outcome,) = features.extract(["one"], store, SMALL, SEPARATION).outcomes
    table = features.read(Path(store.at(outcome.metadata["uri"]).path))
    # 3 s of mix: 259 frames, a third row of 3; the 1000 samples of the stems are 4 frames, one row each.
    assert table["valid_frames"].to_pylist() == [4, 4, 128, 128, 3]
    assert table["peak_db"].to_pylist()[2] == pytest.approx(-6.02, abs=0.02)
    log_mel = features.values_of(table, SMALL, "log_mel")[2].astype(np.float32)
    tone = features.mel_filterbank(SMALL)[round(1000 * 1024 / 22_050)].argmax()
    assert (log_mel[5:-5].argmax(1) == int(tone)).all()


def test_ids_follow_config_and_separation_but_not_workers() -> None:
    base = features.feature_id(SMALL, SEPARATION)
    assert base == features.feature_id(replace(SMALL, workers=4), SEPARATION)
    assert base != features.feature_id(replace(SMALL, n_mels=64), SEPARATION)
    assert base != features.feature_id(SMALL, SeparationConfig(model="other.onnx"))


def test_a_serial_extraction_leaves_the_number_of_threads_to_its_process(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training that follows in the same process would end with other last digits."""
    put_sound(store, "a", 0)
    before = torch.get_num_threads()
    monkeypatch.setattr(os, "cpu_count", lambda: before + 3)
    monkeypatch.setattr(multiprocessing, "parent_process", object)
    report = features.extract(["a"], store, FEATURE, SEPARATION)
    assert not report.failed
    assert torch.get_num_threads() == before
