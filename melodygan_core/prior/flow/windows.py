"""The windows that a piece is made in, one after the other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Window:
    """A part of a piece that is solved at once.

    Attributes:
        start: Its first token.
        stop: Its unknown tokens before this one are kept; what is made of later ones is not.
    """

    start: int
    stop: int


def windows(known: Tensor, size: int) -> list[Window]:
    """The windows that make all unknown tokens of a piece, in order.

    A window goes on from up to half its size of what is known before. A gap that fits in half a window is made
    with what is known on both sides; a longer one is made from its beginning, and its last part fits again.

    Args:
        known: (tokens,) boolean, on the CPU.
        size: Tokens of a window.
    """
    done, total = known.tolist(), len(known)
    found = []
    while False in done:
        first = done.index(False)
        end = done.index(True, first) if True in done[first:] else total
        gap, half = end - first, size // 2
        if end < total and gap <= half:
            # In the middle, if there is that much on both sides.
            start, stop = max(0, min(first - (size - gap) // 2, total - size)), end
        elif end < total:
            start = max(0, first - half)
            stop = first + min(start + size - first, gap - min(half, gap // 2))
        else:
            start = max(0, first - half)
            stop = min(start + size, total)
        found.append(Window(start, stop))
        done[first:stop] = [True] * (stop - first)
    return found


def padded(values: Tensor, count: int) -> Tensor:
    """(tokens, ...) -> (tokens + count, ...), filled with zeros."""
    return torch.cat([values, values.new_zeros(count, *values.shape[1:])])


def mirrored(tokens: int, count: int) -> Tensor:
    """Indices (tokens + count,) of tokens that go on backwards, then forwards, and so on."""
    turn = max(1, 2 * (tokens - 1))
    around = torch.arange(tokens + count) % turn
    return torch.minimum(around, turn - around).clamp_max(tokens - 1)


def plan_window(plan: Tensor | None, start: int, size: int) -> Tensor | None:
    """Returns the part of a plan that a window follows.

    Args:
        plan: (tokens, plan.CHANNELS), or None.
        start: First token of the window.
        size: Tokens of the window.

    Returns:
        (1, size, plan.CHANNELS), zero (nothing given) beyond the plan's end; None without a plan.
    """
    if plan is None:
        return None
    part = plan[start : start + size]
    return padded(part, size - len(part))[None]
