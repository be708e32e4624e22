"""The networks of the priors as modules of tensors alone, and what of a prior is computed outside them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from melodygan_core.config import from_dict, require, to_dict
from melodygan_core.export.graph import Axes, Graph
from melodygan_core.export.manifest import PriorShape
from melodygan_core.plan import CHANNELS
from melodygan_core.prior import Prior
from melodygan_core.prior.flow.network import STRIDE, VelocityNetwork
from melodygan_core.prior.flow.temporal import TemporalFlow
from melodygan_core.prior.flow.whitening import Whitening
from melodygan_core.prior.gan import DenseGan, TemporalGan


class _Generator(nn.Module):
    """noise (and a condition) -> latents of the codec."""

    def __init__(self, prior: TemporalGan | DenseGan) -> None:
        super().__init__()
        self.generator = prior.generator
        self.register_buffer("mean", prior.latent_mean.clone())
        self.register_buffer("std", prior.latent_std.clone())

    def forward(self, noise: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.generator(noise, condition) * self.std + self.mean


class _Velocity(nn.Module):
    """A flow's network over a sequence that is no loop and follows no plan."""

    def __init__(self, network: VelocityNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, x: Tensor, time: Tensor, known: Tensor, mask: Tensor, condition: Tensor | None = None
    ) -> Tensor:
        # A plan of zeros leaves everything open.
        plan = None if self.network.plan is None else x.new_zeros(*x.shape[:2], CHANNELS)
        return self.network(x, time, known, mask, condition, plan)


class _Latents(nn.Module):
    """Whitened latents -> latents of the codec."""

    def __init__(self, whitening: Whitening) -> None:
        super().__init__()
        self.whitening = whitening

    def forward(self, whitened: Tensor) -> Tensor:
        return self.whitening.inverse(whitened)


def _temporal_gan(prior: TemporalGan) -> list[Graph]:
    given, counts = _condition(len(prior.conditions), 1)
    inputs: dict[str, Axes] = {"noise": (1, "tokens", prior.config.noise_dim), **given}
    outputs: dict[str, Axes] = {"latents": (1, "tokens - margins", prior.latent_dim)}
    return [Graph("generator", _Generator(prior), inputs, outputs, prior.config.margin, 3, integers=counts)]


def _dense_gan(prior: DenseGan) -> list[Graph]:
    given, counts = _condition(len(prior.conditions), "tokens")
    inputs: dict[str, Axes] = {"noise": ("tokens", prior.config.noise_dim), **given}
    outputs: dict[str, Axes] = {"latents": ("tokens", prior.latent_dim)}
    return [Graph("generator", _Generator(prior), inputs, outputs, integers=counts)]


def _temporal_flow(prior: TemporalFlow) -> list[Graph]:
    dim, count = prior.latent_dim, len(prior.conditions)
    # One more stands for none.
    given, counts = _condition(count + 1 if count else 0, 1)
    tokens: Axes = (1, "tokens", dim)
    inputs: dict[str, Axes] = {"x": tokens, "time": (1,), "known": tokens, "mask": (1, "tokens", 1), **given}
    outputs: dict[str, Axes] = {"velocity": tokens}
    networks, times = {"velocity": prior.model.network, "guide": prior.model.guide}, ("time", "mask")
    made = [
        Graph(name, _Velocity(network), inputs, outputs, STRIDE, integers=counts, times=times)
        for name, network in networks.items()
    ]
    whitening = Graph("latents", _Latents(prior.model.whitening), {"whitened": tokens}, {"latents": tokens})
    return [*made, whitening]


def _condition(count: int, axis: int | str) -> tuple[dict[str, Axes], dict[str, int]]:
    return ({"condition": (axis,)}, {"condition": count}) if count else ({}, {})


# By the kind that a release names. Another kind needs networks here and its sampling in `runtime`.
_GRAPHS: dict[str, Callable[[Any], list[Graph]]] = {
    "dense/gan": _dense_gan,
    "temporal/gan": _temporal_gan,
    "temporal/flow": _temporal_flow,
    "temporal/plan": _temporal_flow,
}


def prior_graphs(kind: str, prior: Prior) -> list[Graph]:
    """The networks of a prior.

    Args:
        kind: Of the release's prior, such as `temporal/gan`.
        prior: On the CPU.

    Raises:
        InputError: a prior that cannot be exported.
    """
    require(kind in _GRAPHS, "prior", kind, f"one that can be exported: {', '.join(_GRAPHS)}")
    return _GRAPHS[kind](prior)


def prior_shape(kind: str, prior: Prior) -> PriorShape:
    """What of a prior is computed outside its networks."""
    # Of a flow alone: the range of what it predicts.
    limits = {
        name: values.tolist()
        for name, values in prior.named_buffers()
        if name in ("model.whitening.lowest", "model.whitening.highest")
    }
    named = {name.rpartition(".")[2]: values for name, values in limits.items()}
    values = {"kind": kind, "config": to_dict(prior.config), "conditions": prior.conditions}
    return from_dict(PriorShape, {**values, **named})
