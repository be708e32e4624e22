"""The temporal codec: the spans that it is trained on, its latents, its training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from melodygan_core import codec
from melodygan_core.audio.stereo import mono_parameters
from melodygan_core.catalogue.tracks import save
from melodygan_core.codec.temporal import TemporalCodec
from melodygan_core.config import STEREO_BANDS, FeatureConfig, TemporalCodecConfig, replace
from melodygan_core.dataset import Dataset, SpanDataset
from melodygan_core.errors import InputError
from melodygan_core.storage import Store
from tests.core.made import TEMPORAL_CODEC, TINY, Trained, assemble, put_features, put_tracks, track

FEATURE = FeatureConfig(
    sample_rate=22_050, n_fft=1024, hop_length=256, bands_up_to_hz=200, upper_bands=11, n_mels=20, n_mfcc=5
)


def model(config: TemporalCodecConfig = TEMPORAL_CODEC) -> TemporalCodec:
    torch.manual_seed(0)
    return TemporalCodec(config, FEATURE).eval()


def with_stereo(spectrum: torch.Tensor) -> dict[str, torch.Tensor]:
    """A spectrum of equal channels."""
    stereo = mono_parameters(spectrum.shape[1], STEREO_BANDS).expand(len(spectrum), -1, -1)
    return {"log_bands": spectrum, "stereo": stereo}


def encode(codec: TemporalCodec, spectrum: torch.Tensor) -> torch.Tensor:
    return codec.encode(with_stereo(spectrum))


# Spans.


def test_spans_are_consecutive_rows_of_the_table(store: Store) -> None:
    names = [f"t{i}" for i in range(8)]
    made = put_tracks(store, names)
    dataset = Dataset(store, assemble(store))
    spans = SpanDataset(dataset, "train", ["mix"])
    assert sum(s.segments for s in spans.all) == len(dataset.rows("train", ["mix"]))
    for span in spans.all:
        segments = made[dataset.tracks[span.track]["track_id"]]
        rows = [i for i, stem in enumerate(segments.stem) if stem == "mix"]
        truth = segments.columns["log_bands"][rows].reshape(-1, TINY.n_bands).astype(np.float32)
        first = span.position * TINY.segment_frames
        read = spans.read(span, "log_bands")
        assert np.array_equal(read, truth[first : first + len(read)])
        assert np.array_equal(spans.read(span, "log_bands", 3, 7), truth[first + 3 : first + 10])
    with pytest.raises(InputError, match="column must be log_mel, mfcc, log_bands, got 'chroma'"):
        spans.sample(1, np.random.default_rng(0), "chroma")


def test_a_gap_ends_a_span(store: Store) -> None:
    names = [f"t{i}" for i in range(8)]
    for name in names:
        put_features(store, name, segments=6, unusable=[("mix", 2)])
    save(store, [track(n) for n in names])
    dataset = Dataset(store, assemble(store))
    spans = SpanDataset(dataset, "test", ["mix"])
    assert {(s.position, s.segments) for s in spans.all} == {(0, 2), (3, 3)}
    long = SpanDataset(dataset, "test", ["mix"], 3 * TINY.segment_frames)
    assert {(s.position, s.segments) for s in long.all} == {(3, 3)}
    with pytest.raises(InputError, match="25 frames of consecutive usable mix"):
        SpanDataset(dataset, "test", ["mix"], 3 * TINY.segment_frames + 1)


def test_every_start_is_sampled_and_no_crop_crosses_a_border(store: Store) -> None:
    put_tracks(store, [f"t{i}" for i in range(8)])
    dataset = Dataset(store, assemble(store))
    size = TINY.segment_frames
    spans = SpanDataset(dataset, "train", ["mix"], size)
    pieces = spans.sample(3000, np.random.default_rng(0), "log_bands")
    assert pieces.shape == (3000, size, TINY.n_bands)
    seen = {p.tobytes() for p in pieces}
    starts = {
        spans.read(s, "log_bands", start, size).tobytes()
        for s in spans.all
        for start in range(s.segments * size - size + 1)
    }
    assert seen <= starts
    assert len(seen) > 0.99 * len(starts)


# The model.


@given(st.integers(1, 5), st.integers(0, 2**31))
def test_a_shift_by_whole_tokens_shifts_the_latents(tokens: int, seed: int) -> None:
    made, frame = model(), TEMPORAL_CODEC.token_frames
    spectrum = torch.randn(1, 40 * frame, FEATURE.n_bands, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        expected, shifted = (encode(made, x) for x in (spectrum, spectrum[:, tokens * frame :]))
    edge = TEMPORAL_CODEC.reach
    inside = expected[:, tokens + edge : 40 - edge]
    assert torch.allclose(inside, shifted[:, edge : 40 - tokens - edge], atol=1e-4)
    # Not because all latents are alike.
    assert float((inside[:, 1:] - inside[:, :-1]).abs().max()) > 1e-3


def test_latents_are_bounded_and_slower_than_frames() -> None:
    made = model()
    with torch.no_grad():
        latents = encode(made, 100 * torch.randn(2, 64, FEATURE.n_bands))
    assert latents.shape == (2, 8, TEMPORAL_CODEC.latent_dim)
    assert float(latents.abs().max()) <= 1
    assert made.latent_rate == pytest.approx(FEATURE.frame_rate / 8)
    assert made.decode(latents).spectrum.shape == (2, 64, FEATURE.n_bands)
    assert made.clamp(torch.tensor([-2.0, 0.5, 3.0])).tolist() == [-1.0, 0.5, 1.0]


def test_the_interface_of_a_codec_gives_the_model_s_own_outputs() -> None:
    made = model()
    spectrum = torch.randn(2, 64, FEATURE.n_bands, generator=torch.Generator().manual_seed(0))
    features = with_stereo(spectrum)
    assert made.columns == ("log_bands", "stereo")
    with torch.no_grad():
        latents = made.encode(features)
        targets = made.targets(features)
        assert targets.shape == (2, 8, 8 * FEATURE.n_bands + 2 * STEREO_BANDS)
        assert made.decode_targets(latents).shape == targets.shape
        assert torch.equal(made.reconstruct(features).spectrum, made(features).spectrum)
        piece, entire = made.decode_piece(latents[0], 61), made.decode(latents)
        assert entire.stereo is not None and piece.stereo is not None
        assert torch.equal(piece.spectrum, entire.spectrum[:1, :61])
        assert torch.equal(piece.stereo, entire.stereo[:1, :61])
        back = made.from_targets(targets)
        assert back.stereo is not None
        torch.testing.assert_close(back.spectrum, spectrum)
        torch.testing.assert_close(back.stereo, features["stereo"])
    assert (made.tokens_for(1), made.tokens_for(64), made.tokens_for(65)) == (1, 8, 9)
    assert made.crop_frames == TEMPORAL_CODEC.crop_tokens * 8
    assert made.feature_vectors(latents[0]) is None


@pytest.mark.parametrize("frames", [0, 63])
def test_frames_that_are_not_whole_tokens_are_refused(frames: int) -> None:
    with pytest.raises(InputError, match=f"frames .*token_frames = 8.*{frames}"):
        encode(model(), torch.zeros(1, frames, FEATURE.n_bands))


def test_the_latent_must_be_smaller_than_a_token() -> None:
    with pytest.raises(InputError, match=r"latent_dim .*token's 200 .*200$"):
        TemporalCodec(replace(TEMPORAL_CODEC, latent_dim=200), FEATURE)
    assert TemporalCodec(replace(TEMPORAL_CODEC, latent_dim=199), FEATURE).latent_dim == 199


# Training.


def test_training_explains_more_than_the_mean(temporal_trained: Trained) -> None:
    made = temporal_trained.codec
    history = made.metrics["history"]
    assert history[-1]["validation/loss"] < 0.7 * history[0]["validation/loss"]
    assert made.metrics["test/explained_variance"] > 0.3
    assert (made.name, made.group) == ("temporal/autoencoder_checkpoint", "temporal")


def test_a_split_is_encoded_span_by_span(temporal_trained: Trained) -> None:
    store = temporal_trained.store
    made = codec.load(Path(str(store.at(temporal_trained.codec.uri))))
    assert isinstance(made, TemporalCodec)
    data = Dataset(store, temporal_trained.dataset)
    spans = SpanDataset(data, "train", ["mix"])
    found = list(made.encode_split(data, "train"))
    tokens = data.feature.segment_frames // made.token_frames
    for latents, span in zip(found, spans.all, strict=True):
        assert latents.shape == (span.segments, tokens, made.latent_dim)
        with torch.no_grad():
            expected = encode(made, torch.from_numpy(spans.read(span, "log_bands"))[None])[0]
        assert np.allclose(latents.reshape(-1, made.latent_dim), expected, atol=1e-6)


def test_tokens_that_do_not_divide_a_segment_are_refused(temporal_trained: Trained) -> None:
    data = Dataset(temporal_trained.store, temporal_trained.dataset)
    made = TemporalCodec(replace(TEMPORAL_CODEC, token_frames=5), data.feature)
    with pytest.raises(InputError, match=r"token_frames .*divisor of 32.*5"):
        next(made.encode_split(data, "train"))
