"""FAM, the feature alignment module: the skeleton feature is drawn to what an RGB network saw of the same clip."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .standardise import Standardise


class Alignment(nn.Module):
    """F_c = MLP(RGB feature), [N, D_rgb] to [N, D]; the skeleton feature itself is not projected (MMCL, sec. 3.2)."""

    def __init__(self, standardise: Standardise, feature_dim: int) -> None:
        super().__init__()
        self.standardise = standardise
        self.mlp = nn.Sequential(
            nn.Linear(standardise.dim, feature_dim), nn.ReLU(), nn.Linear(feature_dim, feature_dim)
        )

    def forward(self, rgb: Tensor) -> Tensor:
        return self.mlp(self.standardise(rgb))


def align_loss(skeleton: Tensor, rgb: Tensor, temperature: float = 0.4) -> Tensor:
    """Symmetric contrastive loss between paired features [N, D] (MMCL, L_c; the GRACE form).

    Negatives are every other sample of both modalities. The paper prints it without the minus sign.
    """
    a, b = F.normalize(skeleton, dim=1), F.normalize(rgb, dim=1)
    return (_one_way(a, b, temperature) + _one_way(b, a, temperature)).mean() / 2


def _one_way(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """l(a, b)_i = -log( e^{s(a_i,b_i)/tau} / (sum_k e^{s(a_i,b_k)/tau} + sum_{k != i} e^{s(a_i,a_k)/tau}) ), [N]."""
    across, within = a @ b.T / temperature, a @ a.T / temperature
    itself = torch.eye(len(a), dtype=torch.bool, device=a.device)
    every = torch.cat([across, within.masked_fill(itself, -torch.inf)], dim=1)
    return every.logsumexp(1) - across.diagonal()
