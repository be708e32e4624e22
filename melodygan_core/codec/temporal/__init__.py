"""The temporal codec: a sequence of about ten latents per second."""

from melodygan_core.codec.base import CodecKind
from melodygan_core.codec.temporal.model import TemporalCodec
from melodygan_core.codec.temporal.task import TemporalTask

KIND = CodecKind(TemporalCodec, TemporalTask)

__all__ = ["KIND", "TemporalCodec", "TemporalTask"]
