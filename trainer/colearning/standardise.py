"""Features brought to mean 0 and deviation 1, so that a gate on them starts unsaturated."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


class Standardise(nn.Module):
    """(x - mean) / deviation with the training split's statistics; a constant feature becomes 0. [N, D] to [N, D].

    As it is made it leaves features as they are.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("deviation", torch.ones(dim))

    @staticmethod
    def of(mean: np.ndarray, deviation: np.ndarray) -> Standardise:
        """Fitted to these statistics [D]; a deviation of 0 says that a feature is constant."""
        module = Standardise(len(mean))
        module.mean.copy_(torch.from_numpy(mean))
        module.deviation.copy_(torch.from_numpy(np.where(deviation > 0, deviation, np.inf)))
        return module

    def forward(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.deviation
