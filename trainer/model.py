"""The network that is deployed: a backbone and a linear classifier, skeletons only."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from ..cache.skeletons import Layout
from .backbones import BACKBONES
from .backbones.bodies import Bodies


class Outputs(NamedTuple):
    """`feature` [N, D] is F_g pooled over time, joints and bodies; `scores` [N, K] are S_M, before any softmax."""

    feature: Tensor
    scores: Tensor


class SkeletonClassifier(nn.Module):
    """Skeletons [N, 3, T, V, M] to Outputs. Co-learning heads are no part of it."""

    def __init__(self, backbone: nn.Module, feature_dim: int, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Linear(feature_dim, classes)
        nn.init.normal_(self.classifier.weight, 0, (2 / classes) ** 0.5)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, skeletons: Tensor, bodies: Bodies | None = None) -> Outputs:
        feature = self.backbone(skeletons, bodies)
        return Outputs(feature, self.classifier(feature))


def build_model(name: str, layout: Layout, *, bodies: int, width: int, classes: int) -> SkeletonClassifier:
    """A named backbone with its classifier; ValueError with the choices for an unknown name."""
    if name not in BACKBONES:
        raise ValueError(f"backbone {name!r}: known are {', '.join(BACKBONES)}")
    backbone = BACKBONES[name](layout, bodies, width)
    return SkeletonClassifier(backbone, int(backbone.feature_dim), classes)  # type: ignore[arg-type]
