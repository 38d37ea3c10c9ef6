"""CTR-GCN (Chen et al., ICCV 2021): channel-wise topology refinement graph convolution.

Written from the equations, with T innermost and what can be computed together computed together: the mean over time
before the relation convolutions, the three subsets' value convolutions as one, their aggregations as one product.
Axes: N clips, B computed bodies of all clips, C channels, V joints, T frames, S = 3 subsets, R relation channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...cache.skeletons import Layout
from .aggregate import aggregate
from .bodies import Bodies, pool_bodies
from .graph import adjacency
from .norm import BatchNorm
from .stem import body_rows

SUBSETS = 3
BLOCKS = ((1, 1), (1, 1), (1, 1), (1, 1), (2, 2), (2, 1), (2, 1), (4, 2), (4, 1), (4, 1))  # channels in widths, stride


class CTRGCN(nn.Module):
    """Ten blocks of graph and temporal convolution; skeletons [N, 3, T, V, M] to features [N, 4 * width].

    `width` is 64 in the paper and a multiple of 8: smaller is for small machines, and says so in the run.
    """

    def __init__(self, layout: Layout, bodies: int = 2, width: int = 64) -> None:
        super().__init__()
        if width < 8 or width % 8:
            raise ValueError(f"width {width}: CTR-GCN wants a multiple of 8, 64 in the paper")
        graph = adjacency(layout)
        channels = [3, *(factor * width for factor, _ in BLOCKS)]
        self.feature_dim = channels[-1]
        self.data_bn = BatchNorm(bodies * len(layout.joints) * 3)
        self.blocks = nn.ModuleList(
            Block(channels[i], channels[i + 1], graph, stride, residual=i > 0) for i, (_, stride) in enumerate(BLOCKS)
        )

    def forward(self, skeletons: Tensor, bodies: Bodies | None = None) -> Tensor:
        x, weight = body_rows(skeletons, self.data_bn, bodies), None if bodies is None else bodies.weight
        for block in self.blocks:
            x = block(x, weight)
        return pool_bodies(x.mean((2, 3)), skeletons.shape[0], bodies)


class Block(nn.Module):
    """ReLU(temporal(graph(x)) + residual(x)): [B, C_in, V, T] to [B, C_out, V, T / stride]."""

    def __init__(self, c_in: int, c_out: int, graph: Tensor, stride: int, *, residual: bool) -> None:
        super().__init__()
        self.spatial = GraphConvolution(c_in, c_out, graph)
        self.temporal = TemporalConvolution(c_out, stride)
        self.has_residual = residual
        self.project = Projection(c_in, c_out, stride) if residual and (c_in != c_out or stride > 1) else None

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        y = self.temporal(self.spatial(x, weight), weight)
        if self.has_residual:
            y = y + (x if self.project is None else self.project(x, weight))
        return F.relu_(y)


class GraphConvolution(nn.Module):
    """y = sum_s (alpha * refine(tanh(left_u - right_v)) + PA_s) value_s(x);  out = ReLU(BN(y) + down(x)).

    The relations are those of the joints' means over time (CTR-GCN, eq. 5-9). [B, C_in, V, T] to [B, C_out, V, T].
    """

    def __init__(self, c_in: int, c_out: int, graph: Tensor) -> None:
        super().__init__()
        relations = 8 if c_in in (3, 9) else c_in // 8
        self.topology = nn.Parameter(graph.clone())
        self.alpha = nn.Parameter(torch.zeros(1))
        self.relate = nn.Conv1d(c_in, 2 * SUBSETS * relations, 1)
        self.refine = nn.Conv1d(SUBSETS * relations, SUBSETS * c_out, 1, groups=SUBSETS)
        self.value = nn.Conv2d(c_in, c_out * SUBSETS, 1)
        self.bn = BatchNorm(c_out)
        self.down = None if c_in == c_out else Projection(c_in, c_out)
        _kaiming_fan_out(self.relate, relations)
        _kaiming_fan_out(self.refine, c_out)
        _kaiming_fan_out(self.value, c_out)
        nn.init.constant_(self.bn.weight, 1e-6)

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        b, _, v, t = x.shape
        values = self.value(x).view(b, -1, SUBSETS * v, t)
        y = self.bn(aggregate(*self.relations(x.mean(3)), values), weight)
        return F.relu_(y + (x if self.down is None else self.down(x, weight)))

    def relations(self, means: Tensor) -> tuple[Tensor, Tensor]:
        """What the joints' topologies are made of, from the means over time [B, C_in, V]; see `aggregate`.

        The last two relation channels are 1 and PA, so that one product gives alpha * (W tanh + bias) + PA.
        """
        b, _, v = means.shape
        left, right = self.relate(means).chunk(2, dim=1)
        taught = torch.tanh(left[..., None, :] - right[..., :, None]).view(b, SUBSETS, -1, v * v)
        shared = self.topology.transpose(1, 2).reshape(1, SUBSETS, 1, v * v).expand(b, -1, -1, -1)
        weight, bias = (entry.view(SUBSETS, len(self.bn.weight), -1) for entry in self.refine.parameters())
        refine = torch.cat([weight * self.alpha, bias * self.alpha, torch.ones_like(bias)], 2)
        return torch.cat([taught, torch.ones_like(shared), shared], 2), refine


class TemporalConvolution(nn.Module):
    """Four branches side by side, a quarter of the channels each: 5 frames, 5 frames dilated, max of 3, one frame.

    The first three reduce with one common 1x1 convolution; the stride sits in each branch's last step.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        quarter = channels // 4
        self.stride = stride
        self.reduce = nn.Conv2d(channels, 3 * quarter, 1)
        self.reduce_bn = BatchNorm(3 * quarter)
        self.near = nn.Conv2d(quarter, quarter, (1, 5), (1, stride), (0, 2))
        self.far = nn.Conv2d(quarter, quarter, (1, 5), (1, stride), (0, 4), (1, 2))
        self.pool = nn.MaxPool2d((1, 3), (1, stride), (0, 1))
        self.point = nn.Conv2d(channels, quarter, 1)
        self.bn = BatchNorm(channels)
        for conv in (self.reduce, self.near, self.far, self.point):
            _kaiming_fan_out(conv, quarter * conv.kernel_size[-1])
        for norm in (self.reduce_bn, self.bn):
            nn.init.normal_(norm.weight, 1, 0.02)

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        near, far, pool = map(F.relu, self.reduce_bn(self.reduce(x), weight).chunk(3, dim=1))
        point = self.point(x[..., :: self.stride])
        return self.bn(torch.cat([self.near(near), self.far(far), self.pool(pool), point], dim=1), weight)


class Projection(nn.Sequential):
    """1x1 convolution with a stride over time and batch norm, where a shortcut changes shape."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        conv = nn.Conv2d(c_in, c_out, 1, (1, stride))
        super().__init__(conv, BatchNorm(c_out))
        _kaiming_fan_out(conv, c_out)

    def forward(self, input: Tensor, weight: Tensor | None = None) -> Tensor:
        conv, norm = self
        return norm(conv(input), weight)


def _kaiming_fan_out(conv: nn.Conv1d | nn.Conv2d, fan_out: int) -> None:
    """He initialisation for the fan-out of the paper's separate convolutions, which ours computes together."""
    nn.init.normal_(conv.weight, 0, (2 / fan_out) ** 0.5)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
