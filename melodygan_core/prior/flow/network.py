"""The network of the flow: a U-Net over time with attention at the lower rate."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melodygan_core.config import TemporalFlowConfig
from melodygan_core.networks import ConvNeXtBlock
from melodygan_core.plan import CHANNELS
from melodygan_core.training.distributed import Dropout

# Tokens that become one position of the inner blocks.
STRIDE = 4
# Of the embedding of time, which lies in [0, 1].
_TIME_VALUES, _LOWEST_HZ, _HIGHEST_HZ = 64, 0.25, 64.0


def time_embedding(time: Tensor) -> Tensor:
    """Times (batch,) in [0, 1] -> sines and cosines (batch, _TIME_VALUES) of frequencies in equal ratios."""
    count = _TIME_VALUES // 2
    exponent = torch.arange(count, device=time.device, dtype=time.dtype) / (count - 1)
    angle = 2 * math.pi * time[:, None] * _LOWEST_HZ * (_HIGHEST_HZ / _LOWEST_HZ) ** exponent
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class Block(nn.Module):
    """A ConvNeXt block whose norm is modulated: by what all blocks share, plus an offset of its own.

    Args:
        width: Channels.
        kernel: Of the depthwise convolution.
        dropout: Share of the values that are dropped before it.
    """

    def __init__(self, width: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.block = ConvNeXtBlock(width, kernel)
        self.dropout = Dropout(dropout)
        self.offset = nn.Parameter(torch.zeros(3 * width))

    def forward(self, x: Tensor, modulation: Tensor, *, circular: bool) -> Tensor:
        """(batch, tokens, width), (batch, 3 * width) -> (batch, tokens, width)."""
        made = self.block(x, modulation + self.offset, circular=circular)
        return x + self.dropout(made - x)


class Attention(nn.Module):
    """Self-attention with a learned bias per relative position, so that any length and any rotation works.

    Args:
        width: Channels; a multiple of heads.
        heads: Number of heads.
        reach: Positions on each side that a position attends to.
    """

    def __init__(self, width: int, heads: int, reach: int) -> None:
        super().__init__()
        self.heads, self.reach = heads, reach
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.project = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.bias = nn.Parameter(torch.zeros(heads, 2 * reach + 1))
        self.offset = nn.Parameter(torch.zeros(3 * width))

    def forward(self, x: Tensor, modulation: Tensor, *, circular: bool) -> Tensor:
        """(batch, positions, width), (batch, 3 * width) -> (batch, positions, width)."""
        scale, shift, gate = (modulation + self.offset)[:, None].chunk(3, dim=2)
        h = self.project(self.norm(x) * (1 + scale) + shift)
        # (3, batch, heads, positions, values of a head)
        query, key, value = h.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[3])
        weights = (scores + self._bias(x.shape[1], x.device, circular=circular)).softmax(dim=3)
        return x + (1 + gate) * self.out((weights @ value).transpose(1, 2).flatten(2))

    def _bias(self, positions: int, device: torch.device, *, circular: bool) -> Tensor:
        """(heads, positions, positions), minus infinity beyond the reach."""
        index = torch.arange(positions, device=device)
        relative = index[None] - index[:, None]
        if circular:
            relative = (relative + positions // 2) % positions - positions // 2
        bias = self.bias[:, relative.clamp(-self.reach, self.reach) + self.reach]
        return bias.masked_fill(relative.abs() > self.reach, -torch.inf)


class VelocityNetwork(nn.Module):
    """Noisy latents, time and what is known -> velocity from noise to latents.

    Modulation is shared by all blocks of a width, as in PixArt's adaLN-single (arXiv 2310.00426).

    Args:
        config: Sizes.
        latent_dim: Values in one latent.
        conditions: Number of conditions; 0 for none.
        plan_width: Values per token that a plan goes through, as a narrow path: the latents say what the plan
            leaves open. 0 for a network without plans.
    """

    def __init__(
        self, config: TemporalFlowConfig, latent_dim: int, conditions: int, plan_width: int = 0
    ) -> None:
        super().__init__()
        width, inner = config.width, config.inner_width

        def blocks(count: int, channels: int) -> nn.ModuleList:
            return nn.ModuleList(Block(channels, config.kernel, config.dropout) for _ in range(count))

        self.conditions = conditions
        self.time = nn.Sequential(nn.Linear(_TIME_VALUES, width), nn.SiLU(), nn.Linear(width, width))
        # The last row stands for no condition.
        self.condition = nn.Embedding(conditions + 1, width) if conditions else None
        self.modulation = nn.Linear(width, 3 * width)
        self.inner_modulation = nn.Linear(width, 3 * inner)
        self.plan = nn.Linear(CHANNELS, plan_width) if plan_width else None
        self.start = nn.Linear(2 * latent_dim + 1 + plan_width, width)
        self.before, self.after = blocks(config.blocks, width), blocks(config.blocks, width)
        self.down = nn.Linear(STRIDE * width, inner)
        self.inner = blocks(config.inner_blocks, inner)
        reach = config.window_tokens // STRIDE - 1
        self.attention = nn.ModuleList(
            Attention(inner, config.heads, reach) for _ in range(config.inner_blocks // 2)
        )
        self.up = nn.Linear(inner, STRIDE * width)
        self.join = nn.Linear(2 * width, width)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, latent_dim)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        known: Tensor,
        mask: Tensor,
        condition: Tensor | None = None,
        plan: Tensor | None = None,
        *,
        circular: bool = False,
    ) -> Tensor:
        """Computes the velocity.

        Args:
            x: (batch, tokens, latent_dim), (1 - time) noise + time latents; tokens a multiple of STRIDE.
            time: (batch,) in [0, 1].
            known: (batch, tokens, latent_dim) latents; those outside the mask are not looked at.
            mask: (batch, tokens, 1), 1 where latents are known, else 0.
            condition: (batch,) indices, `conditions` for none; None for a network without conditions.
            plan: (batch, tokens, plan.CHANNELS), zero where nothing is given; None for a network without plans.
            circular: Whether the sequence is a loop.

        Returns:
            (batch, tokens, latent_dim)
        """
        style = self.time(time_embedding(time))
        if self.condition is not None:
            assert condition is not None
            style = style + self.condition(condition)
        style = F.silu(style)
        outer, inner = self.modulation(style), self.inner_modulation(style)
        inputs = [x, known * mask, mask]
        if self.plan is not None:
            assert plan is not None
            inputs.append(self.plan(plan))
        h = self.start(torch.cat(inputs, dim=2))
        for block in self.before:
            h = block(h, outer, circular=circular)
        low = self.down(h.reshape(len(h), -1, self.down.in_features))
        for k, block in enumerate(self.inner):
            low = block(low, inner, circular=circular)
            if k % 2:
                low = self.attention[k // 2](low, inner, circular=circular)
        h = self.join(torch.cat([h, self.up(low).reshape(h.shape)], dim=2))
        for block in self.after:
            h = block(h, outer, circular=circular)
        return self.head(self.norm(h))
