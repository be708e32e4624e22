"""Features -> latents -> spectrum: the codecs and their training."""

from melodygan_core.codec.base import Codec, CodecKind, CodecTask, Decoded, Features, StartableCodecTask
from melodygan_core.codec.collapse import Health, check_collapse
from melodygan_core.codec.refiner.train import load_refined
from melodygan_core.codec.train import check_start, from_config, load, name_of, train

__all__ = [
    "Codec",
    "CodecKind",
    "CodecTask",
    "Decoded",
    "Features",
    "Health",
    "StartableCodecTask",
    "check_collapse",
    "check_start",
    "from_config",
    "load",
    "load_refined",
    "name_of",
    "train",
]
