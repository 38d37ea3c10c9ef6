"""The focal loss (Lin et al., ICCV 2017): clips that are called right with confidence count for little."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

GAMMA = 2.0  # the paper's


def focal(scores: Tensor, labels: Tensor) -> Tensor:
    """-(1 - p_y)^gamma log p_y of each clip [n], of scores [n, K] before any softmax."""
    surprise = F.cross_entropy(scores, labels, reduction="none")
    return (1 - (-surprise).exp()) ** GAMMA * surprise
