"""Small clips of noise for the tests of what a network sees."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mmcl.cache.skeletons import TRAIN, Layout, Skeletons, Split
from mmcl.cache.table import Ragged
from mmcl.trainer.config import Config
from mmcl.trainer.data.skeleton import Draws, batch, body_of, draw, pack

LAYOUT = Layout("five", ("hip", "chest", "head", "left", "right"), ((0, 1), (2, 1), (3, 1), (4, 3)), 1)
CROP = Config(window=16, crop_frames=8, rotation=(20, 30, 40))
RANDOM = Config(window=52, sampling="random", minmax=True, rotation=(60, 60, 0))
FRAMES, BODIES = (1, 5, 40, 90, 17, 33), (1, 2, 1, 2, 2, 1)


def clips(frames=FRAMES, bodies=BODIES, seed: int = 0) -> Skeletons:
    """Clips in world coordinates, metres from the origin; in some a body is absent for a while (all zero)."""
    rng = np.random.default_rng(seed)
    found = []
    for t, m in zip(frames, bodies, strict=True):
        joints = rng.normal((0, 1, 3), size=(m, t, 5, 3)).astype(np.float32)
        if t > 20:
            joints[0, :3] = joints[-1, 7:12] = 0
        found.append(joints.reshape(-1, 5, 3))
    n = len(found)
    return Skeletons(
        dataset="clips",
        classes=("one",),
        layout=LAYOUT,
        names=tuple(str(row) for row in range(n)),
        labels=np.zeros(n, np.int64),
        bodies=np.array(bodies),
        joints=Ragged.of(found),
        splits={"all": Split(np.full(n, TRAIN, np.int8))},
    )


def made(skeletons: Skeletons, config: Config, draws: Draws | None, rule: str = "zero", slots: int = 2) -> Tensor:
    rows = torch.arange(len(skeletons.names))
    return batch(pack(skeletons), rows, body_of(skeletons.layout, slots, rule), config, draws)


def drawn(skeletons: Skeletons, config: Config, seed: int = 0) -> Draws:
    return draw(torch.Generator().manual_seed(seed), len(skeletons.names), config.window)
