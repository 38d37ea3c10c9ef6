"""CTR-GCN's equations one after the other: nothing fused, nothing computed together, torch's own batch norm.

Written from the paper's equations, as trainer/backbones/ctrgcn.py is; entries are named as in the original release, so
that weights go from one to the other. Axes: B bodies, C channels, T frames, V joints, R relation channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmcl.cache.skeletons import Layout
from mmcl.trainer.backbones.graph import adjacency

WIDTHS = (1, 1, 1, 1, 2, 2, 2, 4, 4, 4)
STRIDED = (4, 7)  # blocks that halve the frames


class Plain(nn.Module):
    """Skeletons [N, 3, T, V, M] to scores [N, K]."""

    def __init__(self, layout: Layout, bodies: int, classes: int, width: int = 64) -> None:
        super().__init__()
        graph, channels = adjacency(layout), 3
        self.data_bn = nn.BatchNorm1d(bodies * len(layout.joints) * 3)
        for number, factor in enumerate(WIDTHS):
            block = PlainBlock(channels, factor * width, graph, 2 if number in STRIDED else 1, first=number == 0)
            self.add_module(f"l{number + 1}", block)
            channels = factor * width
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        n, c, t, v, m = x.shape
        x = self.data_bn(x.permute(0, 4, 3, 1, 2).reshape(n, m * v * c, t))
        x = x.view(n, m, v, c, t).permute(0, 1, 3, 4, 2).reshape(n * m, c, t, v)
        for number in range(len(WIDTHS)):
            x = getattr(self, f"l{number + 1}")(x)
        return self.fc(x.mean((2, 3)).view(n, m, -1).mean(1))


class PlainBlock(nn.Module):
    """ReLU(temporal(graph(x)) + residual(x)), [B, C_in, T, V] to [B, C_out, T / stride, V]."""

    def __init__(self, c_in: int, c_out: int, graph: Tensor, stride: int, *, first: bool) -> None:
        super().__init__()
        self.gcn1 = PlainGraph(c_in, c_out, graph)
        self.tcn1 = PlainTemporal(c_out, stride)
        self.first = first
        same = c_in == c_out and stride == 1
        self.residual = nn.Identity() if first or same else ConvNorm(c_in, c_out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.tcn1(self.gcn1(x))
        return torch.relu(y if self.first else y + self.residual(x))


class PlainGraph(nn.Module):
    """out = ReLU(BN(sum over subsets) + down(x)); PA starts at the graph, alpha at 0."""

    def __init__(self, c_in: int, c_out: int, graph: Tensor) -> None:
        super().__init__()
        self.convs = nn.ModuleList(PlainSubset(c_in, c_out) for _ in graph)
        self.PA = nn.Parameter(graph.clone())
        self.alpha = nn.Parameter(torch.zeros(1))
        self.bn = nn.BatchNorm2d(c_out)
        changed = nn.Sequential(nn.Conv2d(c_in, c_out, 1), nn.BatchNorm2d(c_out))
        self.down = nn.Identity() if c_in == c_out else changed

    def forward(self, x: Tensor) -> Tensor:
        parts = [subset(x, edges, self.alpha) for subset, edges in zip(self.convs, self.PA, strict=True)]
        return torch.relu(self.bn(torch.stack(parts).sum(0)) + self.down(x))


class PlainSubset(nn.Module):
    """einsum('ncuv,nctv->nctu', alpha * conv4(tanh(mean_T conv1(x)_u - mean_T conv2(x)_v)) + PA_s, conv3(x))."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        relations = 8 if c_in in (3, 9) else c_in // 8
        self.conv1, self.conv2 = nn.Conv2d(c_in, relations, 1), nn.Conv2d(c_in, relations, 1)
        self.conv3, self.conv4 = nn.Conv2d(c_in, c_out, 1), nn.Conv2d(relations, c_out, 1)

    def forward(self, x: Tensor, edges: Tensor, alpha: Tensor) -> Tensor:
        left, right = self.conv1(x).mean(2), self.conv2(x).mean(2)
        refined = self.conv4(torch.tanh(left[..., :, None] - right[..., None, :]))
        return torch.einsum("ncuv,nctv->nctu", alpha * refined + edges, self.conv3(x))


class PlainTemporal(nn.Module):
    """Four branches of a quarter of the channels: 5 frames, 5 frames dilated, max of 3 frames, one frame."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        quarter = channels // 4
        pool = nn.MaxPool2d((3, 1), (stride, 1), (1, 0))
        self.branches = nn.ModuleList(
            [
                nn.Sequential(*reduced(channels, quarter), ConvNorm(quarter, quarter, 5, stride)),
                nn.Sequential(*reduced(channels, quarter), ConvNorm(quarter, quarter, 5, stride, dilation=2)),
                nn.Sequential(*reduced(channels, quarter), pool, nn.BatchNorm2d(quarter)),
                nn.Sequential(nn.Conv2d(channels, quarter, 1, (stride, 1)), nn.BatchNorm2d(quarter)),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class ConvNorm(nn.Module):
    """A convolution over `frames` frames, and batch norm."""

    def __init__(self, c_in: int, c_out: int, frames: int, stride: int, dilation: int = 1) -> None:
        super().__init__()
        padding = dilation * (frames - 1) // 2
        self.conv = nn.Conv2d(c_in, c_out, (frames, 1), (stride, 1), (padding, 0), (dilation, 1))
        self.bn = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


def reduced(c_in: int, c_out: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(c_in, c_out, 1), nn.BatchNorm2d(c_out), nn.ReLU()
