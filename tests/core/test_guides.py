"""Guidance by losses: on a prior whose answer is known, and the two losses of `transfer`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from melodygan_core import metrics
from melodygan_core.codec import Codec, Decoded, Features
from melodygan_core.config import TransferConfig, from_dict
from melodygan_core.errors import InputError
from melodygan_core.features import mels_of_spectrum
from melodygan_core.pipeline import Pipeline
from melodygan_core.prior import Guide, LatentSpace, Sampling, editing
from melodygan_core.prior.flow import TemporalFlow
from melodygan_core.prior.flow.guidance import uncertainty
from melodygan_core.release import styles
from melodygan_core.services.guides import PitchClasses, melody_guide, onsets, style_guide
from melodygan_core.services.reconstruct import reconstruct_wav
from melodygan_core.services.sound import encode_sound, features_of, log_mel_of
from melodygan_core.services.transfer import flow_transfer_wav, method_of
from melodygan_core.vocoder import load_vocoder
from tests.core.made import FEATURE, TEMPORAL_FLOW
from tests.core.made_temporal import RATE, tone
from tests.core.toy import ToyCodecConfig

CPU = torch.device("cpu")
STEPS = Sampling(steps=6)


class Gaussian(nn.Module):
    """The exact velocity of whitened latents that are independent and standard normal."""

    conditions = 0

    def forward(self, x: Tensor, time: Tensor, *rest: Any, **others: Any) -> Tensor:
        t = float(time[0])
        return (x * t / (t**2 + (1 - t) ** 2) - x) / (1 - t)


def gaussian_prior(mean: Tensor, scale: float) -> TemporalFlow:
    """A flow whose latents (tokens, dim) are independent, of this mean and standard deviation."""
    made = TemporalFlow(TEMPORAL_FLOW, LatentSpace(mean, torch.full_like(mean, scale))).eval()
    made.model.network = made.model.guide = Gaussian()  # type: ignore[assignment]
    made.model.whitening.mean.copy_(mean)
    made.model.whitening.scale.fill_(scale)
    return made


class BandCodec(Codec):
    """Each latent has the bands of a token, averaged over its frames: pitch is in it, nothing is trained."""

    columns = (FEATURE.spectrum,)
    token_frames = 4

    def targets(self, features: Features) -> Tensor:
        return features[FEATURE.spectrum].unflatten(1, (-1, self.token_frames)).mean(dim=2)

    def encode(self, features: Features) -> Tensor:
        return self.targets(features)

    def decode_targets(self, latents: Tensor) -> Tensor:
        return latents

    def from_targets(self, targets: Tensor) -> Decoded:
        return Decoded(targets.repeat_interleave(self.token_frames, dim=1))


@pytest.fixture(scope="module")
def melody() -> NDArray[np.float32]:
    """Four seconds of a dull tune (2, samples)."""
    return np.stack([tone(4.0, (440.0, 554.4, 659.3, 880.0, 659.3, 493.9), bright=0.1)] * 2)


@pytest.fixture(scope="module")
def bright() -> styles.Style:
    """The style of a loud, noisy, bright sound."""
    noise = np.random.default_rng(0).normal(0, 0.02, 7 * RATE).astype(np.float32)
    wav = np.stack([tone(7.0, (261.6, 392.0, 311.1, 261.6) * 4, bright=0.9) + noise] * 2)
    return styles.style_of(log_mel_of(wav, FEATURE), FEATURE)


@pytest.fixture(scope="module")
def pipeline(melody: NDArray[np.float32]) -> Pipeline:
    """Bands as latents, a prior of independent Gaussians around the melody's mean bands, Griffin-Lim."""
    codec = BandCodec(ToyCodecConfig(latent_dim=FEATURE.n_bands), FEATURE)
    spectrum = features_of(melody, FEATURE)[FEATURE.spectrum]
    prior = gaussian_prior(spectrum.mean(dim=1), 2.0)
    return Pipeline("toy_flow", codec, prior, load_vocoder("griffin_lim", FEATURE, None), CPU)


def config(**settings: Any) -> TransferConfig:
    fixed = {"content": "content.wav", "style": "style.wav", "method": "flow", "steps": 6}
    return from_dict(TransferConfig, {**fixed, **settings})


# The embedding.


@pytest.mark.parametrize("n_mels", [16, 40, 80])
def test_the_embedding_of_tensors_is_the_embedding(n_mels: int) -> None:
    rng = np.random.default_rng(n_mels)
    log_mel = rng.normal(-3, 2, (3, n_mels, 87)).cumsum(axis=2) / 5
    made = metrics.embed_tensor(torch.from_numpy(log_mel), 86.0)
    assert np.allclose(made.numpy(), metrics.embed(log_mel, 86.0), atol=1e-9)


def test_the_embedding_of_tensors_has_a_gradient_even_of_a_constant() -> None:
    for values in (torch.randn(2, 40, 87), torch.full((2, 40, 87), -5.0)):
        values.requires_grad_()
        (gradient,) = torch.autograd.grad(metrics.embed_tensor(values, 86.0).square().sum(), values)
        assert bool(gradient.isfinite().all()) and float(gradient.abs().sum()) > 0


def test_the_embedding_of_tensors_refuses_what_the_embedding_does() -> None:
    for shape, message in (((1, 8, 87), "n_mels must be"), ((1, 40, 10), "frames must be")):
        with pytest.raises(InputError, match=message):
            metrics.embed_tensor(torch.zeros(shape), 86.0)


# The solver.


def test_the_uncertainty_is_that_of_gaussians() -> None:
    rng = torch.Generator().manual_seed(0)
    noise, data = torch.randn(2, 200_000, generator=rng)
    for time in (0.1, 0.5, 0.9):
        x = (1 - time) * noise + time * data
        rest = data - x * time / (time**2 + (1 - time) ** 2)
        assert uncertainty(time) == pytest.approx(float(rest.std()), rel=0.01)


def mean_guide(value: float, weight: float) -> Guide:
    return Guide(lambda latents, index: (latents.mean() - value).abs(), weight)


@pytest.mark.parametrize("tokens", [5, 40])
def test_a_reachable_mean_is_reached_exactly(tokens: int) -> None:
    prior = gaussian_prior(torch.full((6,), 3.0), 2.0)
    latents = 3 + 2 * torch.randn(tokens, 6, generator=torch.Generator().manual_seed(1))
    plain = prior.vary(latents, 0.7, 2, None, STEPS)
    assert abs(float(plain.mean()) - 3) < 0.7, "what is known without guidance"
    # Of the last window, tokens beyond the end are made, too: the mean is that of all of a window.
    guided = prior.vary(latents, 0.7, 2, None, STEPS, guides=[mean_guide(3.5, 10.0)])
    assert float(guided[: TEMPORAL_FLOW.window_tokens].mean()) == pytest.approx(
        3.5, abs=0.02 if tokens > 16 else 0.5
    )
    assert torch.equal(prior.vary(latents, 0.7, 2, None, STEPS, guides=[mean_guide(3.5, 0.0)]), plain)
    assert torch.equal(prior.vary(latents, 0.0, 2, None, STEPS, guides=[mean_guide(9.0, 10.0)]), latents)


def test_more_weight_goes_further_and_every_weight_only_so_far() -> None:
    prior = gaussian_prior(torch.zeros(6), 1.0)
    latents = torch.zeros(TEMPORAL_FLOW.window_tokens, 6)
    means = [
        float(prior.vary(latents, 0.7, 2, None, STEPS, guides=[mean_guide(20.0, weight)]).mean())
        for weight in (0.0, 0.25, 0.5, 1.0)
    ]
    assert means == sorted(means) and means[1] > means[0] + 0.05
    assert means[3] < 5, "20 is out of reach"


def test_losses_see_the_tokens_of_the_piece_and_known_tokens_stay() -> None:
    prior, size = gaussian_prior(torch.zeros(6), 1.0), TEMPORAL_FLOW.window_tokens
    tokens = 2 * size + 3
    latents = torch.randn(tokens, 6, generator=torch.Generator().manual_seed(3))
    seen: list[Tensor] = []

    def loss(values: Tensor, index: Tensor) -> Tensor:
        seen.append(index)
        assert values.shape == (size, 6)
        return (values - latents[index]).square().mean()

    plain = prior.vary(latents, 0.7, 2, None, STEPS)
    guided = prior.vary(latents, 0.7, 2, None, STEPS, guides=[Guide(loss)])
    assert set(torch.cat(seen).tolist()) == set(range(tokens))
    assert float((guided - latents).square().mean()) < 0.3 * float((plain - latents).square().mean())


# The losses of `transfer`.


def test_pitch_classes_are_those_of_the_figure(melody: NDArray[np.float32]) -> None:
    classes = PitchClasses(FEATURE, CPU)
    spectrum = features_of(melody, FEATURE)[FEATURE.spectrum].T
    found = classes(spectrum)
    assert torch.allclose(found.square().sum(dim=1), torch.ones(len(found)), atol=1e-3)
    # A, C sharp, E, A, E, B in classes counted from C, in the middle of each note.
    middles = [round((k + 0.5) * len(found) / 6) for k in range(6)]
    assert found[middles].argmax(dim=1).tolist() == [9, 1, 4, 9, 4, 11]
    assert not classes(torch.zeros(1, FEATURE.n_bands) - 11.5).isnan().any()


def test_onsets_are_where_notes_begin(melody: NDArray[np.float32]) -> None:
    found = onsets(log_mel_of(melody, FEATURE))
    length = len(found) / 6
    strongest = found.topk(5).indices.sort().values
    # Six notes; the first one has no frame before it.
    assert [round(float(k) / length) for k in strongest] == [1, 2, 3, 4, 5]
    assert float(found.square().sum()) == pytest.approx(1, abs=1e-3)
    assert not onsets(torch.zeros(9, 40)).any()


def test_the_losses_are_none_where_the_answer_is_reached(
    pipeline: Pipeline, melody: NDArray[np.float32], bright: styles.Style
) -> None:
    # 3 s, as a style's window.
    latents = encode_sound(pipeline, melody)[0][0, :65]
    index = torch.arange(len(latents))
    melody_loss, style_loss = (
        guide.loss for guide in (melody_guide(pipeline, melody, 1.0), style_guide(pipeline, bright, 1.0))
    )
    # The tokens average their frames, so that a part of the onsets is lost.
    assert float(melody_loss(latents, index)) < 0.3
    assert float(melody_loss(latents.roll(20, 0), index)) > 0.5
    log_mel = mels_of_spectrum(FEATURE)(pipeline.decode(latents[None]).spectrum[0])
    own_loss = style_guide(pipeline, styles.style_of(log_mel, FEATURE), 1.0).loss
    assert float(own_loss(latents, index)) < 0.5
    assert float(style_loss(latents, index)) > 3


def test_silence_has_no_gradient(pipeline: Pipeline, melody: NDArray[np.float32], bright: styles.Style) -> None:
    silence = torch.full((65, FEATURE.n_bands), math.log(FEATURE.log_floor)).requires_grad_()
    for guide in (melody_guide(pipeline, melody, 1.0), style_guide(pipeline, bright, 1.0)):
        (gradient,) = torch.autograd.grad(guide.loss(silence, torch.arange(65)), silence)
        assert bool(gradient.isfinite().all())


def test_strength_0_is_the_content_through_the_codec(
    pipeline: Pipeline, melody: NDArray[np.float32], bright: styles.Style
) -> None:
    made = flow_transfer_wav(pipeline, melody, bright, config(strength=0.0))
    assert np.array_equal(made.wav, reconstruct_wav(pipeline, melody))
    assert made.figures["style_spread"] == pytest.approx(styles.inner_distance(bright))
    assert {"style_distance_before", "style_distance_after", "chroma_correlation"} < made.figures.keys()


def test_the_style_guide_nears_the_style_and_the_melody_guide_keeps_the_melody(
    pipeline: Pipeline, melody: NDArray[np.float32], bright: styles.Style
) -> None:
    latents = encode_sound(pipeline, melody)[0][0]
    index = torch.arange(len(latents))

    def chroma(values: Tensor) -> Tensor:
        return PitchClasses(FEATURE, CPU)(pipeline.decode(values[None]).spectrum[0])

    def figures(style_weight: float, keep_melody: float) -> tuple[float, float, float]:
        guides = style_guide(pipeline, bright, style_weight), melody_guide(pipeline, melody, keep_melody)
        made = editing(pipeline.prior, "vary").vary(latents, 0.7, 3, None, STEPS, guides=guides)
        style_loss, melody_loss = (float(guide.loss(made, index)) for guide in guides)
        return style_loss, melody_loss, float((chroma(made) * chroma(latents)).sum(dim=1).mean())

    neither, style, tune, both = (figures(*weights) for weights in ((0, 0), (1, 0), (0, 1), (1, 1)))
    assert style[0] < 0.7 * neither[0] and both[0] < 0.7 * neither[0]
    assert tune[1] < 0.7 * neither[1] and both[1] < 0.7 * style[1]
    assert tune[2] > neither[2] + 0.1 and both[2] > style[2] + 0.1


def test_a_transfer_is_a_function_of_its_seed(
    pipeline: Pipeline, melody: NDArray[np.float32], bright: styles.Style
) -> None:
    short = melody[:, :RATE]
    one, same, other = (flow_transfer_wav(pipeline, short, bright, config(seed=s)).wav for s in (1, 1, 2))
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_silence_and_settings_that_cannot_be_are_refused(
    pipeline: Pipeline, melody: NDArray[np.float32], bright: styles.Style
) -> None:
    with pytest.raises(InputError, match="must be audible"):
        flow_transfer_wav(pipeline, np.zeros_like(melody), bright, config())
    for name in ("style_weight", "keep_melody"):
        for value in (-0.1, 10.5):
            with pytest.raises(InputError, match=rf"{name} must be 0 to 10, got {value}"):
                config(**{name: value})
        with pytest.raises(
            InputError, match=rf"{name} must be 1 with the method eq: it is a setting of flow, got 2"
        ):
            method_of(pipeline, config(method="eq", **{name: 2.0}, steps=0))
    with pytest.raises(InputError, match="guidance must be 1 unless `style_tag` is a condition of the release"):
        method_of(pipeline, config(guidance=2.0))
    assert method_of(pipeline, config()) == "flow"
    assert method_of(pipeline, config(method="eq", steps=0)) == "eq"
    assert method_of(pipeline, config(method="auto", steps=0)) == "eq"
