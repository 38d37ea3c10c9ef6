"""HD-GCN (Lee et al., ICCV 2023): hierarchically decomposed graph convolution.

Written from the paper and its MIT-licensed release (github.com/Jho-Yonsei/HD-GCN), with what can be computed together
computed together: the reductions of all L pairs of levels as one convolution, their 3 L convolutions as one product and
their 3 L aggregations as another, and what does not change over time computed once, not once a frame.
Axes: B bodies of all clips, C channels, V joints, T frames, L pairs of neighbouring levels, S = 3 subsets, Q = C / 4.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...cache.skeletons import Layout
from .bodies import Bodies, pool_bodies
from .ctrgcn import BLOCKS, SUBSETS, Projection, TemporalConvolution
from .hierarchy import centre_of_mass, hierarchical_graph, levels
from .norm import BatchNorm
from .stem import body_rows

NEAREST_JOINTS, NEAREST_LEVELS = 5, 3  # neighbours in feature space, of joints and of pairs of levels


class HDGCN(nn.Module):
    """Ten blocks of graph and temporal convolution; skeletons [N, 3, T, V, M] to features [N, 4 * width].

    `centre` is where the hierarchy starts: chest, belly or hip; the paper's ensemble has joints and bones of all three.
    `width` is 64 in the paper and a multiple of 4.
    """

    def __init__(self, layout: Layout, bodies: int = 2, width: int = 64, centre: str = "chest") -> None:
        super().__init__()
        if width < 4 or width % 4:
            raise ValueError(f"width {width}: HD-GCN wants a multiple of 4, 64 in the paper")
        graph = hierarchical_graph(levels(layout, centre_of_mass(layout, centre)))
        channels = [3, *(factor * width for factor, _ in BLOCKS)]
        self.feature_dim = channels[-1]
        self.data_bn = BatchNorm(bodies * len(layout.joints) * 3)
        self.blocks = nn.ModuleList(
            Block(channels[i], channels[i + 1], graph, stride, first=i == 0) for i, (_, stride) in enumerate(BLOCKS)
        )

    def forward(self, skeletons: Tensor, bodies: Bodies | None = None) -> Tensor:
        x, weight = body_rows(skeletons, self.data_bn, bodies), None if bodies is None else bodies.weight
        for block in self.blocks:
            x = block(x, weight)
        return pool_bodies(x.mean((2, 3)), skeletons.shape[0], bodies)


class Block(nn.Module):
    """ReLU(temporal(graph(x)) + residual(x)): [B, C_in, V, T] to [B, C_out, V, T / stride].

    The first block has neither a residual nor attention over the levels.
    """

    def __init__(self, c_in: int, c_out: int, graph: Tensor, stride: int, *, first: bool) -> None:
        super().__init__()
        self.spatial = HierarchicalConvolution(c_in, c_out, graph, attend=not first)
        self.temporal = TemporalConvolution(c_out, stride)
        self.has_residual = not first
        changed = not first and (c_in != c_out or stride > 1)
        self.project = Projection(c_in, c_out, stride) if changed else None

    def forward(self, x: Tensor, weight: Tensor | None) -> Tensor:
        y = self.temporal(self.spatial(x, weight), weight)
        if not self.has_residual:
            return F.relu_(y)
        return F.relu_(y + (x if self.project is None else self.project(x, weight)))


class HierarchicalConvolution(nn.Module):
    """For each pair of levels three subsets' graph convolutions and one over nearest joints, a quarter of C_out each.

    out = ReLU(BN(sum_l a_l y_l) + down(x)), a_l from the attention. [B, C_in, V, T] to [B, C_out, V, T].
    """

    def __init__(self, c_in: int, c_out: int, graph: Tensor, *, attend: bool) -> None:
        super().__init__()
        self.pairs, quarter = len(graph), c_out // 4
        self.topology = nn.Parameter(graph.clone())
        self.reduce = nn.Conv2d(c_in, self.pairs * quarter, 1)
        self.reduce_bn = BatchNorm(self.pairs * quarter)
        self.value = nn.Parameter(torch.empty(self.pairs, SUBSETS * quarter, quarter))
        self.bias = nn.Parameter(torch.zeros(self.pairs, SUBSETS, quarter))
        self.value_bn = BatchNorm(self.pairs * SUBSETS * quarter)
        self.nearest = NearestConvolution(self.pairs, quarter, NEAREST_JOINTS)
        self.attention = LevelAttention(c_out, graph) if attend else None
        self.bn = BatchNorm(c_out)
        self.down = None if c_in == c_out else Projection(c_in, c_out)
        for weight in (self.reduce.weight, self.value):
            nn.init.normal_(weight, 0, (2 / quarter) ** 0.5)
        nn.init.zeros_(self.reduce.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.bn.weight, 1e-6)

    def forward(self, x: Tensor, weight: Tensor | None) -> Tensor:
        b, _, v, t = x.shape
        x = x.transpose(2, 3).contiguous()  # joints innermost: a topology serves all channels and frames in one product
        reduced = F.relu_(self.reduce_bn(self.reduce(x), weight))
        values = (self.value @ reduced.view(b, self.pairs, -1, t * v)).view(b, self.pairs, SUBSETS, -1, v)
        moving = (values @ self.topology.transpose(2, 3)).add_(self.bias.repeat_interleave(t, 2)[..., None])
        moving = self.value_bn(moving.view(b, -1, t, v), weight)
        still = self.nearest(reduced.mean(2), weight).view(b, self.pairs, -1, v)
        y = self.bn(self.over_pairs(moving.view(b, self.pairs, -1, t, v), still, weight), weight)
        return F.relu_(y + (x if self.down is None else self.down(x, weight))).transpose(2, 3).contiguous()

    def over_pairs(self, moving: Tensor, still: Tensor, weight: Tensor | None) -> Tensor:
        """The sum over pairs of levels of [B, L, 3Q, T, V] and, the same in all frames, [B, L, Q, V]: [B, C, T, V]."""
        if self.attention is None:
            moving, still = moving.sum(1), still.sum(1)
        else:
            shares = self.attention(torch.cat([_largest(moving), still], dim=2), weight)
            cut = moving.shape[2]
            moving, still = _sum_of_shares(moving, shares[:, :, :cut]), (still * shares[:, :, cut:, None]).sum(1)
        return torch.cat([moving, still[:, :, None].expand(-1, -1, moving.shape[2], -1)], dim=1)


class LevelAttention(nn.Module):
    """How much each channel takes from each pair of levels, from what is largest over time (HD-GCN's A-HA).

    [B, L, C, V] to shares in (0, 1), [B, L, C].
    """

    members: Tensor

    def __init__(self, channels: int, graph: Tensor) -> None:
        super().__init__()
        quarter = channels // 4
        self.register_buffer("members", graph[:, 0].diagonal(dim1=1, dim2=2).clone(), persistent=False)
        self.reduce = nn.Conv1d(channels, quarter, 1)
        self.reduce_bn = BatchNorm(quarter)
        self.nearest = NearestConvolution(1, quarter, NEAREST_LEVELS)
        self.expand = nn.Conv1d(quarter, channels, 1)
        nn.init.normal_(self.reduce.weight, 0, (2 / quarter) ** 0.5)
        nn.init.zeros_(self.reduce.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, weight: Tensor | None) -> Tensor:
        b, pairs, _, v = x.shape
        reduced = F.relu_(self.reduce_bn(self.reduce(x.transpose(1, 2).flatten(2)), weight))
        means = (reduced.view(b, -1, pairs, v) * self.members).sum(3) / self.members.sum(1)
        return self.expand(self.nearest(means, weight)).sigmoid().transpose(1, 2)


class NearestConvolution(nn.Module):
    """The largest over a node's `count` nearest nodes of LeakyReLU(BN(W [x_near - x, x])), in feature space (EdgeConv).

    W is applied before the nodes are gathered, once a node and not once a pair. `groups` of nodes side by side have
    their own W and neighbours: [B, groups * C, V] to the same shape.
    """

    def __init__(self, groups: int, channels: int, count: int) -> None:
        super().__init__()
        self.groups, self.count = groups, count
        self.weight = nn.Parameter(torch.empty(groups * channels, 2 * channels))
        self.bn = BatchNorm(groups * channels)
        nn.init.normal_(self.weight, 0, (2 / channels) ** 0.5)

    def forward(self, x: Tensor, weight: Tensor | None) -> Tensor:
        b, c, v = x.shape
        nodes = x.view(b, self.groups, -1, v)
        with torch.no_grad():
            places = nodes.transpose(2, 3)
            distances = torch.cdist(places, places, compute_mode="donot_use_mm_for_euclid_dist")
            near = distances.topk(min(self.count, v), largest=False).indices.flatten(2)[:, :, None]
        difference, itself = self.weight.view(self.groups, -1, 2, nodes.shape[2]).unbind(2)
        weights = torch.cat([difference, itself - difference], dim=1).flatten(0, 1)
        theirs, ours = F.conv1d(x, weights[..., None], groups=self.groups).view(b, self.groups, -1, v).chunk(2, dim=2)
        theirs = theirs.gather(3, near.expand(-1, -1, nodes.shape[2], -1)).view(b, c, v, -1)
        edges = F.leaky_relu(self.bn(theirs + ours.reshape(b, c, v, 1), weight), 0.2)
        return edges.max(3).values


def _largest(x: Tensor) -> Tensor:
    """The largest over time of [..., T, V]; its place is looked for, which takes longer, only where a gradient goes."""
    return x.max(-2).values if x.requires_grad else x.amax(-2)


def _sum_of_shares(parts: Tensor, shares: Tensor) -> Tensor:
    """The sum over L of `parts` [B, L, C, T, V] times `shares` [B, L, C], without their product in memory."""
    return _SumOfShares.apply(parts, shares[..., None, None])


class _SumOfShares(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, parts: Tensor, shares: Tensor) -> Tensor:
        ctx.save_for_backward(parts, shares)
        total = parts[:, 0] * shares[:, 0]
        for index in range(1, parts.shape[1]):
            total.addcmul_(parts[:, index], shares[:, index])
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        parts, shares = ctx.saved_tensors
        flat = grads[0].flatten(2)
        dots = [torch.linalg.vecdot(part.flatten(2), flat) for part in parts.unbind(1)]
        # into an own tensor: the product's own order of axes would be copied by whoever comes next
        d_parts = torch.mul(grads[0][:, None], shares, out=torch.empty_like(parts))
        return d_parts, torch.stack(dots, 1).view(shares.shape)
