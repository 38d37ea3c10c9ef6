"""CTRS-GCN, the baseline of CTR-GCN's authors: one learned topology a subset, shared by all channels and clips.

The name is that of MMCL's tables; the network is the one CTR-GCN's release calls its baseline (83.7% on NTU RGB+D 120
X-Sub, joints). Written from its equations, with T innermost, the three subsets' aggregations as one product and their
convolutions as one. Axes: B bodies of all clips, C channels, V joints, T frames, S = 3 subsets.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...cache.skeletons import Layout
from .bodies import Bodies, pool_bodies
from .ctrgcn import BLOCKS, SUBSETS
from .norm import BatchNorm
from .stem import body_rows

TAPS = 5  # frames of the temporal convolution


class CTRSGCN(nn.Module):
    """Ten blocks of graph and temporal convolution; skeletons [N, 3, T, V, M] to features [N, 4 * width].

    Its topologies start as identities: of the layout it sees the number of joints only. `width` is 64 in the paper.
    """

    def __init__(self, layout: Layout, bodies: int = 2, width: int = 64) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width {width}: CTRS-GCN wants at least 1, 64 in the paper")
        joints = len(layout.joints)
        channels = [3, *(factor * width for factor, _ in BLOCKS)]
        self.feature_dim = channels[-1]
        self.data_bn = BatchNorm(bodies * joints * 3)
        self.blocks = nn.ModuleList(
            Block(channels[i], channels[i + 1], joints, stride, residual=i > 0) for i, (_, stride) in enumerate(BLOCKS)
        )

    def forward(self, skeletons: Tensor, bodies: Bodies | None = None) -> Tensor:
        x, weight = body_rows(skeletons, self.data_bn, bodies), None if bodies is None else bodies.weight
        for block in self.blocks:
            x = block(x, weight)
        return pool_bodies(x.mean((2, 3)), skeletons.shape[0], bodies)


class Block(nn.Module):
    """ReLU(temporal(graph(x)) + residual(x)): [B, C_in, V, T] to [B, C_out, V, T / stride]."""

    def __init__(self, c_in: int, c_out: int, joints: int, stride: int, *, residual: bool) -> None:
        super().__init__()
        self.spatial = SharedGraphConvolution(c_in, c_out, joints)
        self.temporal = OverTime(c_out, c_out, TAPS, stride)
        self.has_residual = residual
        changed = residual and (c_in != c_out or stride > 1)
        self.project = OverTime(c_in, c_out, 1, stride) if changed else None

    def forward(self, x: Tensor, weight: Tensor | None) -> Tensor:
        y = self.temporal(self.spatial(x, weight), weight)
        if not self.has_residual:
            return F.relu_(y)
        return F.relu_(y + (x if self.project is None else self.project(x, weight)))


class SharedGraphConvolution(nn.Module):
    """y = sum_s value_s(x P_s), P_s = A_s with columns of length one;  out = ReLU(BN(y) + down(x)).

    The sum over subsets is the convolution's own: its input channels are the subsets' side by side.
    [B, C_in, V, T] to [B, C_out, V, T].
    """

    def __init__(self, c_in: int, c_out: int, joints: int) -> None:
        super().__init__()
        self.topology = nn.Parameter(torch.eye(joints).repeat(SUBSETS, 1, 1))
        self.value = nn.Conv2d(c_in * SUBSETS, c_out, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(SUBSETS, c_out))  # as the separate convolutions have them: they add up
        self.bn = BatchNorm(c_out)
        self.down = None if c_in == c_out else OverTime(c_in, c_out, 1, 1)
        nn.init.normal_(self.value.weight, 0, (2 / (c_out * c_in * SUBSETS)) ** 0.5)
        nn.init.constant_(self.bn.weight, 1e-6)

    def forward(self, x: Tensor, weight: Tensor | None) -> Tensor:
        b, c, v, t = x.shape
        links = self.topology / (self.topology.norm(dim=1, keepdim=True) + 1e-4)
        links = links.transpose(1, 2).reshape(1, SUBSETS * v, v).expand(b * c, -1, -1)
        gathered = torch.bmm(links, x.reshape(b * c, v, t)).view(b, c * SUBSETS, v, t)
        y = self.bn(F.conv2d(gathered, self.value.weight, self.bias.sum(0)), weight)
        return F.relu_(y + (x if self.down is None else self.down(x, weight)))


class OverTime(nn.Module):
    """A convolution over `taps` frames with a stride, and batch norm: [B, C_in, V, T] to [B, C_out, V, T / stride]."""

    def __init__(self, c_in: int, c_out: int, taps: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, (1, taps), (1, stride), (0, taps // 2))
        self.bn = BatchNorm(c_out)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out")
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, weight: Tensor | None) -> Tensor:
        return self.bn(self.conv(x), weight)
