"""ConvNeXt block for sequences: cheap mixing over time, then one MLP per position."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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

    def forward(self, x: Tensor, modulation: Tensor | None = None, *, circular: bool = False) -> Tensor:
        """Mixes over time, then over channels.

        Args:
            x: (batch, tokens, width).
            modulation: (batch, 3 * width): scale and shift after the norm, and the gate of the result, as in
                adaLN (arXiv 2212.09748); each is added to what the block has. None for none.
            circular: Pad the ends with each other, as of a loop, instead of with zeros.

        Returns:
            The same shape as x.
        """
        h = self.norm(self._mixed(x.transpose(1, 2), circular=circular).transpose(1, 2))
        if modulation is None:
            return x + self.scale * self.down(F.gelu(self.up(h)))
        scale, shift, gate = modulation[:, None].chunk(3, dim=2)
        return x + self.scale * (1 + gate) * self.down(F.gelu(self.up(h * (1 + scale) + shift)))

    def _mixed(self, x: Tensor, *, circular: bool) -> Tensor:
        if not circular:
            return self.depthwise(x)
        conv = self.depthwise
        reach = conv.kernel_size[0] // 2
        # A loop may be shorter than the reach of the kernel: whole turns are added.
        around = torch.arange(-reach, x.shape[2] + reach, device=x.device) % x.shape[2]
        return F.conv1d(x[:, :, around], conv.weight, conv.bias, groups=conv.groups)
