"""Compares a generated set with real test tracks, beside real music and the parts of its own chain.

Every set is compared with the *test* tracks. The real baseline is music of *validation* tracks. `vocoder` and
`codec` are the same validation segments through the vocoder alone, and through codec and vocoder: the best that
generation can reach with these parts. What generation loses beyond them is lost by the prior. Pulse, harmony,
melody and form are compared as distributions over excerpts, beside real music out of order.
"""

from melodygan_core.evaluation.distances import side_by_side
from melodygan_core.evaluation.music import music_table, music_values
from melodygan_core.evaluation.pitch import pitch_figures
from melodygan_core.evaluation.run import evaluate, name_of
from melodygan_core.evaluation.seams import inside_spread, seams

__all__ = [
    "evaluate",
    "inside_spread",
    "music_table",
    "music_values",
    "name_of",
    "pitch_figures",
    "seams",
    "side_by_side",
]
