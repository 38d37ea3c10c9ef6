"""A small backbone: each joint looks at its neighbours, each frame at those before and after it, three times over."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcl.cache.skeletons import Layout
from mmcl.trainer.backbones.bodies import Bodies, pool_bodies
from mmcl.trainer.backbones.graph import adjacency
from mmcl.trainer.backbones.norm import BatchNorm
from mmcl.trainer.backbones.stem import body_rows

TAPS = 5  # frames that a block looks at


class Neighbours(nn.Module):
    """Skeletons [N, 3, T, V, M] to features [N, 4 * width]."""

    links: Tensor

    def __init__(self, layout: Layout, bodies: int, width: int = 64) -> None:
        super().__init__()
        self.feature_dim = 4 * width
        self.data_bn = BatchNorm(bodies * len(layout.joints) * 3)
        self.register_buffer("links", adjacency(layout).mean(0), persistent=False)
        self.blocks = nn.ModuleList([Block(3, width, 1), Block(width, 2 * width, 2), Block(2 * width, 4 * width, 2)])

    def forward(self, skeletons: Tensor, bodies: Bodies | None = None) -> Tensor:
        x, weight = body_rows(skeletons, self.data_bn, bodies), None if bodies is None else bodies.weight
        for block in self.blocks:
            x = block(x, self.links, weight)
        return pool_bodies(x.mean((2, 3)), skeletons.shape[0], bodies)


class Block(nn.Module):
    """ReLU(BN(conv(x A))): bodies [B, C_in, V, T] to [B, C_out, V, T / stride]."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, (1, TAPS), (1, stride), (0, TAPS // 2))
        self.bn = BatchNorm(c_out)  # not torch's: its statistics are those of all processes and all absent bodies

    def forward(self, x: Tensor, links: Tensor, weight: Tensor | None) -> Tensor:
        gathered = torch.einsum("bcvt,vw->bcwt", x, links)
        return F.relu(self.bn(self.conv(gathered), weight))
