"""CTR-GCN's aggregation with topologies made as they are needed (eq. 5-9).

A topology for every clip, channel and subset is the largest tensor of the network: twice the features in the last three
blocks. On a CPU it is made for a few clips at a time, used while it lies in the cache, and made again on the way back.

Axes: B bodies, C channels, V joints, T frames, S subsets, R relation channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

AT_ONCE = 1 << 20  # numbers of a topology that a core's cache holds


def aggregate(relations: Tensor, refine: Tensor, values: Tensor) -> Tensor:
    """y[c, u] = sum over s, v of (refine_s relations_s)[c, v, u] * values[c, s, v], for each body: [B, C, V, T].

    `relations` [B, S, R, V * V] with the taking joint u last, `refine` [S, C, R], `values` [B, C, S * V, T].
    """
    if values.is_cuda or torch.compiler.is_compiling():
        return _at_once(relations, refine, values)
    if torch.is_autocast_enabled("cpu"):
        relations, refine = relations.to(values.dtype), refine.to(values.dtype)
    return _Aggregate.apply(relations, refine, values)


def _at_once(relations: Tensor, refine: Tensor, values: Tensor) -> Tensor:
    b, c, taken, _ = values.shape
    topology = torch.einsum("scr,bsrp->bcsp", refine, relations).reshape(b, c, taken, -1)
    return topology.transpose(2, 3) @ values


class _Aggregate(torch.autograd.Function):
    """The same, a few bodies at a time."""

    @staticmethod
    def forward(ctx: Any, relations: Tensor, refine: Tensor, values: Tensor) -> Tensor:
        b, c, taken, t = values.shape
        ctx.save_for_backward(relations, refine, values)
        out = values.new_empty(b, c, taken // len(refine), t)
        for some in _few(relations, refine):
            topology = _topology(relations[some], refine).view(-1, taken, out.shape[2])
            torch.bmm(topology.transpose(1, 2), values[some].flatten(0, 1), out=out[some].flatten(0, 1))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        relations, refine, values = ctx.saved_tensors
        grad, taken = grads[0].contiguous(), values.shape[2]
        d_relations, d_values = torch.empty_like(relations), torch.empty_like(values)
        d_refine = torch.zeros_like(refine, dtype=torch.promote_types(refine.dtype, torch.float32))
        for some in _few(relations, refine):
            topology, g = _topology(relations[some], refine), grad[some].flatten(0, 1)
            links = topology.view(-1, taken, g.shape[1])
            torch.bmm(links, g, out=d_values[some].flatten(0, 1))
            torch.bmm(values[some].flatten(0, 1), g.transpose(1, 2), out=links)  # now the topology's gradient
            for body, d_relation, relation in zip(topology, d_relations[some], relations[some], strict=True):
                for s in range(len(refine)):
                    torch.mm(refine[s].T, body[:, s], out=d_relation[s])
                    d_refine[s] += torch.mm(body[:, s], relation[s].T)
        return d_relations, d_refine.to(refine.dtype), d_values


def _few(relations: Tensor, refine: Tensor) -> list[slice]:
    """The bodies in stretches whose topologies fit a core's cache."""
    size = max(1, AT_ONCE // (refine.shape[0] * refine.shape[1] * relations.shape[3]))
    return [slice(start, start + size) for start in range(0, len(relations), size)]


def _topology(relations: Tensor, refine: Tensor) -> Tensor:
    """[b, C, S, V * V] of a few bodies' relations [b, S, R, V * V]."""
    subsets, channels, _ = refine.shape
    topology = relations.new_empty(len(relations), channels, subsets, relations.shape[3])
    for body, relation in zip(topology, relations, strict=True):
        for s in range(subsets):
            torch.mm(refine[s], relation[s], out=body[:, s])
    return topology
