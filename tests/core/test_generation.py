"""Generation: noise, cross-fades, pieces of every pipeline, and the files with their provenance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch

from melodygan_core import audio, generation
from melodygan_core.codec import Decoded
from melodygan_core.codec.dense.model import _crossfade
from melodygan_core.config import GenerationConfig, replace
from melodygan_core.dataset import Dataset
from melodygan_core.errors import InputError, MelodyGANError
from melodygan_core.generation import pieces
from melodygan_core.piece_files import frames_of
from melodygan_core.pipeline import Pipeline, Sample
from melodygan_core.plan import Plan
from melodygan_core.prior import DEFAULT_SAMPLING, Sampling
from melodygan_core.prior.gan.layers import truncated_noise
from melodygan_core.progress import ProgressEvent
from melodygan_core.vocoder import Seeds
from tests.core.made import FEATURE, GENERATION, HOSTILE, Trained


@pytest.fixture(scope="module")
def pipeline(dense: Trained) -> Pipeline:
    """`dense_gan`."""
    return dense.open()


@pytest.fixture(scope="module", params=["dense", "temporal_trained"])
def any_pipeline(request: pytest.FixtureRequest) -> Pipeline:
    """Each pipeline in turn."""
    return request.getfixturevalue(request.param).open()


def write(pipeline: Pipeline, folder: Path, config: GenerationConfig) -> Path:
    """Writes pieces into a new folder."""
    folder.mkdir()
    generation.write_pieces(pipeline, config, folder, {})
    return folder


# Noise and cross-fades.


def test_truncated_noise_stays_within_its_limit() -> None:
    rng = torch.Generator().manual_seed(0)
    noise = truncated_noise((400, 50), 1.5, rng)
    assert float(noise.abs().max()) <= 1.5
    # Drawn again, not clipped: few lie at the edge, and the spread is that of a truncated normal.
    assert float((noise.abs() > 1.499).float().mean()) < 0.002
    assert float(noise.std()) == pytest.approx(0.743, abs=0.02)
    free = truncated_noise((400, 50), 0, torch.Generator().manual_seed(3))
    assert torch.equal(free, torch.randn(400, 50, generator=torch.Generator().manual_seed(3)))


@pytest.mark.parametrize("n", [1, 2, 5])
def test_constant_segments_join_to_a_constant(n: int) -> None:
    frames = 28 * (n - 1) + 32
    joined = _crossfade(torch.full((n, 3, 32), -2.5), 4, frames)
    assert joined.shape == (3, frames)
    assert torch.allclose(joined, torch.full_like(joined, -2.5), atol=1e-5)


def test_a_crossfade_is_linear_in_magnitude() -> None:
    joined = _crossfade(torch.stack([torch.zeros(1, 8), torch.full((1, 8), 2.0)]), 3, 13).exp()[0]
    loud = torch.tensor(2.0).exp()
    expected = torch.tensor([1.0] * 5 + [1 + (loud - 1) * k / 4 for k in (1, 2, 3)] + [loud] * 5)
    assert torch.allclose(joined, expected, rtol=1e-4)


# Pieces.


@pytest.mark.parametrize(("fixture", "tables"), [("dense", ["vectors"]), ("temporal_trained", [])])
def test_the_same_seed_is_the_same_bytes(
    request: pytest.FixtureRequest, tmp_path: Path, fixture: str, tables: list[str]
) -> None:
    pipeline = request.getfixturevalue(fixture).open()
    one, two = (write(pipeline, tmp_path / n, GENERATION) for n in ("one", "two"))
    names = sorted(p.name for p in one.iterdir())
    assert names == sorted(
        [f"sample-00{i}.{e}" for i in range(3) for e in ("json", "wav")]
        + [f"{table}.parquet" for table in ("latents", *tables)]
    )
    for name in names:
        assert (one / name).read_bytes() == (two / name).read_bytes()
    other = write(pipeline, tmp_path / "other", replace(GENERATION, count=1, seed=1))
    assert (other / "sample-000.wav").read_bytes() != (one / "sample-000.wav").read_bytes()


def test_a_piece_does_not_depend_on_how_many_there_are(any_pipeline: Pipeline) -> None:
    few, many = (list(pieces(any_pipeline, replace(GENERATION, count=c))) for c in (2, 4))
    for a, b in zip(few, many, strict=False):
        assert np.array_equal(a.wav, b.wav)
        assert a.condition == b.condition
    assert not torch.allclose(many[0].sample.latents, many[1].sample.latents)


@pytest.mark.parametrize("duration_s", [0.01, 0.1, 0.3715, 1.0, 2.345])
def test_a_piece_has_exactly_the_requested_duration(any_pipeline: Pipeline, duration_s: float) -> None:
    (piece,) = pieces(any_pipeline, replace(GENERATION, count=1, duration_s=duration_s))
    channels = 2 if "stereo" in any_pipeline.codec.columns else 1
    assert piece.wav.shape == (channels, round(duration_s * FEATURE.sample_rate))
    assert piece.wav.dtype == np.float32
    sample = piece.sample
    frames = frames_of(duration_s, FEATURE)
    assert sample.decoded.spectrum.shape == (1, frames, FEATURE.n_bands)
    assert sample.latents.shape == (any_pipeline.codec.tokens_for(frames), any_pipeline.codec.latent_dim)


@pytest.mark.parametrize("duration_s", [0.01, 0.3715, 1.0, 2.345])
def test_no_token_more_is_generated_than_needed(any_pipeline: Pipeline, duration_s: float) -> None:
    frames = frames_of(duration_s, FEATURE)
    tokens = any_pipeline.codec.tokens_for(frames)
    # The dense codec's segments overlap by 4 of their 32 frames.
    overlap = 4 if any_pipeline.name == "dense_gan" else 0
    hop = any_pipeline.codec.token_frames - overlap
    assert frames <= hop * tokens + overlap
    assert tokens == 1 or frames > hop * (tokens - 1) + overlap


def test_vectors_are_what_the_dense_decoder_makes_of_the_latents(pipeline: Pipeline) -> None:
    (piece,) = pieces(pipeline, replace(GENERATION, count=1))
    sample, codec = piece.sample, pipeline.codec
    assert sample.vectors is not None
    with torch.no_grad():
        assert torch.equal(codec.decode_targets(sample.latents), sample.vectors)
        first = codec.decode(sample.latents[None, :1]).spectrum[:, :28]
    assert torch.allclose(sample.decoded.spectrum[:, :28], first, atol=1e-4)


def test_the_spectrum_is_what_the_temporal_decoder_makes_of_the_latents(temporal_trained: Trained) -> None:
    pipeline = temporal_trained.open()
    (piece,) = pieces(pipeline, replace(GENERATION, count=1))
    expected, found = pipeline.decode(piece.sample.latents[None]), piece.sample.decoded
    frames = found.spectrum.shape[1]
    assert piece.sample.vectors is None
    assert torch.allclose(found.spectrum, expected.spectrum[:, :frames], atol=1e-5)


def test_a_condition_is_obeyed_and_unknown_ones_are_refused(pipeline: Pipeline) -> None:
    quick = replace(GENERATION, duration_s=0.1)
    assert pipeline.conditions == ("fast", "minor", "slow")
    assert {p.condition for p in pieces(pipeline, replace(quick, condition="slow"))} == {"slow"}
    assert {p.condition for p in pieces(pipeline, replace(quick, count=12))} == set(pipeline.conditions)
    one, two = (next(pieces(pipeline, replace(quick, condition=c))) for c in ("slow", "fast"))
    assert not torch.allclose(one.sample.latents, two.sample.latents)
    with pytest.raises(InputError, match=r"condition must be .*fast, minor, slow, got 'loud'"):
        next(pieces(pipeline, replace(quick, condition="loud")))


def test_a_prior_without_conditions_refuses_one(temporal_trained: Trained) -> None:
    pipeline = temporal_trained.open()
    assert pipeline.conditions == ()
    assert next(pieces(pipeline, GENERATION)).condition == ""
    with pytest.raises(InputError, match="without conditions, got 'slow'"):
        next(pieces(pipeline, replace(GENERATION, condition="slow")))


# Loudness.


class _Loud(Pipeline):
    """A pipeline whose vocoder returns given wavs, one per piece."""

    def __init__(self, pipeline: Pipeline, wavs: list[np.ndarray]) -> None:
        super().__init__(pipeline.name, pipeline.codec, pipeline.prior, self._next, pipeline.device)
        self._wavs = iter(wavs)

    def sample(
        self,
        frames: int,
        seed: int,
        condition: int | None = None,
        truncation: float = 0.0,
        sampling: Sampling = DEFAULT_SAMPLING,
        plan: Plan | None = None,
    ) -> Sample:
        return Sample(torch.zeros(1, 2), None, Decoded(torch.zeros(1, frames, FEATURE.n_bands)))

    def _next(self, spectrum: torch.Tensor, seed: Seeds) -> torch.Tensor:
        return torch.from_numpy(next(self._wavs))[None]


def sine(amplitude: float, peak: float = 0.0, seconds: float = 1.0) -> np.ndarray:
    """A tone of 440 Hz, with one click of a height of its own."""
    t = np.arange(round(seconds * FEATURE.sample_rate)) / FEATURE.sample_rate
    wav = (amplitude * np.sin(2 * np.pi * 440 * t)).astype(np.float32)
    wav[len(wav) // 2] += np.float32(peak)
    return wav


def written(pipeline: Pipeline, wavs: list[np.ndarray], folder: Path) -> tuple[list[np.ndarray], list[dict]]:
    """What is written where the vocoder returns these wavs, and the summaries."""
    config = replace(GENERATION, count=len(wavs), duration_s=1.0, loudness_lufs=-20.0)
    rows = generation.write_pieces(_Loud(pipeline, wavs), config, folder, {})
    return [audio.read_wav(folder / row["file"])[0][0] for row in rows], rows


def test_all_pieces_of_a_call_have_one_loudness(pipeline: Pipeline, tmp_path: Path) -> None:
    sources = [sine(0.01), sine(0.5), sine(0.1)]
    wavs, rows = written(pipeline, sources, tmp_path)
    for wav, row, source in zip(wavs, rows, sources, strict=True):
        assert audio.loudness_lufs(wav, FEATURE.sample_rate) == pytest.approx(-20.0, abs=0.02)
        assert row["loudness_lufs"] == pytest.approx(-20.0, abs=0.02)
        # Only the level changes.
        assert np.corrcoef(wav, source)[0, 1] > 0.9999


def test_a_piece_that_its_peak_limits_lowers_the_others(pipeline: Pipeline, tmp_path: Path) -> None:
    clicking, others = sine(0.01, peak=0.5), [sine(0.3), sine(0.02)]
    wavs, rows = written(pipeline, [clicking, *others], tmp_path)
    rate = FEATURE.sample_rate
    assert audio.peak_db(wavs[0]) == pytest.approx(-1.0, abs=0.01)
    # Exactly as loud as the limited one can be: its loudness and the -1 dB of its peak.
    limit = audio.loudness_lufs(clicking, rate) - 1.0 - audio.peak_db(clicking)
    assert limit < -25
    assert [audio.loudness_lufs(wav, rate) for wav in wavs] == pytest.approx([limit] * 3, abs=0.05)
    assert [row["loudness_lufs"] for row in rows] == pytest.approx([limit] * 3, abs=0.05)


@pytest.mark.parametrize(
    ("wav", "words"),
    [
        (np.zeros(FEATURE.sample_rate), "must be audible, got silence"),
        (2e-6 * sine(1.0), "must be audible, got silence"),
        (1e3 * sine(1.0), "must peak at 40 dB of full scale or below, got 60 dB: noise"),
        (1e38 * sine(1.0), "must peak at 40 dB of full scale or below, got 760 dB"),
        (np.where(np.arange(FEATURE.sample_rate) == 7, np.nan, 0.1), "must be finite, got NaN"),
        (np.full(FEATURE.sample_rate, -np.inf), "must be finite"),
    ],
)
def test_a_piece_that_is_no_music_is_an_error_with_its_seed(
    pipeline: Pipeline, tmp_path: Path, wav: Any, words: str
) -> None:
    with pytest.raises(MelodyGANError, match=r"^piece 1 of seed 0 ") as caught:
        written(pipeline, [sine(0.1), wav.astype(np.float32)], tmp_path)
    assert words in str(caught.value) and "another seed" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_loud_or_quiet_piece_is_music(pipeline: Pipeline, tmp_path: Path) -> None:
    wavs, _ = written(pipeline, [sine(5.0), sine(0.001)], tmp_path)
    assert all(wav.any() for wav in wavs)


# Files and progress.


def test_progress_goes_from_zero_to_all(pipeline: Pipeline, tmp_path: Path) -> None:
    events: list[ProgressEvent] = []
    generation.write_pieces(pipeline, replace(GENERATION, duration_s=0.1), tmp_path, {}, events.append)
    assert events == [("generate", k, 3) for k in range(4)]
    assert (events[0].stage, events[0].done, events[0].total) == ("generate", 0, 3)


@pytest.mark.parametrize("fixture", ["dense", "temporal_trained"])
def test_samples_have_one_loudness_below_the_ceiling(request: pytest.FixtureRequest, fixture: str) -> None:
    trained: Trained = request.getfixturevalue(fixture)
    folder = Path(str(trained.store.at(trained.samples.uri)))
    peaks, levels = [], []
    for sample in trained.samples.metrics["samples"]:
        wav, rate = audio.read_wav(folder / sample["file"])
        assert rate == FEATURE.sample_rate
        assert wav.shape == (1 if fixture == "dense" else 2, round(1.5 * rate))
        assert sample["channels"] == len(wav)
        peaks.append(audio.peak_db(wav))
        levels.append(audio.loudness_lufs(wav, rate))
        assert sample["peak_db"] == pytest.approx(peaks[-1], abs=0.02)
        assert sample["loudness_lufs"] == pytest.approx(levels[-1], abs=0.02)
        assert sample["duration_s"] == 1.5
        assert soundfile.info(folder / sample["file"]).subtype == "PCM_16"
    assert max(levels) - min(levels) < 0.05
    assert max(peaks) <= -1 + 1e-3
    assert levels[0] == pytest.approx(-18, abs=0.05) or max(peaks) == pytest.approx(-1, abs=0.01)


def test_every_sample_has_its_provenance(dense: Trained) -> None:
    folder = Path(str(dense.store.at(dense.samples.uri)))
    training = [t for t in Dataset(dense.store, dense.dataset).tracks if t["split"] == "train"]
    for i in range(3):
        stored = json.loads((folder / f"sample-00{i}.json").read_text("utf-8"))
        assert (stored["seed"], stored["index"], stored["generation"]["truncation"]) == (0, i, 2.5)
        assert stored["condition"] in ("fast", "minor", "slow")
        assert stored["pipeline"] == "dense_gan"
        assert stored["models"] == {
            dense.codec.name: dense.codec.version,
            dense.prior.name: dense.prior.version,
            "vocoder_checkpoint": dense.vocoder.version,
        }
        assert stored["sources"]["dataset"] == dense.dataset.version
        assert stored["sources"]["stems"] == ["mix"]
        assert stored["sources"]["licences"] == ["CC0-1.0"]
        assert stored["sources"]["rights"] == ["open"]
        assert [t["track_id"] for t in stored["sources"]["tracks"]] == [t["track_id"] for t in training]
        assert HOSTILE in stored["sources"]["tracks"][0]["title"]
    assert dense.samples.inputs[dense.prior.name] == dense.prior.version


def test_the_tables_have_a_row_per_token(dense: Trained, pipeline: Pipeline) -> None:
    folder = Path(str(dense.store.at(dense.samples.uri)))
    made = list(pieces(pipeline, GENERATION))
    for name, width in (("latents", 8), ("vectors", 200)):
        table = pq.read_table(folder / f"{name}.parquet")
        values = np.array(table[name].to_pylist(), np.float32)
        assert values.shape[1] == width
        assert np.array_equal(values, torch.cat([getattr(p.sample, name) for p in made]).numpy())
        assert table["sample"].to_pylist() == [p.index for p in made for _ in p.sample.latents]
        assert table["position"].to_pylist() == [k for p in made for k in range(len(p.sample.latents))]


def test_generating_twice_is_a_no_op(dense: Trained) -> None:
    assert generation.generate(dense.artifacts, dense.dataset, dense.store, GENERATION) == dense.samples
    assert dense.samples.name == "dense_gan/generated_samples"


def test_a_pipeline_of_models_that_do_not_fit_is_refused(pipeline: Pipeline, temporal_trained: Trained) -> None:
    other = temporal_trained.open()
    with pytest.raises(InputError, match=r"latent_dim must be 8.*got 12"):
        Pipeline("mixed", pipeline.codec, other.prior, pipeline.vocode, pipeline.device)
