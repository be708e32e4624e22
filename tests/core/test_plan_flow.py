"""The flow that follows a plan: where the plan counts, what is open, dropout, guidance, and training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from melodygan_core.config import replace
from melodygan_core.errors import InputError
from melodygan_core.plan import CHANNELS, PARTS
from melodygan_core.prior import LatentSpace, Sampling, sample
from melodygan_core.prior.flow import TemporalFlow
from melodygan_core.prior.flow.masks import masked_error
from melodygan_core.prior.flow.network import STRIDE
from melodygan_core.prior.flow.solver import FlowModel
from melodygan_core.prior.flow.whitening import Whitening
from melodygan_core.prior.plan import TemporalPlanFlow
from melodygan_core.prior.plan.task import drop_plans
from melodygan_core.training import EMA
from tests.core.made import TEMPORAL_FLOW, TEMPORAL_PLAN

DIM = 6
WINDOW = TEMPORAL_PLAN.window_tokens


def prior_of(conditions: tuple[str, ...] = (), **changes: Any) -> TemporalPlanFlow:
    """A flow of random weights."""
    torch.manual_seed(0)
    space = LatentSpace(torch.zeros(DIM), torch.ones(DIM), conditions)
    made = TemporalPlanFlow(replace(TEMPORAL_PLAN, **changes), space).eval()
    for network in (made.model.network, made.model.guide):
        torch.nn.init.normal_(network.head.weight, std=0.3)
        for value in network.parameters():
            value.data.add_(0.05 * torch.randn_like(value))
    return made


def plan_of(tokens: int, seed: int = 0) -> Tensor:
    return torch.rand(tokens, CHANNELS, generator=torch.Generator().manual_seed(seed))


def test_every_channel_of_the_plan_counts() -> None:
    network = prior_of().model.network
    x, plan = torch.randn(2, WINDOW, DIM), torch.rand(2, WINDOW, CHANNELS, requires_grad=True)
    network(x, torch.tensor([0.3, 0.6]), x, torch.zeros(2, WINDOW, 1), None, plan).square().sum().backward()
    assert plan.grad is not None and bool((plan.grad.abs().sum(dim=(0, 1)) > 0).all())
    idle = [n for n, p in network.named_parameters() if p.grad is None or not float(p.grad.abs().sum())]
    assert idle == []


def test_a_plan_of_any_length_is_followed_and_a_longer_piece_begins_with_a_shorter_one() -> None:
    prior = prior_of()
    plan = plan_of(3 * WINDOW + 5)
    made = prior.sample(5 * WINDOW, 1, plan=plan)
    assert torch.equal(prior.sample(2 * WINDOW, 1, plan=plan), made[: 2 * WINDOW])
    assert not torch.allclose(made, prior.sample(5 * WINDOW, 1))
    # Beyond its end a plan says nothing, as one that leaves all open.
    padded = torch.cat([plan, torch.zeros(3 * WINDOW, CHANNELS)])
    assert torch.equal(prior.sample(5 * WINDOW, 1, plan=padded), made)
    later = plan.clone()
    later[2 * WINDOW :] = 0.5
    changed = prior.sample(5 * WINDOW, 1, plan=later)
    # Half windows are made one after the other: what is later in the plan changes nothing that was made before.
    assert torch.equal(changed[: WINDOW + WINDOW // 2], made[: WINDOW + WINDOW // 2])
    assert not torch.allclose(changed[2 * WINDOW :], made[2 * WINDOW :])


def test_without_a_plan_nothing_is_given() -> None:
    prior = prior_of()
    nothing = torch.zeros(2 * WINDOW, CHANNELS)
    assert torch.equal(prior.sample(2 * WINDOW, 3), prior.sample(2 * WINDOW, 3, plan=nothing))
    parts = next(prior.stream(3, plan=plan_of(WINDOW)))
    assert torch.equal(parts, prior.sample(WINDOW, 3, plan=plan_of(WINDOW)))


def test_editing_follows_a_plan_and_needs_none() -> None:
    prior, plan = prior_of(), plan_of(4 * WINDOW)
    latents = torch.randn(4 * WINDOW, DIM, generator=torch.Generator().manual_seed(1))
    known = torch.arange(len(latents)) < 2 * WINDOW
    made = {
        "fill": [prior.fill(latents, known, 2, plan=p) for p in (plan, None)],
        "vary": [prior.vary(latents, 0.5, 2, plan=p) for p in (plan, None)],
        "loop": [prior.loop(8 * STRIDE, 2, plan=p) for p in (plan, None)],
    }
    for name, (planned, free) in made.items():
        assert planned.shape == free.shape and bool(planned.isfinite().all()), name
        assert not torch.allclose(planned, free), name
    assert torch.equal(made["fill"][0][known], latents[known])
    noise = torch.randn(1, 10 * STRIDE, DIM, generator=torch.Generator().manual_seed(0))
    short = plan[: 10 * STRIDE]
    rotated = prior.loop_of_noise(noise.roll(3 * STRIDE, 1), plan=short.roll(3 * STRIDE, 0))
    assert torch.allclose(rotated, prior.loop_of_noise(noise, plan=short).roll(3 * STRIDE, 0), atol=1e-4)


def test_guidance_leads_towards_the_plan() -> None:
    prior, plan = prior_of(), plan_of(WINDOW)
    plain = prior.sample(WINDOW, 1, plan=plan)
    assert not torch.allclose(prior.sample(WINDOW, 1, plan=plan, sampling=Sampling(guidance=2.0)), plain)
    none = prior.sample(WINDOW, 1)
    led = prior.sample(WINDOW, 1, plan=plan, sampling=Sampling(guidance=0.0))
    assert torch.allclose(led, none, atol=1e-4)


def test_plans_of_a_wrong_shape_or_for_another_prior_are_refused() -> None:
    with pytest.raises(InputError, match=r"plan\.shape must be \(tokens, 70\), got \(5, 3\)"):
        prior_of().sample(WINDOW, 1, plan=torch.zeros(5, 3))
    flow = TemporalFlow(TEMPORAL_FLOW, LatentSpace(torch.zeros(DIM), torch.ones(DIM)))
    message = "release must be of a pipeline that can plan, such as temporal_plan; this one cannot"
    with pytest.raises(InputError, match=message):
        flow.sample(WINDOW, 1, plan=plan_of(WINDOW))
    with pytest.raises(InputError, match=message):
        sample(flow, WINDOW, 1, None, 0.0, Sampling(), plan_of(WINDOW))


def test_plans_are_dropped_in_the_shares_that_are_asked_for() -> None:
    seen = drop_plans(torch.ones(4000, 2, CHANNELS), 0.15, 0.2, np.random.default_rng(0))
    nothing = ~seen.any(dim=2).any(dim=1)
    assert float(nothing.float().mean()) == pytest.approx(0.15, abs=0.02)
    first = 0
    for width in PARTS.values():
        part = seen[~nothing][:, :, first : first + width + 1]
        gone = ~part.any(dim=2).any(dim=1)
        assert bool((part[~gone] == 1).all()), "a part is there with its flag, or not at all"
        assert float(gone.float().mean()) == pytest.approx(0.2, abs=0.03)
        first += width + 1


def known_process(count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Latents (count, WINDOW, 2) of unit variance, the first of which is as the plan says; and plans."""
    plan = torch.zeros(count, WINDOW, CHANNELS)
    plan[..., 0] = (torch.rand(count, WINDOW, generator=rng) < 0.5).float()
    noise = torch.randn(count, WINDOW, 2, generator=rng)
    # The part's flag: what the plan says is given.
    plan[..., PARTS["harmony"]] = 1
    wanted = 2 * plan[..., 0] - 1
    return torch.stack([0.95 * wanted + 0.3 * noise[..., 0], noise[..., 1]], dim=2), plan


@pytest.mark.slow
def test_a_trained_flow_follows_its_plan_and_is_free_without() -> None:
    torch.manual_seed(0)
    rng = torch.Generator().manual_seed(0)
    config = replace(TEMPORAL_PLAN, width=32, inner_width=32, dropout=0.0)
    network = TemporalPlanFlow.network(config, 2, 0)
    ema, optimizer = EMA(network, 0.98), torch.optim.AdamW(network.parameters(), lr=3e-3)
    for step in range(300):
        data, plan = known_process(32, rng)
        plan[::5] = 0
        noise, time = torch.randn(data.shape, generator=rng), torch.rand(32, generator=rng)
        nothing = torch.zeros(32, WINDOW, 1)
        t = time[:, None, None]
        made = network((1 - t) * noise + t * data, time, data, nothing, None, plan)
        loss = masked_error(made, data - noise, 1 - nothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ema.update(network, step)
    prior = TemporalPlanFlow(config, LatentSpace(torch.zeros(2), torch.ones(2))).eval()
    prior.model.load_state_dict(FlowModel(ema.module, ema.module, Whitening(2)).state_dict())
    _, plans = known_process(20, rng)
    followed = torch.stack([prior.sample(WINDOW, k, plan=p) for k, p in enumerate(plans)])[..., 0]
    free = torch.stack([prior.sample(WINDOW, k) for k in range(20)])[..., 0]
    wanted = 2 * plans[..., 0] - 1
    assert float(torch.corrcoef(torch.stack([followed.flatten(), wanted.flatten()]))[0, 1]) > 0.85
    assert abs(float(torch.corrcoef(torch.stack([free.flatten(), wanted.flatten()]))[0, 1])) < 0.25
    assert float(free.std()) == pytest.approx(1.0, abs=0.25)
