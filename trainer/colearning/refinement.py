"""FRM, the feature refinement module: what the multimodal LLM said of a clip weighs its classification scores."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .standardise import Standardise

GATE_WIDTH = 64


class Refinement(nn.Module):
    """S_R = S_M * (g_0 * Pos + g_1 * Neg) with g = softmax(MLP(text feature)); Pos and Neg are learned K-vectors.

    MMCL, sec. 3.3, as its authors' code has it. Text features [N, D_text] and scores [N, K] to refined scores [N, K].
    """

    def __init__(self, standardise: Standardise, classes: int) -> None:
        super().__init__()
        self.standardise = standardise
        self.gate = nn.Sequential(nn.Linear(standardise.dim, GATE_WIDTH), nn.ReLU(), nn.Linear(GATE_WIDTH, 2))
        self.matrices = nn.Parameter(torch.ones(2, classes))

    def forward(self, scores: Tensor, text: Tensor) -> Tensor:
        return scores * (self.weights(text) @ self.matrices)

    def weights(self, text: Tensor) -> Tensor:
        """The gate g [N, 2]; its rows add up to one."""
        return self.gate(self.standardise(text)).softmax(1)
