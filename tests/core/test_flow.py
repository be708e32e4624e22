"""The flow: its network, masks, solver, windows, loops and training, on latents whose answer is known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from melodygan_core.config import TemporalFlowConfig, registry, replace
from melodygan_core.errors import InputError
from melodygan_core.prior import LatentSpace, Sampling, editing, sample
from melodygan_core.prior.flow import TemporalFlow
from melodygan_core.prior.flow.masks import draw_masks, masked_error
from melodygan_core.prior.flow.network import STRIDE, VelocityNetwork, time_embedding
from melodygan_core.prior.flow.solver import FlowModel, solve, unknown
from melodygan_core.prior.flow.temporal import windows
from melodygan_core.prior.flow.whitening import Whitening
from melodygan_core.prior.gan import TemporalGan
from melodygan_core.training import EMA
from tests.core.made import TEMPORAL_FLOW, TEMPORAL_GAN

DIM = 6
WINDOW = TEMPORAL_FLOW.window_tokens


def prior_of(conditions: tuple[str, ...] = (), **changes: Any) -> TemporalFlow:
    """A flow of random weights: all of it does something, nothing of it is trained."""
    torch.manual_seed(0)
    space = LatentSpace(torch.zeros(DIM), torch.ones(DIM), conditions)
    made = TemporalFlow(replace(TEMPORAL_FLOW, **changes), space).eval()
    for network in (made.model.network, made.model.guide):
        torch.nn.init.normal_(network.head.weight, std=0.3)
        for value in network.parameters():
            value.data.add_(0.05 * torch.randn_like(value))
    return made


# Network.


@pytest.mark.parametrize("tokens", [STRIDE, WINDOW, 5 * WINDOW])
def test_the_network_takes_any_multiple_of_its_stride(tokens: int) -> None:
    network = prior_of().model.network
    x = torch.randn(2, tokens, DIM)
    with torch.no_grad():
        made = network(x, torch.tensor([0.1, 0.9]), x, torch.zeros(2, tokens, 1))
    assert made.shape == x.shape and bool(made.isfinite().all())


def test_every_weight_and_input_of_the_network_counts() -> None:
    network = prior_of(("a", "b")).model.network
    x, known = (torch.randn(2, WINDOW, DIM, requires_grad=True) for _ in range(2))
    mask = torch.zeros(2, WINDOW, 1)
    mask[:, : WINDOW // 2] = 1
    network(x, torch.tensor([0.3, 0.6]), known, mask, torch.tensor([0, 2])).square().sum().backward()
    idle = [n for n, p in network.named_parameters() if p.grad is None or not float(p.grad.abs().sum())]
    # The bias beyond the reach of so few positions is not needed.
    assert idle == []
    assert x.grad is not None and known.grad is not None
    assert bool((x.grad.abs().sum(dim=2) > 0).all())
    heard = known.grad.abs().sum(dim=2) > 0
    assert heard[:, : WINDOW // 2].all() and not heard[:, WINDOW // 2 :].any()


@given(st.integers(1, 40), st.integers(0, 40))
@settings(max_examples=10)
def test_a_loop_has_no_first_token(positions: int, turn: int) -> None:
    network = prior_of().model.network
    tokens = STRIDE * positions
    x = torch.randn(1, tokens, DIM, generator=torch.Generator().manual_seed(positions))
    mask, time = torch.zeros(1, tokens, 1), torch.tensor([0.4])
    with torch.no_grad():
        straight = network(x, time, x, mask, circular=True)
        rotated = network(x.roll(STRIDE * turn, 1), time, x, mask, circular=True)
    assert torch.allclose(rotated, straight.roll(STRIDE * turn, 1), atol=1e-5)


def test_times_are_told_apart() -> None:
    embedded = time_embedding(torch.linspace(0, 1, 50))
    distances = torch.cdist(embedded, embedded) + 100 * torch.eye(50)
    assert float(distances.min()) > 0.1


# Masks.


def test_masks_come_in_the_shares_that_are_asked_for() -> None:
    masks = draw_masks(4000, 32, 0.2, 0.3, np.random.default_rng(0))
    assert set(np.unique(masks)) == {0, 1}
    nothing = ~masks.any(axis=1)
    prefix = (np.diff(masks, axis=1) <= 0).all(axis=1) & ~nothing
    assert nothing.mean() == pytest.approx(0.5, abs=0.03)
    # A gap at the end of a sequence looks as a prefix does.
    assert 0.27 < prefix.mean() < 0.4
    assert masks.min(axis=1).max() == 0, "something is always unknown"


def test_the_loss_counts_only_what_is_unknown_and_every_example_alike() -> None:
    made, wanted = torch.zeros(2, 4, DIM), torch.zeros(2, 4, DIM)
    made[0, 0], made[1, :2] = 2.0, 3.0
    weight = torch.tensor([[1, 1, 0, 0], [0, 1, 0, 0]], dtype=torch.float32)[:, :, None]
    assert float(masked_error(made, wanted, weight)) == pytest.approx((2.0 + 9.0) / 2)


# Whitening.


def test_whitened_latents_are_white_but_for_dead_directions() -> None:
    rng = torch.Generator().manual_seed(0)
    mixing = torch.randn(DIM, DIM, generator=rng)
    scale = torch.tensor([1.0, 0.7, 0.5, 0.3, 0.2, 1e-5])
    latents = torch.randn(5000, DIM, generator=rng) * scale @ torch.linalg.qr(mixing)[0] + 3
    whitening = Whitening(DIM)
    whitening.fit(latents, 0.01)
    white = whitening(latents)
    assert torch.allclose(white.mean(dim=0), torch.zeros(DIM), atol=1e-3)
    assert torch.allclose(torch.cov(white[:, :5].T), torch.eye(5), atol=1e-2)
    assert float(white[:, 5].std()) < 1e-3, "a dead direction stays dead"
    assert torch.allclose(whitening.inverse(white), latents, atol=1e-5)
    assert torch.equal(whitening.clamp(white), white)
    assert float(whitening.clamp(white + 100).max()) < 10


# Solver.


class Gaussian(VelocityNetwork):
    """The exact velocity from noise to independent Gaussian latents."""

    mean, std = 1.5, 0.4

    def __init__(self) -> None:
        super().__init__(TEMPORAL_FLOW, DIM, 0)

    def forward(self, x: Tensor, time: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        t = time[:, None, None]
        variance = (1 - t) ** 2 + (t * self.std) ** 2
        correlation = (t * self.std**2 - (1 - t)) / variance
        return self.mean + correlation * (x - t * self.mean)


def test_the_solver_reaches_the_distribution_of_an_exact_velocity() -> None:
    model = FlowModel(Gaussian(), Gaussian(), Whitening(DIM))
    noise = torch.randn(50, 40, DIM, generator=torch.Generator().manual_seed(0))
    errors = []
    for steps in (2, 4, 8, 16):
        made = solve(model, unknown(noise), Sampling(steps=steps))
        errors.append(float((made - (Gaussian.mean + Gaussian.std * noise)).abs().max()))
    assert errors[-1] < 0.02
    # Second order: half the step, a quarter of the error.
    assert errors[0] > 2.5 * errors[1] > 2.5**2 * errors[2]


# Windows.


@given(st.lists(st.booleans(), min_size=1, max_size=150))
@settings(max_examples=60)
def test_windows_make_every_unknown_token_once(known: list[bool]) -> None:
    plan = windows(torch.tensor(known), 16)
    done = list(known)
    for window in plan:
        assert 0 <= window.start < window.stop <= min(len(known), window.start + 16)
        new = [k for k in range(window.start, window.stop) if not done[k]]
        assert new, "a window makes something"
        for k in range(window.start, window.stop):
            done[k] = True
        # What lies before it in the piece is known by then.
        assert all(done[: window.start])
    assert all(done)


def test_a_gap_that_fits_lies_in_the_middle_of_one_window() -> None:
    known = torch.ones(200, dtype=torch.bool)
    known[100:106] = False
    (window,) = windows(known, 16)
    assert (window.start, window.stop) == (95, 106)


# The prior.


def test_ten_minutes_begin_with_the_same_thirty_seconds() -> None:
    prior = prior_of(window_tokens=256, steps=2)
    rate = 22_050 / 256 / 8
    short, long = (prior.sample(math.ceil(s * rate), 5) for s in (30, 600))
    assert torch.equal(long[: len(short)], short)
    assert torch.equal(prior.sample(len(short), 5), short)
    assert not torch.equal(prior.sample(len(short), 6), short)
    assert bool(long.isfinite().all())


def test_a_stream_is_the_sample_in_parts() -> None:
    prior = prior_of()
    stream = prior.stream(3)
    parts = [next(stream) for _ in range(4)]
    assert [len(p) for p in parts] == [WINDOW] + 3 * [WINDOW // 2]
    assert torch.equal(torch.cat(parts), prior.sample(sum(map(len, parts)), 3))


@pytest.mark.parametrize("tokens", [3, WINDOW, 5 * WINDOW + 3])
def test_known_tokens_are_kept_exactly_and_change_the_others(tokens: int) -> None:
    prior = prior_of()
    rng = torch.Generator().manual_seed(1)
    latents = torch.randn(tokens, DIM, generator=rng)
    known = torch.rand(tokens, generator=rng) < 0.6
    made = prior.fill(latents, known, 2)
    assert torch.equal(made[known], latents[known])
    assert bool(made.isfinite().all())
    assert torch.equal(prior.fill(latents + 5 * ~known[:, None], known, 2), made), "unknown values are not read"
    if bool(known.any()) and not bool(known.all()):
        other = prior.fill(latents + known[:, None], known, 2)
        assert not torch.allclose(other[~known], made[~known])


def test_a_continuation_depends_on_its_context_and_no_further() -> None:
    prior = prior_of()
    latents = torch.randn(4 * WINDOW, DIM, generator=torch.Generator().manual_seed(1))
    known = torch.arange(len(latents)) < 3 * WINDOW
    made = prior.fill(latents, known, 2)
    far, near = latents.clone(), latents.clone()
    far[: 3 * WINDOW - prior.context_tokens] = 0
    near[3 * WINDOW - prior.context_tokens] += 1
    assert torch.equal(prior.fill(far, known, 2)[~known], made[~known])
    assert not torch.equal(prior.fill(near, known, 2)[~known], made[~known])


def test_a_loop_of_rotated_noise_is_the_loop_rotated() -> None:
    prior = prior_of()
    noise = torch.randn(1, 10 * STRIDE, DIM, generator=torch.Generator().manual_seed(0))
    straight = prior.loop_of_noise(noise)
    rotated = prior.loop_of_noise(noise.roll(3 * STRIDE, 1))
    assert torch.allclose(rotated, straight.roll(3 * STRIDE, 0), atol=1e-4)
    assert torch.equal(prior.loop(8, 4), prior.loop(8, 4))
    with pytest.raises(InputError, match="tokens must be a multiple of 4, got 10"):
        prior.loop(10, 4)


@pytest.mark.parametrize("tokens", [1, 7, 3 * WINDOW + 1])
def test_variations_go_from_the_sound_to_another_one(tokens: int) -> None:
    prior = prior_of()
    latents = torch.randn(tokens, DIM, generator=torch.Generator().manual_seed(1))
    assert torch.equal(prior.vary(latents, 0.0, 2), latents)
    made = [prior.vary(latents, s, 2) for s in (0.1, 0.5, 1.0)]
    distances = [float((m - latents).norm()) for m in made]
    assert distances == sorted(distances) and distances[0] > 0
    assert torch.equal(prior.vary(latents, 0.5, 2), made[1])
    # With nothing but noise, nothing of the sound is left.
    assert torch.equal(prior.vary(latents + 1, 1.0, 2), made[2])
    with pytest.raises(InputError, match=r"strength must be 0 to 1, got 1\.5"):
        prior.vary(latents, 1.5, 2)


def test_guidance_of_one_is_none_and_more_is_something() -> None:
    prior = prior_of(("a", "b"))
    plain = prior.sample(WINDOW, 1, 0)
    assert torch.equal(prior.sample(WINDOW, 1, 0, sampling=Sampling(0, 1.0, 1.0)), plain)
    assert not torch.equal(prior.sample(WINDOW, 1, 1), plain)
    assert not torch.equal(prior.sample(WINDOW, 1, 0, sampling=Sampling(guidance=2.0)), plain)
    assert not torch.equal(prior.sample(WINDOW, 1, 0, sampling=Sampling(autoguidance=2.0)), plain)
    # Led by 0 towards the condition, it is what it would be without.
    none = prior.sample(WINDOW, 1, None)
    assert torch.allclose(prior.sample(WINDOW, 1, 0, sampling=Sampling(guidance=0.0)), none, atol=1e-4)
    assert not torch.equal(none, plain)
    with pytest.raises(InputError, match=r"guidance must be 1: this model was trained without .*, got 2\.0"):
        prior_of().sample(8, 1, sampling=Sampling(guidance=2.0))


def test_predictions_stay_within_the_range_of_the_training_latents() -> None:
    prior = prior_of()
    low, high = prior.model.whitening.lowest, prior.model.whitening.highest
    low.fill_(-0.5)
    high.fill_(0.25)
    made = prior.sample(2 * WINDOW, 1, sampling=Sampling(autoguidance=10.0))
    white = prior.model.whitening(made)
    assert float(white.min()) >= -0.5 - 1e-3 and float(white.max()) <= 0.25 + 1e-3


def test_a_prior_says_what_it_can_do() -> None:
    space = LatentSpace(torch.zeros(DIM), torch.ones(DIM))
    gan, flow = TemporalGan(TEMPORAL_GAN, space), prior_of()
    assert editing(flow, "loop") is flow
    message = "release must be of a pipeline that can loop, such as temporal_flow"
    with pytest.raises(InputError, match=message):
        editing(gan, "loop")
    with pytest.raises(InputError, match="steps must be 0 with this release: it is a setting of temporal_flow"):
        sample(gan, 8, 1, None, 0.0, Sampling(steps=5))
    for codec, name in registry.prior_names():
        component = registry.prior_component(codec, name)
        assert component.capabilities == component.load().model.capabilities


def test_wrong_configs_are_refused() -> None:
    with pytest.raises(InputError, match=r"inner_width must be a multiple of `heads` = 5, got 384"):
        TemporalFlowConfig(heads=5)
    with pytest.raises(InputError, match=r"mask_segments must be at most 1 together with .*, got 1\.1"):
        TemporalFlowConfig(mask_segments=0.6, mask_prefix=0.5)
    with pytest.raises(InputError, match=r"window_tokens must be a power of two, 16 to 2048, got 24"):
        TemporalFlowConfig(window_tokens=24)


# A known process.


def autoregressive(count: int, tokens: int, rng: torch.Generator) -> Tensor:
    """Gaussian sequences (count, tokens, 2): two values of correlation 0.6, each 0.8 like the one before."""
    mixing = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    steps = [torch.randn(count, 2, generator=rng)]
    for _ in range(tokens - 1):
        steps.append(0.8 * steps[-1] + 0.6 * torch.randn(count, 2, generator=rng))
    return torch.stack(steps, dim=1) @ mixing.T


@pytest.mark.slow
def test_a_trained_flow_has_the_statistics_of_a_known_process() -> None:
    torch.manual_seed(0)
    rng = torch.Generator().manual_seed(0)
    config = replace(TEMPORAL_FLOW, width=32, inner_width=32, dropout=0.0)
    network, whitening = VelocityNetwork(config, 2, 0), Whitening(2)
    ema = EMA(network, 0.98)
    whitening.fit(autoregressive(500, WINDOW, rng).flatten(0, 1), 0.01)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for step in range(300):
        data = whitening(autoregressive(32, WINDOW, rng))
        noise, time = torch.randn(data.shape, generator=rng), torch.rand(32, generator=rng)
        mask = torch.zeros(32, WINDOW, 1)
        # A half goes on from what is known, as windows do.
        mask[::2, : WINDOW // 2] = 1
        t = time[:, None, None]
        made = network((1 - t) * noise + t * data, time, data, mask)
        loss = masked_error(made, data - noise, 1 - mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ema.update(network, step)
        losses.append(float(loss.detach()))
    assert np.mean(losses[-50:]) < 0.75 * losses[0]
    prior = TemporalFlow(config, LatentSpace(torch.zeros(2), torch.ones(2))).eval()
    prior.model.load_state_dict(FlowModel(ema.module, ema.module, whitening).state_dict())
    made = torch.stack([prior.sample(2 * WINDOW, seed) for seed in range(40)])
    assert torch.allclose(made.mean(dim=(0, 1)), torch.zeros(2), atol=0.2)
    assert torch.allclose(torch.cov(made.flatten(0, 1).T), torch.tensor([[1.0, 0.6], [0.6, 1.0]]), atol=0.25)
    # From token to token, within windows and across their borders.
    inside = torch.corrcoef(torch.stack([made[:, 4:12, 0].flatten(), made[:, 5:13, 0].flatten()]))[0, 1]
    across = torch.corrcoef(torch.stack([made[:, WINDOW - 1, 0], made[:, WINDOW, 0]]))[0, 1]
    assert float(inside) == pytest.approx(0.8, abs=0.1)
    assert float(across) == pytest.approx(0.8, abs=0.2)
