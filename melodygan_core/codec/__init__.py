"""Features -> latents -> log-mel: the codecs and their training."""

from melodygan_core.codec.base import Codec, CodecKind, CodecTask
from melodygan_core.codec.collapse import Health, check_collapse
from melodygan_core.codec.train import from_config, load, name_of, train

__all__ = [
    "Codec",
    "CodecKind",
    "CodecTask",
    "Health",
    "check_collapse",
    "from_config",
    "load",
    "name_of",
    "train",
]
