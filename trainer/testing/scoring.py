"""Scores of clips from skeletons alone, batch after batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..backbones.bodies import bodies_of
from ..config import Config
from ..data.skeleton import Body, Packed, batch
from ..model import SkeletonClassifier

BATCH = 64


def score(
    model: SkeletonClassifier,
    packed: Packed,
    rows: np.ndarray,
    *,
    body: Body,
    config: Config,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Tensor:
    """S_M of the clips in `rows`, without augmentation, float32 [rows, K] on the CPU. Leaves the model in eval mode."""
    model.eval()
    found, counts, device = [], packed.bodies.cpu(), packed.start.device
    with torch.inference_mode():
        for chunk in torch.as_tensor(rows).split(BATCH):
            bodies = bodies_of(counts[chunk], body.slots, device) if body.rule == "zero" else None
            clips = batch(packed, chunk.to(device), body, config, None)
            found.append(model(clips, bodies).scores.float().cpu())
            progress(sum(map(len, found)), len(rows))
    return torch.cat(found)
