"""One clip at a time from padded arrays: the original's feeder where its checkout is given, else a plain one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmcl.pipeline.preparation.layouts import KINECT_V2
from mmcl.trainer.config import Config
from mmcl.trainer.data.skeleton import Draws, rotations

CROP, SHORTEST, TURN = (0.5, 1.0), 64, 0.3  # the recipe of NTU RGB+D: share and frames of a crop, radians


class Feeder(Protocol):
    """Clips by number, [C, T, V, M]; what it drew at random for each is kept, as it came."""

    drawn: list[Drawn]

    def __call__(self, row: int) -> Any: ...


class Drawn:
    """A clip's crop: first frame and how many there are to choose from; its angles in radians."""

    def __init__(self) -> None:
        self.first, self.choices, self.angles = 0, 1, torch.zeros(3)


def feeder(values: np.ndarray, config: Config, *, augmented: bool, checkout: Path | None) -> Feeder:
    stream = {"bone": config.stream.startswith("bone"), "vel": config.stream.endswith("motion")}
    if checkout is None:
        return PlainFeeder(values, config.window, augmented=augmented, **stream)
    return Original(checkout, values, config.window, augmented=augmented, **stream)


def draws_of(drawn: Sequence[Drawn], frames: np.ndarray, window: int) -> Draws:
    """Our random numbers that come to the same crops and angles: from the middle of what leads to each."""
    first = np.array([one.first for one in drawn])
    choices = np.array([one.choices for one in drawn])
    share = (frames - choices + 1.5) / frames
    length = ((share - CROP[0]) / (CROP[1] - CROP[0])).clip(0, 0.999)
    angles = torch.stack([one.angles for one in drawn]) / (2 * TURN) + 0.5
    place = torch.from_numpy((first + 0.5) / choices)
    return Draws(torch.from_numpy(length).float(), place.float(), angles, torch.zeros(len(drawn), window))


class Original:
    """The feeder of a checkout, its code as it is. What it draws is watched from outside.

    Its `int(np.floor(... np.random.rand(1)))` is an error since NumPy 2.4: it is given a number for the array of one.
    """

    def __init__(self, checkout: Path, values: np.ndarray, window: int, *, augmented: bool, **stream: bool) -> None:
        if not (checkout / "feeders" / "feeder_ntu.py").is_file():
            raise ValueError(
                f"--reference {checkout}: no feeders/feeder_ntu.py; wanted a checkout of CTR-GCN's release"
            )
        if str(checkout) not in sys.path:
            sys.path.insert(0, str(checkout))
        crop = {"p_interval": list(CROP), "random_rot": True} if augmented else {"p_interval": [0.95]}
        with TemporaryDirectory() as folder:
            path, labels = Path(folder) / "clips.npz", np.eye(2)[np.zeros(len(values), int)]
            np.savez(path, x_train=values, y_train=labels)
            self._feeder = import_module("feeders.feeder_ntu").Feeder(str(path), window_size=window, **crop, **stream)
        self.drawn = list[Drawn]()
        self._tools: Any = import_module("feeders.tools")
        self._turn = getattr(self._tools, "_watched", None) or self._tools._rot
        self._tools._watched = self._turn
        self._tools._rot = self._rotation
        random = SimpleNamespace(rand=lambda _: np.random.rand(), randint=self._place)  # noqa: NPY002
        self._tools.np = SimpleNamespace(**{**vars(np), "random": random})

    def __call__(self, row: int) -> Any:
        self.drawn.append(Drawn())
        return self._feeder[row][0]

    def _place(self, low: int, high: int) -> int:
        self.drawn[-1].choices, self.drawn[-1].first = int(high), int(np.random.randint(low, high))  # noqa: NPY002
        return self.drawn[-1].first

    def _rotation(self, angles: Tensor) -> Tensor:
        self.drawn[-1].angles = angles[0]
        return self._turn(angles)


class PlainFeeder:
    """The same steps, written from their description: crop, resize, rotate, bone, motion."""

    def __init__(self, values: np.ndarray, window: int, *, augmented: bool, bone: bool, vel: bool) -> None:
        self._values, self._window, self._augmented, self._bone, self._motion = values, window, augmented, bone, vel
        self._rng, self.drawn = np.random.default_rng(0), list[Drawn]()

    def __call__(self, row: int) -> Tensor:
        drawn = Drawn()
        self.drawn.append(drawn)
        clip = torch.from_numpy(self._values[row].copy()).view(len(self._values[row]), 2, -1, 3)
        clip = clip[: int((clip != 0).flatten(1).any(1).sum())]
        x = self._resized(self._cropped(clip, drawn)).view(self._window, 2, -1, 3)
        if self._augmented:
            drawn.angles = torch.from_numpy(self._rng.uniform(-TURN, TURN, 3)).float()
            x = x @ rotations(drawn.angles.rad2deg()[None])[0].T
        if self._bone:
            x = torch.stack([x[:, :, joint] - x[:, :, above] for joint, above in enumerate(KINECT_V2.parents)], 2)
        if self._motion:
            x = torch.cat([x[1:] - x[:-1], torch.zeros_like(x[:1])])
        return x.permute(3, 0, 2, 1).contiguous()

    def _cropped(self, clip: Tensor, drawn: Drawn) -> Tensor:
        if not self._augmented:
            edge = int((1 - 0.95) * len(clip) / 2)
            return clip[edge : len(clip) - edge]
        length = min(max(int(len(clip) * self._rng.uniform(*CROP)), SHORTEST), len(clip))
        drawn.choices = len(clip) - length + 1
        drawn.first = int(self._rng.integers(drawn.choices))
        return clip[drawn.first : drawn.first + length]

    def _resized(self, clip: Tensor) -> Tensor:
        rows = clip.flatten(1).T[None, None]
        size = (rows.shape[2], self._window)
        return F.interpolate(rows, size, mode="bilinear", align_corners=False)[0, 0].T
