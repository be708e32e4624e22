"""Plans: harmony, melody, onsets, metre, loudness and sections of a piece, one row per latent token."""

from melodygan_core.plan.extract import extract
from melodygan_core.plan.grid import SUBPOSITIONS, Grid, codec_grid
from melodygan_core.plan.plan import (
    CHANNELS,
    PARTS,
    SECTIONS,
    UNVOICED,
    Plan,
    channels,
    empty,
    joined,
    open_parts,
    transpose,
)

__all__ = [
    "CHANNELS",
    "PARTS",
    "SECTIONS",
    "SUBPOSITIONS",
    "UNVOICED",
    "Grid",
    "Plan",
    "channels",
    "codec_grid",
    "empty",
    "extract",
    "joined",
    "open_parts",
    "transpose",
]
