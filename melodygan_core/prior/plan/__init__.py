"""Priors that follow a plan: `TEMPORAL`, the flow over sequences of latents with a plan beside them."""

from melodygan_core.prior.base import PriorKind
from melodygan_core.prior.flow import check_flow
from melodygan_core.prior.plan.model import TemporalPlanFlow
from melodygan_core.prior.plan.task import PlanFlowTask

TEMPORAL = PriorKind(TemporalPlanFlow, PlanFlowTask, check_flow(PlanFlowTask))

__all__ = ["TEMPORAL", "PlanFlowTask", "TemporalPlanFlow"]
