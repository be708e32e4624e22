"""The state that a flow's network begins with, from a trained one that may know other conditions."""

from __future__ import annotations

from torch import Tensor

from melodygan_core.prior.conditions import known_rows
from melodygan_core.prior.flow.network import VelocityNetwork

_ROWS, _TIME_BIAS = "condition.weight", "time.2.bias"


def started_state(
    network: VelocityNetwork,
    names: tuple[str, ...],
    pretrained: VelocityNetwork,
    known: tuple[str, ...],
    *,
    trains: bool,
) -> dict[str, Tensor]:
    """The trained network's state, with rows for the conditions of another network.

    Args:
        network: As initialised.
        names: Of its conditions.
        pretrained: Of the same shapes but for the conditions.
        known: Names of the trained network's conditions.
        trains: Whether the network is trained from here on: then rows of unknown conditions begin as they are
            initialised. Else they are those of no condition, because nothing would ever move them.
    """
    own, state = network.state_dict(), pretrained.state_dict()
    rows = state.pop(_ROWS, None)
    if _ROWS not in own:
        if rows is not None:
            # Without conditions, what stands for none of them is always added.
            state[_TIME_BIAS] = state[_TIME_BIAS] + rows[-1]
        return state
    begun = own.pop(_ROWS)
    if not trains:
        begun = begun.new_zeros(begun.shape) if rows is None else rows[-1:].expand_as(begun)
    return {**state, _ROWS: begun if rows is None else known_rows(begun, names, rows, known)}
