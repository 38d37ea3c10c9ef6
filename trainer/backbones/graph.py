"""The adjacency of a joint layout."""

from __future__ import annotations

import torch
from torch import Tensor

from ...cache.skeletons import Layout


def adjacency(layout: Layout) -> Tensor:
    """Identity, inward and outward edges, each column-normalised: [3, V, V] (CTR-GCN's spatial partition)."""
    joints = len(layout.joints)
    inward = torch.zeros(joints, joints)
    for child, parent in layout.edges:
        inward[parent, child] = 1
    return torch.stack([torch.eye(joints), _normalise(inward), _normalise(inward.T)])


def _normalise(links: Tensor) -> Tensor:
    degree = links.sum(0)
    return links / torch.where(degree > 0, degree, 1)
