"""A trained network in the form that is quickest to run: what is constant is worked out, batch norms are folded away.

The numbers are the network's own to float rounding. A batch norm right behind a convolution is left to the exporter,
which folds it; here is what it does not see. Axes: B bodies, C channels, V joints, T frames, S = 3 subsets.
"""

from __future__ import annotations

from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..backbones.ctrgcn import SUBSETS, GraphConvolution
from ..backbones.ctrsgcn import SharedGraphConvolution
from ..backbones.hdgcn import HierarchicalConvolution, NearestConvolution
from ..backbones.norm import EPSILON, BatchNorm
from ..model import SkeletonClassifier


class Scores(nn.Module):
    """A network that makes of skeletons [N, C, T, V, M] nothing but scores [N, K]."""

    def __init__(self, model: SkeletonClassifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, skeletons: Tensor) -> Tensor:
        return self.model(skeletons).scores


@torch.no_grad()
def fused(model: SkeletonClassifier) -> Scores:
    """A copy of a trained network for evaluation, on the CPU; the network itself stays as it is."""
    copy = Scores(deepcopy(model).cpu().requires_grad_(False))
    for module in reversed(list(copy.modules())):  # a part before the whole that takes it over
        for name, child in module.named_children():
            if type(child) in FORMS:
                setattr(module, name, FORMS[type(child)](child))
    return copy.eval()


class Graph(nn.Module):
    """CTR-GCN's graph convolution; alpha, the last relation convolution and the batch norm's scale are one matrix."""

    fixed: Tensor

    def __init__(self, whole: GraphConvolution) -> None:
        super().__init__()
        scale, self.shift = _affine(whole.bn)
        weight, bias = (entry.view(SUBSETS, len(scale), -1) * whole.alpha for entry in whole.refine.parameters())
        self.refine = torch.cat([weight, bias, torch.ones_like(bias)], 2) * scale[:, None]  # [S, C, R + 2]
        shared = whole.topology.transpose(1, 2).flatten(1)
        self.fixed = torch.stack([torch.ones_like(shared), shared], 1)[None]  # [1, S, 2, V * V]
        self.relate, self.value, self.down = whole.relate, whole.value, whole.down

    def forward(self, x: Tensor, weight: None = None) -> Tensor:
        b, _, v, t = x.shape
        left, right = self.relate(x.mean(3)).chunk(2, dim=1)
        taught = torch.tanh(left[..., None, :] - right[..., :, None]).view(b, SUBSETS, -1, v * v)
        relations = torch.cat([taught, self.fixed.expand(b, -1, -1, -1)], 2)
        topology = (self.refine @ relations).transpose(1, 2).reshape(b, -1, SUBSETS * v, v)
        y = topology.transpose(2, 3) @ self.value(x).view(b, -1, SUBSETS * v, t)
        return F.relu(y + (self.shift[:, None, None] + (x if self.down is None else self.down(x))))


class SharedGraph(nn.Module):
    """CTRS-GCN's graph convolution with its topologies [S * V, V] at their lengths, and the batch norm in its value."""

    def __init__(self, whole: SharedGraphConvolution) -> None:
        super().__init__()
        scale, shift = _affine(whole.bn)
        links = whole.topology / (whole.topology.norm(dim=1, keepdim=True) + 1e-4)
        self.links = links.transpose(1, 2).flatten(0, 1)
        self.weight = whole.value.weight * scale[:, None, None, None]
        self.bias = whole.bias.sum(0) * scale + shift
        self.down = whole.down

    def forward(self, x: Tensor, weight: None = None) -> Tensor:
        b, c, v, t = x.shape
        y = F.conv2d((self.links @ x).view(b, c * SUBSETS, v, t), self.weight, self.bias)
        return F.relu(y + (x if self.down is None else self.down(x, None)))


class Nearest(nn.Module):
    """HD-GCN's convolution over nearest nodes; the batch norm is in its weights, and the largest is taken before what
    never turns their order: the node's own part and LeakyReLU. ONNX knows no cdist: distances are squared here.
    """

    def __init__(self, whole: NearestConvolution) -> None:
        super().__init__()
        scale, shift = (side.view(whole.groups, -1, 1) for side in _affine(whole.bn))
        difference, itself = whole.weight.view(whole.groups, scale.shape[1], 2, -1).unbind(2)
        self.groups, self.count = whole.groups, whole.count
        self.theirs, self.ours, self.shift = difference * scale, (itself - difference) * scale, shift

    def forward(self, x: Tensor, weight: None = None) -> Tensor:
        b, c, v = x.shape
        nodes = x.view(b, self.groups, -1, v)
        places = nodes.transpose(2, 3)
        gaps = places[..., None, :] - places[..., None, :, :]
        distances = (gaps * gaps).sum(-1)
        near = distances.topk(min(self.count, v), largest=False).indices.flatten(2)[:, :, None]
        theirs = (self.theirs @ nodes).gather(3, near.expand(-1, -1, nodes.shape[2], -1))
        largest = theirs.view(b, self.groups, -1, v, min(self.count, v)).amax(4)
        return F.leaky_relu(largest + (self.ours @ nodes + self.shift), 0.2).view(b, c, v)


class Hierarchical(nn.Module):
    """HD-GCN's graph convolution; its values' batch norm is in their weights, and what biases add comes after the sums
    over the frames, which are the largest tensors of the network.
    """

    def __init__(self, whole: HierarchicalConvolution) -> None:
        super().__init__()
        scale, shift = (side.view(whole.pairs, -1, 1) for side in _affine(whole.value_bn))
        self.values = whole.value * scale  # [L, 3Q, Q]
        self.bias = whole.bias.view_as(scale) * scale + shift  # [L, 3Q, 1]
        self.links = whole.topology.transpose(2, 3).contiguous()  # [L, 3, V, V]
        self.reduce, self.reduce_bn, self.nearest, self.bn = whole.reduce, whole.reduce_bn, whole.nearest, whole.bn
        self.attention, self.down, self.pairs = whole.attention, whole.down, whole.pairs

    def forward(self, x: Tensor, weight: None = None) -> Tensor:
        b, _, v, t = x.shape
        x = x.transpose(2, 3).contiguous()
        reduced = F.relu(self.reduce_bn(self.reduce(x)))
        values = (self.values @ reduced.view(b, self.pairs, -1, t * v)).view(b, self.pairs, SUBSETS, -1, v)
        moving = (values @ self.links).view(b, self.pairs, -1, t, v)
        still = self.nearest(reduced.mean(2)).view(b, self.pairs, -1, v)
        y = self.bn(self.over_pairs(moving, still))
        return F.relu(y + (x if self.down is None else self.down(x))).transpose(2, 3).contiguous()

    def over_pairs(self, moving: Tensor, still: Tensor) -> Tensor:
        """The sums over pairs of levels of [B, L, 3Q, T, V] and [B, L, Q, V], each with its share: [B, 4Q, T, V]."""
        t, bias = moving.shape[3], self.bias
        if self.attention is None:
            moving, still = moving.sum(1) + bias.sum(0)[..., None], still.sum(1)
        else:
            shares = self.attention(torch.cat([moving.amax(3) + bias, still], 2), None)[..., None]
            shares, of_still = shares.split([bias.shape[1], still.shape[2]], 2)
            moving = (moving * shares[..., None]).sum(1) + (bias * shares).sum(1)[..., None]
            still = (still * of_still).sum(1)
        return torch.cat([moving, still[:, :, None].expand(-1, -1, t, -1)], 1)


def _affine(norm: BatchNorm) -> tuple[Tensor, Tensor]:
    """A batch norm in evaluation as x * scale + shift, [C] both."""
    scale = norm.weight * (norm.running_var + EPSILON).rsqrt()
    return scale, norm.bias - norm.running_mean * scale


FORMS = {
    GraphConvolution: Graph,
    SharedGraphConvolution: SharedGraph,
    HierarchicalConvolution: Hierarchical,
    NearestConvolution: Nearest,
}
