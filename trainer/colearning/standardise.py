"""Features brought to mean 0 and deviation 1, so that a gate on them starts unsaturated."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Standardise(nn.Module):
    """(x - mean) / deviation with the training split's statistics; a constant feature becomes 0. [N, D] to [N, D]."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("deviation", torch.ones(dim))

    @staticmethod
    def of(features: Tensor) -> Standardise:
        """Fitted to features [n, D], in float64."""
        module = Standardise(features.shape[1])
        exact = features.double()
        deviation = exact.std(0, correction=0)
        constant = deviation <= 1e-6 * exact.abs().amax(0)
        module.mean.copy_(exact.mean(0))
        module.deviation.copy_(deviation.masked_fill(constant, torch.inf))
        return module

    def forward(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.deviation
