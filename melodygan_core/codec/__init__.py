"""Features -> latents -> spectrum: the codecs and their training."""

from melodygan_core.codec.base import Codec, CodecKind, CodecTask, Decoded, Features
from melodygan_core.codec.collapse import Health, check_collapse
from melodygan_core.codec.refiner.train import load_refined
from melodygan_core.codec.train import from_config, load, name_of, train

__all__ = [
    "Codec",
    "CodecKind",
    "CodecTask",
    "Decoded",
    "Features",
    "Health",
    "check_collapse",
    "from_config",
    "load",
    "load_refined",
    "name_of",
    "train",
]
