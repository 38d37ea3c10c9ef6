"""What the original networks compute with weights from a formula: numbers to hold ours against."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

DATA = Path(__file__).parent / "data"


class Golden:
    """The arrays of tests/data/NAME.npz, made by running the original in float32, its gradient in float64.

    `state` is the original's state dict: an entry's values follow from its name and shape.
    """

    def __init__(self, name: str) -> None:
        self.arrays = dict(np.load(DATA / f"{name}.npz", allow_pickle=False))
        shapes = json.loads(self.arrays["state_dict"].tobytes())
        self.state = {entry: torch.tensor(_formula(entry, tuple(shape))) for entry, shape in shapes.items()}
        self.clips = torch.tensor(np.random.RandomState(7).normal(0, 0.5, [2, 3, 64, 25, 2]).astype(np.float32))

    def error(self, found: Tensor, name: str) -> float:
        """The largest error of an array, relative to the original's largest value."""
        wanted = self.arrays[name]
        return float(np.abs(found.detach().numpy() - wanted).max() / np.abs(wanted).max())


def _formula(name: str, shape: tuple[int, ...]) -> np.ndarray:
    r = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return np.array(1)
    if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
        values = r.uniform(0.5, 1.5, shape)
    elif name.endswith(".PA"):
        values = r.normal(0, 0.02, shape)
    elif len(shape) >= 2:
        values = 1.4 * r.normal(0, 1, shape) / np.sqrt(np.prod(shape[1:]))
    else:
        values = r.normal(0, 0.1, shape)
    return values.astype(np.float32)
