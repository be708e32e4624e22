from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch

from melodygan_core import audio, generation
from melodygan_core.codec import DenseAutoencoder
from melodygan_core.config import GenerationConfig
from melodygan_core.dataset import Dataset
from melodygan_core.errors import InputError
from melodygan_core.generation import pieces
from melodygan_core.pipeline import Models, _join
from melodygan_core.prior.gan import truncated_noise
from tests.core.made import FEATURE, GENERATION, HOSTILE, Family


@pytest.fixture(scope="module")
def models(family: Family) -> Models:
    return family.models


def write(models: Models, folder: Path, config: GenerationConfig) -> Path:
    folder.mkdir()
    generation.write_pieces(models, config, folder, {})
    return folder


# Noise and joining.


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
    joined = _join(torch.full((n, 3, 32), -2.5), 4, 28 * (n - 1) + 32)
    assert joined.shape == (3, 28 * (n - 1) + 32)
    assert torch.allclose(joined, torch.full_like(joined, -2.5), atol=1e-5)


def test_a_join_fades_from_one_segment_to_the_next() -> None:
    joined = _join(torch.stack([torch.zeros(1, 8), torch.full((1, 8), 2.0)]), 3, 13).exp()[0]
    loud = torch.tensor(2.0).exp()
    expected = torch.tensor([1.0] * 5 + [1 + (loud - 1) * k / 4 for k in (1, 2, 3)] + [loud] * 5)
    assert torch.allclose(joined, expected, rtol=1e-4)


# Pieces.


def test_the_same_seed_is_the_same_bytes(models: Models, tmp_path: Path) -> None:
    one, two = (write(models, tmp_path / n, GENERATION) for n in ("one", "two"))
    names = sorted(p.name for p in one.iterdir())
    assert names == sorted(
        [f"sample-00{i}.{e}" for i in range(3) for e in ("json", "wav")]
        + ["latents.parquet", "vectors.parquet"]
    )
    for name in names:
        assert (one / name).read_bytes() == (two / name).read_bytes()
    other = write(models, tmp_path / "other", replace(GENERATION, seed=1))
    assert (other / "sample-000.wav").read_bytes() != (one / "sample-000.wav").read_bytes()


def test_a_sample_does_not_depend_on_how_many_there_are(models: Models) -> None:
    few, many = (list(pieces(models, replace(GENERATION, count=c))) for c in (2, 4))
    for a, b in zip(few, many, strict=False):
        assert np.array_equal(a.wav, b.wav)
        assert a.condition == b.condition
    assert not torch.allclose(many[0].composed.latents, many[1].composed.latents)


@pytest.mark.parametrize("duration_s", [0.01, 0.1, 0.3715, 1.0, 2.345])
def test_a_piece_has_exactly_the_length_that_was_asked_for(models: Models, duration_s: float) -> None:
    config = replace(GENERATION, count=1, duration_s=duration_s)
    (piece,) = pieces(models, config)
    assert piece.wav.shape == (round(duration_s * FEATURE.sample_rate),)
    made = piece.composed
    assert made.log_mel.shape[0] == FEATURE.n_mels
    assert made.vectors is not None and len(made.latents) == len(made.vectors)
    # No segment more than needed: segments of 32 frames overlap by 4.
    frames, segments = made.log_mel.shape[1], len(made.latents)
    assert frames <= 28 * segments + 4
    assert segments == 1 or frames > 28 * (segments - 1) + 4


def test_vectors_are_what_the_decoder_makes_of_the_latents(models: Models) -> None:
    (piece,) = pieces(models, replace(GENERATION, count=1))
    made, model = piece.composed, models.autoencoder
    assert isinstance(model, DenseAutoencoder) and made.vectors is not None
    with torch.no_grad():
        assert torch.equal(model.decode(made.latents), made.vectors)
        first = model.log_mel(made.vectors)[0, :, :28]
    assert torch.allclose(made.log_mel[:, :28], first, atol=1e-4)


def test_conditions_are_obeyed_and_unknown_ones_listed(models: Models) -> None:
    quick = replace(GENERATION, duration_s=0.1)
    assert {p.condition for p in pieces(models, replace(quick, condition="slow"))} == {"slow"}
    assert {p.condition for p in pieces(models, replace(quick, count=12))} == {
        "fast",
        "minor",
        "slow",
    }
    one, two = (next(pieces(models, replace(quick, condition=c))) for c in ("slow", "fast"))
    assert not torch.allclose(one.composed.latents, two.composed.latents)
    with pytest.raises(InputError, match="condition is 'loud'; allowed: fast, minor, slow"):
        next(pieces(models, replace(quick, condition="loud")))


# Files.


def test_samples_are_at_the_wanted_level_below_the_ceiling(family: Family) -> None:
    folder = Path(str(family.store.at(family.samples.uri)))
    for sample in family.samples.metrics["samples"]:
        wav, rate = audio.read_wav(folder / sample["file"])
        assert rate == FEATURE.sample_rate
        assert wav.shape == (1, round(1.5 * rate))
        peak, level = audio.peak_db(wav), audio.loudness_lufs(wav, rate)
        assert peak <= -1 + 1e-3
        assert level == pytest.approx(-18, abs=0.05) or (level < -18 and peak == pytest.approx(-1, abs=0.01))
        assert sample["peak_db"] == pytest.approx(peak, abs=0.02)
        assert sample["duration_s"] == 1.5
        assert soundfile.info(folder / sample["file"]).subtype == "PCM_16"


def test_every_sample_carries_its_provenance(family: Family) -> None:
    folder = Path(str(family.store.at(family.samples.uri)))
    training = [t for t in Dataset(family.store, family.dataset).tracks if t["split"] == "train"]
    for i in range(3):
        told = json.loads((folder / f"sample-00{i}.json").read_text("utf-8"))
        assert (told["seed"], told["index"], told["generation"]["truncation"]) == (0, i, 2.5)
        assert told["condition"] in ("fast", "minor", "slow")
        assert told["models"] == {
            "dense/autoencoder_checkpoint": family.autoencoder.version,
            "dense/gan_checkpoint": family.gan.version,
            "vocoder_checkpoint": family.vocoder.version,
        }
        assert told["sources"]["dataset"] == family.dataset.version
        assert told["sources"]["licences"] == ["CC0-1.0"]
        assert told["sources"]["rights"] == ["open"]
        assert [t["track_id"] for t in told["sources"]["tracks"]] == [t["track_id"] for t in training]
        assert HOSTILE in told["sources"]["tracks"][0]["title"]
    assert family.samples.inputs["dense/gan_checkpoint"] == family.gan.version


def test_the_tables_hold_every_segment(family: Family, models: Models) -> None:
    folder = Path(str(family.store.at(family.samples.uri)))
    made = list(pieces(models, GENERATION))
    for name, width in (("latents", 8), ("vectors", 200)):
        table = pq.read_table(folder / f"{name}.parquet")
        values = np.array(table[name].to_pylist(), np.float32)
        assert values.shape[1] == width
        assert np.array_equal(values, torch.cat([getattr(p.composed, name) for p in made]).numpy())
        assert table["sample"].to_pylist() == [p.index for p in made for _ in p.composed.latents]


def test_generating_twice_is_a_no_op(family: Family) -> None:
    again = generation.generate(
        family.gan, family.autoencoder, family.vocoder, family.dataset, family.store, GENERATION
    )
    assert again == family.samples
