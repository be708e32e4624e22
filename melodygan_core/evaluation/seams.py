"""Whether the borders of what the generator makes at once differ from what lies inside."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from melodygan_core.config import require

# A border may lie this share outside the lowest and the highest step between other neighbours.
TOLERANCE = 0.1


def seams(
    latents: Sequence[NDArray[np.floating]],
    log_mels: Sequence[NDArray[np.floating]],
    border_tokens: int,
    token_frames: int,
) -> dict[str, float]:
    """Returns the mean step across borders, and the lowest and highest mean step between other neighbours.

    A step is the RMS difference of a token's first value from the value before it. Steps are grouped by how
    many tokens after a border they lie; the first group are the borders.

    Args:
        latents: (tokens, dim) per piece, standardised.
        log_mels: (frames, n_mels) per piece, in the same order.
        border_tokens: Tokens from one border to the next, at least 2. A border lies before every token whose
            position is a multiple of this.
        token_frames: Log-mel frames of one token.

    Returns:
        `seams/{latents,log_mel}/{border,inside_low,inside_high}`.

    Raises:
        InputError: border_tokens below 2, or pieces too short to have a border and other neighbours.
    """
    require(border_tokens >= 2, "border_tokens", border_tokens, "at least 2")
    return _figures("latents", latents, border_tokens, 1) | _figures(
        "log_mel", log_mels, border_tokens, token_frames
    )


def inside_spread(figures: dict[str, float], what: str) -> bool:
    """Returns whether the step across borders is within the spread of other steps.

    Args:
        figures: What `seams` returned.
        what: `latents` or `log_mel`.
    """
    low, border, high = (figures[f"seams/{what}/{end}"] for end in ("inside_low", "border", "inside_high"))
    return low * (1 - TOLERANCE) <= border <= high * (1 + TOLERANCE)


def _figures(
    name: str, sequences: Sequence[NDArray[np.floating]], border_tokens: int, token_frames: int
) -> dict[str, float]:
    by_position: list[list[NDArray[np.float64]]] = [[] for _ in range(border_tokens)]
    for sequence in sequences:
        first = np.arange(token_frames, len(sequence), token_frames)
        step = np.sqrt(np.square(np.float64(sequence[first] - sequence[first - 1])).mean(axis=1))
        for position in range(border_tokens):
            by_position[position].append(step[(first // token_frames) % border_tokens == position])
    joined = [np.concatenate(steps) if steps else np.empty(0) for steps in by_position]
    longest = max((len(s) // token_frames for s in sequences), default=0)
    require(
        all(len(steps) for steps in joined),
        f"the longest piece of {name}",
        longest,
        f"more than {border_tokens} tokens, to have a border",
    )
    border, *inside = (float(steps.mean()) for steps in joined)
    return {
        f"seams/{name}/border": border,
        f"seams/{name}/inside_low": min(inside),
        f"seams/{name}/inside_high": max(inside),
    }
