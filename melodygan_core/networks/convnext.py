"""ConvNeXt block for sequences: cheap mixing over time, then one MLP per position."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_LAYER_SCALE = 0.1
_EXPANSION = 3


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over time, then an MLP over channels: ConvNeXt (arXiv 2201.03545) in one dimension.

    Args:
        width: Channels.
        kernel: Width of the depthwise convolution; odd. The ends are padded with zeros.
    """

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, _EXPANSION * width)
        self.down = nn.Linear(_EXPANSION * width, width)
        self.scale = nn.Parameter(torch.full((width,), _LAYER_SCALE))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, tokens, width) -> the same shape."""
        h = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        return x + self.scale * self.down(nn.functional.gelu(self.up(self.norm(h))))
