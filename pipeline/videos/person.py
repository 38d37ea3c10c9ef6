"""Where the person is in each frame of a clip: boxes around the skeleton in the picture, or the whole frame."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from ...cache.skeletons import Skeletons
from ...cache.table import Ragged, checksums
from .picture import ImageLayout as ImageLayout
from .picture import from_jpegs as from_jpegs
from .picture import image_layout as image_layout
from .picture import to_jpegs as to_jpegs

MARGIN = 0.15  # of a box's longer side, on every side: joints lie inside the body, and hands hold things
RULE = 2  # raised when the boxes that a skeleton gives change


@dataclass(frozen=True)
class Shot:
    """Frames uint8 RGB [n, H, W, 3] of the clip `name`, their numbers in its video [n], and how many the video has."""

    name: str
    frames: np.ndarray
    index: np.ndarray
    total: int


class Found(NamedTuple):
    """Boxes int [n, 4] (left, top, right, bottom; pixels), and bool [n]: whether the person was seen in the frame."""

    boxes: np.ndarray
    there: np.ndarray


class Boxes(Protocol):
    """Finds the person: `settings` are part of the person images' recipe."""

    @property
    def settings(self) -> Mapping[str, Any]: ...

    def prepare(self, shots: Sequence[Shot], /) -> Any:
        """What the CPU can do ahead, in a thread of its own."""
        ...

    def find(self, shots: Sequence[Shot], prepared: Any, /) -> list[Found]:
        """The boxes of each shot, with what `prepare` gave for the same shots; on the device, by one thread alone."""
        ...


class WholeFrame:
    """No search: the frame is the crop."""

    settings: Mapping[str, Any] = {"person": "frame"}

    def prepare(self, shots: Sequence[Shot], /) -> None:
        return None

    def find(self, shots: Sequence[Shot], prepared: None, /) -> list[Found]:
        return [whole_frame(shot) for shot in shots]


class SkeletonBoxes:
    """The box around all joints of all of a clip's bodies, by where the skeleton cache has them in the picture.

    It has them as shares of the picture's width and height, so that videos of any size are fine. A frame takes the
    skeleton's frame of the same moment, or where that has no joint in the picture, the nearest one that has.
    ValueError where the cache does not know.
    """

    def __init__(self, skeletons: Skeletons) -> None:
        if skeletons.image_points is None:
            raise ValueError(f"{skeletons.dataset}: where its joints are in the picture is not known; give a detector")
        self._points: Ragged = skeletons.image_points
        self._bodies = skeletons.bodies
        self._row_of = {name: row for row, name in enumerate(skeletons.names)}
        self.settings: Mapping[str, Any] = {
            "person": "skeleton",
            "person_margin": MARGIN,
            "person_rule": RULE,
            "person_points": _digest(skeletons.names, skeletons.bodies, skeletons.image_points),
        }

    def prepare(self, shots: Sequence[Shot], /) -> list[Found]:
        return [self._find(shot) for shot in shots]

    def find(self, shots: Sequence[Shot], prepared: list[Found], /) -> list[Found]:
        return prepared

    def _find(self, shot: Shot) -> Found:
        row = self._row_of[shot.name]
        points = self._points[row]
        by_frame = points.reshape(self._bodies[row], -1, *points.shape[1:]).swapaxes(0, 1)
        boxes, there = _around(by_frame.reshape(len(by_frame), -1, 2), *shot.frames.shape[1:3])
        if not there.any():
            return whole_frame(shot)
        moments = np.minimum(shot.index * len(boxes) // shot.total, len(boxes) - 1)
        return Found(boxes[nearest(there, moments)], there[moments])


def whole_frame(shot: Shot) -> Found:
    """The frames' own outlines: nobody was found."""
    count, height, width = shot.frames.shape[:3]
    return Found(np.tile([0, 0, width, height], (count, 1)), np.zeros(count, bool))


def nearest(there: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """For each of `frames`, numbers [n], the nearest one that is in `there`, bool [T]; at least one is."""
    known = np.flatnonzero(there)
    return known[np.abs(known - frames[:, None]).argmin(axis=1)]


def within(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Boxes float [n, 4] in whole pixels, int [n, 4], inside the frame and at least one pixel wide and high."""
    low = np.clip(np.floor(boxes[:, :2]), 0, (width - 1, height - 1))
    high = np.clip(np.ceil(boxes[:, 2:]), low + 1, (width, height))
    return np.concatenate([low, high], axis=1).astype(int)


def _around(points: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes int [T, 4] in pixels, with their margin, around points [T, P, 2], shares of the frame.

    And bool [T]: whether any point is in the frame.
    """
    inside = np.all((points >= 0) & (points < 1), axis=2) & np.any(points != 0, axis=2)
    pixels = points.astype(float) * (width, height)
    low = np.where(inside[..., None], pixels, np.inf).min(axis=1)
    high = np.where(inside[..., None], pixels, -np.inf).max(axis=1)
    there = np.any(inside, axis=1)
    low[~there], high[~there] = 0, 0
    margin = MARGIN * (high - low).max(axis=1, keepdims=True)
    return within(np.concatenate([low - margin, high + margin], axis=1), height, width), there


def _digest(names: Sequence[str], bodies: np.ndarray, points: Ragged) -> str:
    """Twelve hex digits that change with any clip's points."""
    columns = {"name": np.array([name.encode() for name in names]), "bodies": bodies, "points": points}
    return hashlib.sha256(checksums(columns).tobytes()).hexdigest()[:12]
