"""Long sound in blocks, so that memory does not grow with it: which frames a block needs, and its samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from melodygan_core.config import FeatureConfig

# Values of an STFT in a block, over ten seconds. Larger arrays are beyond what the allocator of a CPU keeps:
# getting them anew each time takes a quarter of the time.
BLOCK_VALUES = 2**21


class Block(NamedTuple):
    """Frames of a block.

    Attributes:
        start: First frame that is made.
        end: One after the last frame that is made.
        first: First frame that is computed; those before `start` are context.
        last: One after the last frame that is computed.
    """

    start: int
    end: int
    first: int
    last: int


def blocks(
    frames: int, context: int, feature: FeatureConfig, block_frames: int | None = None
) -> Iterator[Block]:
    """Yields the blocks of a sound.

    Args:
        frames: Of the sound.
        context: Frames that a frame depends on, on each side.
        feature: Sizes of the STFT.
        block_frames: Frames per block, by default as many as BLOCK_VALUES allow.
    """
    size = block_frames or max(1, BLOCK_VALUES // (feature.n_fft // 2))
    for start in range(0, frames, size):
        end = min(start + size, frames)
        yield Block(start, end, max(0, start - context), min(frames, end + context))


def block_wav(stft: Tensor, block: Block, feature: FeatureConfig, window: Tensor) -> Tensor:
    """Samples that belong to the frames of a block; those of its last frame are left out at the end of a sound.

    Args:
        stft: Complex (batch, n_fft // 2 + 1, frames), of the frames from `block.first` on.
        block: Which frames are made.
        feature: Sizes of the STFT.
        window: Of the STFT.
    """
    overlap, hop_length = feature.n_fft // feature.hop_length, feature.hop_length
    wide = max(0, block.start - overlap) - block.first
    part = stft[:, :, wide : block.end + overlap - block.first]
    wav = torch.istft(part, feature.n_fft, hop_length, window=window)
    skipped = (block.start - block.first - wide) * hop_length
    return wav[:, skipped : skipped + (block.end - block.start) * hop_length]
