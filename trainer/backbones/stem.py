"""The way into every backbone: skeletons as rows of bodies."""

from __future__ import annotations

from torch import Tensor

from .bodies import Bodies, pick_bodies
from .norm import BatchNorm


def body_rows(skeletons: Tensor, data_bn: BatchNorm, bodies: Bodies | None) -> Tensor:
    """The computed bodies, normalised by slot, joint and axis: [N, C, T, V, M] to [B, C, V, T]."""
    n, c, t, v, m = skeletons.shape
    x = skeletons.permute(0, 4, 3, 1, 2)  # N M V C T
    x = data_bn(x.reshape(n, m * v * c, t)).view(n * m, v, c, t)
    return pick_bodies(x, bodies).transpose(1, 2).contiguous()
