"""The loss on the classification scores, by name: a new one is a function here and a line in CLASSIFY."""

from __future__ import annotations

from typing import Protocol

import torch.nn.functional as F
from torch import Tensor

SMOOTHING = 0.1  # share of the target that all classes have between them


class ClassifyLoss(Protocol):
    """Each clip's own loss [n], float32, of scores [n, K] (S_M: logits) and labels int64 [n].

    No mean is taken: a process has only its rows of a batch, and the sum of all processes' losses is divided by the
    whole batch (`objective.losses`).
    """

    def __call__(self, scores: Tensor, labels: Tensor, /) -> Tensor: ...


def cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """-log softmax(S_M)_y of each clip [n] (MMCL, eq. 9; CTR-GCN)."""
    return F.cross_entropy(scores, labels, reduction="none")


def smoothed(scores: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy [n] against 0.9 of the label and 0.1 of all classes alike, as HD-GCN's release trains."""
    return F.cross_entropy(scores, labels, reduction="none", label_smoothing=SMOOTHING)


CLASSIFY: dict[str, ClassifyLoss] = {
    "cross-entropy": cross_entropy,
    "smoothed": smoothed,
}


def classify_loss(name: str) -> ClassifyLoss:
    """The loss of a name; ValueError with the choices for an unknown one."""
    if name not in CLASSIFY:
        raise ValueError(f"loss {name!r}: known are {', '.join(CLASSIFY)}")
    return CLASSIFY[name]
