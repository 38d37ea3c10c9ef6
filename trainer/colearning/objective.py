"""The paper's loss: classification, plus alignment and refinement where their features are."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import Config
from ..data.samples import Features
from ..model import Outputs
from .alignment import Alignment, align_loss
from .refinement import Refinement
from .standardise import Standardise


class Teachers(NamedTuple):
    """A batch's cached features and which of them are there: rgb [N, D], rgb_present [N], text, text_present."""

    rgb: Tensor | None
    rgb_present: Tensor | None
    text: Tensor | None
    text_present: Tensor | None


class Losses(NamedTuple):
    total: Tensor
    classify: Tensor
    align: Tensor
    refine: Tensor


class Heads(nn.Module):
    """FAM and FRM, used in training only; saved beside the network, never in it."""

    def __init__(self, align: Alignment | None, refine: Refinement | None) -> None:
        super().__init__()
        self.align = align
        self.refine = refine


def build_heads(rgb: Features | None, text: Features | None, *, feature_dim: int, classes: int) -> Heads:
    """Heads for the features that are there, standardised on the clips that are trained on."""
    align = Alignment(Standardise.of(rgb.values[rgb.present]), feature_dim) if rgb else None
    refine = Refinement(Standardise.of(text.values[text.present]), classes) if text else None
    return Heads(align, refine)


def losses(outputs: Outputs, labels: Tensor, teachers: Teachers, heads: Heads, config: Config) -> Losses:
    """L = CE(S_M, y) + 0.1 L_c + 0.2 L_R (MMCL, eq. 9).

    A clip without a feature counts in the first term only: it is no positive and no negative of L_c, and not in L_R.
    """
    classify = F.cross_entropy(outputs.scores, labels)
    align, refine = _zero(heads.align, outputs), _zero(heads.refine, outputs)
    if heads.align is not None and teachers.rgb is not None and teachers.rgb_present is not None:
        there = teachers.rgb_present
        if there.sum() > 1:
            align = align_loss(outputs.feature[there], heads.align(teachers.rgb[there]), config.temperature)
    if heads.refine is not None and teachers.text is not None and teachers.text_present is not None:
        there = teachers.text_present
        if there.any():
            refined = heads.refine(outputs.scores[there], teachers.text[there])
            refine = F.cross_entropy(refined, labels[there])
    total = classify + config.align_weight * align + config.refine_weight * refine
    return Losses(total, classify, align, refine)


def _zero(head: nn.Module | None, outputs: Outputs) -> Tensor:
    """0 with a gradient of 0 for the head, so that a batch without features leaves its optimizer in step."""
    zero = outputs.scores.new_zeros(())
    return zero if head is None else zero + sum(parameter.sum() for parameter in head.parameters()) * 0


def teachers_of(rgb: Features | None, text: Features | None, rows: Tensor) -> Teachers:
    """The cached features of a batch's clips; features and rows lie on one device."""

    def pick(features: Features | None) -> tuple[Tensor | None, Tensor | None]:
        return (None, None) if features is None else (features.values[rows], features.present[rows])

    return Teachers(*pick(rgb), *pick(text))


def stacked(items: Losses) -> Tensor:
    return torch.stack([item.detach() for item in items])
