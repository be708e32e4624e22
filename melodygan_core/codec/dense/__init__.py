"""The dense codec: fully connected, one latent per segment."""

from melodygan_core.codec.base import CodecKind
from melodygan_core.codec.dense.model import DenseCodec
from melodygan_core.codec.dense.task import DenseTask

KIND = CodecKind(DenseCodec, DenseTask)

__all__ = ["KIND", "DenseCodec", "DenseTask"]
