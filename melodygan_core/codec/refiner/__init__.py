"""A codec's refiner: a flow from what its decoder makes to the true spectrum."""

from melodygan_core.codec.refiner.model import Refiner
from melodygan_core.codec.refiner.train import check_start, load, load_refined, name_of, train

__all__ = ["Refiner", "check_start", "load", "load_refined", "name_of", "train"]
