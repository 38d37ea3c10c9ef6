"""Skeleton networks behind one interface: clips [N, C, T, V, M] in, one feature a clip [N, feature_dim] out."""

from __future__ import annotations

from functools import partial
from typing import Protocol

from torch import Tensor, nn

from ...cache.skeletons import Layout
from .bodies import Bodies
from .ctrgcn import CTRGCN
from .ctrsgcn import CTRSGCN
from .hdgcn import HDGCN


class Backbone(Protocol):
    """`feature_dim` is the D of the feature [N, D] that the network makes of skeletons [N, C, T, V, M].

    `bodies` says which bodies are computed, and how many each stands for; None computes all of them.
    """

    feature_dim: int

    def __call__(self, skeletons: Tensor, bodies: Bodies | None = None) -> Tensor: ...


class BuildBackbone(Protocol):
    """Builds the network for a layout and a number of body slots, `width` channels in its first blocks."""

    def __call__(self, layout: Layout, bodies: int, width: int) -> nn.Module: ...


BACKBONES: dict[str, BuildBackbone] = {
    "ctrgcn": CTRGCN,
    "ctrsgcn": CTRSGCN,
    "hdgcn": HDGCN,
    "hdgcn-belly": partial(HDGCN, centre="belly"),
    "hdgcn-hip": partial(HDGCN, centre="hip"),
}
