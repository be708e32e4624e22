"""Whether the borders of patches can be told from what is inside them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from melodygan_core.config import TemporalGanConfig
from melodygan_core.generation import Models, Piece

# Steps across borders are compared with this share of the steps inside.
SHARE = 0.9


def seams(models: Models, made: Iterable[Piece]) -> dict[str, float]:
    """The mean step from a patch to the next, and between which bounds most steps inside patches lie.

    Both in the latents, standardised, and in the log-mel frames that they decode to.

    Args:
        models: That made the pieces; a family without patches has no seams and no figures.
        made: Pieces, some of them longer than a patch.

    Returns:
        `seams/{latents,log_mel}/{border,inside_low,inside,inside_high}`.
    """
    config = models.gan.config
    if not isinstance(config, TemporalGanConfig):
        return {}
    pieces = list(made)
    token_frames = models.token_frames
    figures = {}
    latents: list[NDArray[np.floating]] = [p.composed.latents.numpy() / models.gan.std.numpy() for p in pieces]
    log_mels: list[NDArray[np.floating]] = [p.composed.log_mel.numpy().T for p in pieces]
    for name, sequences, patch, token in (
        ("latents", latents, config.patch_tokens, 1),
        ("log_mel", log_mels, config.patch_tokens * token_frames, token_frames),
    ):
        border, inside = _steps(sequences, patch, token)
        low, high = np.quantile(inside, [(1 - SHARE) / 2, (1 + SHARE) / 2])
        figures |= {
            f"seams/{name}/border": float(border.mean()),
            f"seams/{name}/inside_low": float(low),
            f"seams/{name}/inside": float(inside.mean()),
            f"seams/{name}/inside_high": float(high),
        }
    return figures


def _steps(
    sequences: Iterable[NDArray[np.floating]], patch: int, token: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Root mean square steps into every first frame of a token: those at borders of patches, and the others."""
    border, inside = [], []
    for sequence in sequences:
        first = np.arange(token, len(sequence), token)
        step = np.sqrt(np.square(np.float64(sequence[first] - sequence[first - 1])).mean(axis=1))
        border.append(step[first % patch == 0])
        inside.append(step[first % patch != 0])
    return np.concatenate(border), np.concatenate(inside)
