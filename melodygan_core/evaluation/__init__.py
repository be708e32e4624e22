"""A generated set against real test tracks, beside the floor and the ceilings of its own chain.

Every set is compared with the *test* tracks. The floor is real sound of *validation* tracks; the ceilings are
the same validation segments through a part of the chain: the vocoder alone, then autoencoder and vocoder. What
generation adds on top of these is the GAN's.
"""

from melodygan_core.evaluation.run import evaluate, name_of
from melodygan_core.evaluation.seams import seams, unseen
from melodygan_core.evaluation.side_by_side import side_by_side

__all__ = ["evaluate", "name_of", "seams", "side_by_side", "unseen"]
