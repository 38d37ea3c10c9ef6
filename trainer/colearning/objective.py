"""The paper's loss: classification, plus alignment and refinement where their features are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import Config
from ..data.features import Features
from ..model import Outputs
from ..processes import summed
from .alignment import Alignment, align_loss
from .classify import classify_loss
from .refinement import Refinement
from .standardise import Standardise


class Teachers(NamedTuple):
    """A batch's cached features and which of them are there: rgb [n, D], rgb_present [n], text, text_present."""

    rgb: Tensor | None = None
    rgb_present: Tensor | None = None
    text: Tensor | None = None
    text_present: Tensor | None = None

    def to(self, device: torch.device) -> Teachers:
        """On the device; on its way while the host goes on."""
        return Teachers(*(tensor if tensor is None else tensor.to(device, non_blocking=True) for tensor in self))


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


def build_heads(
    rgb: Features | None, text: Features | None, *, feature_dim: int, classes: int, config: Config
) -> Heads:
    """Heads for the features that are there, standardised on the clips that are trained on.

    ValueError for a config whose loss is none of CLASSIFY: heads are built before anything of a run is written.
    """
    classify_loss(config.loss)
    align = refine = None
    if rgb is not None:
        options = {"learned": config.temperature_learned, "project": config.align_project}
        align = Alignment(_standardise(rgb), feature_dim, temperature=config.temperature, **options)
    if text is not None:
        refine = Refinement(_standardise(text), classes)
    return Heads(align, refine)


def teachers_of(rgb: Features | None, text: Features | None, rows: np.ndarray) -> Teachers:
    """The cached features of some clips, on the CPU."""

    def pick(features: Features | None) -> tuple[Tensor | None, Tensor | None]:
        return (None, None) if features is None else (features.gather(rows), torch.from_numpy(features.present[rows]))

    return Teachers(*pick(rgb), *pick(text))


def losses(outputs: Outputs, labels: Tensor, teachers: Teachers, heads: Heads, config: Config, count: int) -> Losses:
    """L = CE(S_M, y) + 0.1 L_c + 0.2 L_R (MMCL, eq. 9), of this process's rows of a global batch of `count` clips.

    `config.loss` may put another loss of S_M in the place of the first term; that of the refined scores stays as it is.
    Each is a share: summed over all processes they are the means over the global batch. A clip without a feature counts
    in the first term only: it is no positive and no negative of L_c, and not in L_R. All in float32, whatever autocast
    is on; nothing here makes an accelerator's host wait.
    """
    with torch.autocast(outputs.scores.device.type, enabled=False):
        exact = Outputs(outputs.feature.float(), outputs.scores.float())
        classify = classify_loss(config.loss)(exact.scores, labels).sum() / count
        align = _aligned(heads.align, exact, labels, teachers, config, count)
        refine = _refined(heads.refine, exact, labels, teachers)
        total = classify + config.align_weight * align + config.refine_weight * refine
    return Losses(total, classify, align, refine)


def _aligned(
    head: Alignment | None, outputs: Outputs, labels: Tensor, teachers: Teachers, config: Config, count: int
) -> Tensor:
    rgb, present = teachers.rgb, teachers.rgb_present
    if head is None or rgb is None or present is None:
        return outputs.scores.new_zeros(())
    skeleton, aligned = head.projection(outputs.feature), head(_where(present, rgb))
    return align_loss(
        skeleton, aligned, present, labels, head.temperature, count=count, same_class=config.align_same_class
    )


def _refined(head: Refinement | None, outputs: Outputs, labels: Tensor, teachers: Teachers) -> Tensor:
    """L_R = CE(S_R, y), the mean over the clips that have text features; 0, with a gradient of 0, where none has."""
    text, present = teachers.text, teachers.text_present
    if head is None or text is None or present is None:
        return outputs.scores.new_zeros(())
    each = F.cross_entropy(head(outputs.scores, _where(present, text)), labels, reduction="none")
    return _where(present, each).sum() / summed(present.sum().to(each)).clamp(min=1)


def _where(present: Tensor, x: Tensor) -> Tensor:
    """Rows [n, ...] that are present; 0, and no gradient, in place of the others, whatever they hold."""
    return torch.where(present.view(-1, *[1] * (x.ndim - 1)), x, 0)


def _standardise(features: Features) -> Standardise:
    """Fitted to the clips that are trained on; the released code's token ids go in as they are there."""
    return Standardise(features.dim) if features.raw else Standardise.of(features.mean, features.deviation)


def stacked(items: Losses) -> Tensor:
    return torch.stack([item.detach() for item in items])
