"""The flow that follows a plan."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from melodygan_core.config import TemporalFlowConfig, TemporalPlanConfig, require
from melodygan_core.plan import CHANNELS
from melodygan_core.prior.flow.network import VelocityNetwork
from melodygan_core.prior.flow.temporal import TemporalFlow


class TemporalPlanFlow(TemporalFlow):
    """A rectified flow over sequences of latents that follows a plan where one is given.

    The plan goes through a linear bottleneck and is concatenated with the latents, as in JASCO (arXiv
    2406.10970). Without a plan, and beyond its end, the flow is free. Guidance above 1 amplifies the plan
    and the condition together.
    """

    capabilities: ClassVar[frozenset[str]] = TemporalFlow.capabilities | {"plan"}

    @classmethod
    def network(cls, config: TemporalFlowConfig, latent_dim: int, conditions: int) -> VelocityNetwork:
        """A network of new weights."""
        assert isinstance(config, TemporalPlanConfig)
        return VelocityNetwork(config, latent_dim, conditions, config.plan_width)

    def _plan(self, plan: Tensor | None) -> Tensor:
        """The plan on the prior's device; without one, nothing is given."""
        if plan is None:
            return self.latent_mean.new_zeros(0, CHANNELS)
        good = plan.ndim == 2 and plan.shape[1] == CHANNELS
        require(good, "plan.shape", tuple(plan.shape), f"(tokens, {CHANNELS})")
        return plan.to(self.device, self.latent_mean.dtype)
