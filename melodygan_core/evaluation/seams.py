"""Whether the borders of patches can be told from what is inside them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from melodygan_core.config import TemporalGanConfig
from melodygan_core.errors import InputError
from melodygan_core.generation import Piece
from melodygan_core.pipeline import Models

# Within this part of the lowest and the highest step between other places, a border cannot be told from them.
TOLERANCE = 0.1


def seams(models: Models, made: Iterable[Piece]) -> dict[str, float]:
    """The mean step across borders, and the lowest and highest mean step between other neighbours.

    Borders are where the generator could leave one: between tokens that start as one position and the next.
    Steps are looked at in the latents, standardised, and in the log-mel frames that they decode to; other
    places are told apart by how far after a border they lie.

    Args:
        models: That made the pieces; a family without patches has no seams and no figures.
        made: Pieces.

    Returns:
        `seams/{latents,log_mel}/{border,inside_low,inside_high}`.

    Raises:
        InputError: no piece has a border.
    """
    config = models.gan.config
    if not isinstance(config, TemporalGanConfig):
        return {}
    pieces = list(made)
    latents = [p.composed.latents.numpy() / models.gan.std.numpy() for p in pieces]
    log_mels = [p.composed.log_mel.numpy().T for p in pieces]
    return _figures("latents", latents, config.margin, 1) | _figures(
        "log_mel", log_mels, config.margin, models.token_frames
    )


def unseen(figures: dict[str, float], what: str) -> bool:
    """Whether the borders of `latents` or `log_mel` cannot be told from other places."""
    low, border, high = (figures[f"seams/{what}/{end}"] for end in ("inside_low", "border", "inside_high"))
    return low * (1 - TOLERANCE) <= border <= high * (1 + TOLERANCE)


def _figures(name: str, sequences: Sequence[NDArray[np.floating]], margin: int, token: int) -> dict[str, float]:
    """Of steps into every first frame of a token."""
    by_place: list[list[NDArray[np.float64]]] = [[] for _ in range(margin)]
    for sequence in sequences:
        first = np.arange(token, len(sequence), token)
        step = np.sqrt(np.square(np.float64(sequence[first] - sequence[first - 1])).mean(axis=1))
        for place in range(margin):
            by_place[place].append(step[(first // token) % margin == place])
    joined = [np.concatenate(steps) for steps in by_place]
    if not all(len(steps) for steps in joined):
        raise InputError(f"pieces are shorter than two times {margin} latents: there is no border to look at")
    border, *inside = (float(steps.mean()) for steps in joined)
    return {
        f"seams/{name}/border": border,
        f"seams/{name}/inside_low": min(inside),
        f"seams/{name}/inside_high": max(inside),
    }
